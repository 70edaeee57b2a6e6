"""The journal: a small file of fixed size in front of the database, one write and one sync for each turn.

Owns: `mail.journal`: its records, and where the next one goes.
Promises: what `append` was given is on disk when it returns. `replay` gives the records of an era in their order and
ends before the first that is not whole: a record that was being written when the power went is there or not there,
never half. Nothing of another era is ever given.
Exposure: the data folder's owner.

    offset 0                                                                    capacity
    ├─ record 1 ─┼─ record 2 ─┼─ … ─┼─ record n ─┼─ what an earlier era left, or zeros ─┤

    record    era [16], number u32 (1, 2, 3 …), payload size u32, CRC-32 u32 of these and the payload; the payload

An era begins when all that was in the journal is in the database: the database names the era (16 random bytes) in
the very transaction that took the rest in, and writing begins at offset 0 again. So a record of an earlier era, or of
another database's, is never mistaken for one of ours.

The file is written with zeros once, so that a later write changes no metadata of the file system: its sync costs
half of one that does.
"""

import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final, Protocol

from common.errors import StoreFailed, StoreFull
from storage_worker.folder import sync_folder

_HEADER: Final = Struct("<16sIII")
"""era, number, payload size, CRC-32"""
_CHECKED: Final = Struct("<16sII")
ERA_SIZE: Final = 16
_ZEROS: Final = bytes(1024 * 1024)


class JournalFile(Protocol):
    """The door to the file; tests put a disk behind it that forgets, tears or fails.

    All methods raise `StoreFailed`, and those that write `StoreFull` where there is no room.
    """

    def read(self) -> bytes:
        """All of it; empty where there is none."""

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`, all of it."""

    def sync(self) -> None:
        """What was written is on disk when this returns."""

    def write_synced(self, offset: int, data: bytes) -> None:
        """`write`, and `data` is on disk when this returns; other writes need not be."""

    def close(self) -> None:
        """Let go of it."""


class DiskJournal:
    """`mail.journal` on a real disk, made with `capacity` bytes where it is missing or shorter.

    Raises `StoreFailed`; a disk without room for it leaves it shorter, which `write` then makes up for, or not.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{path} can't be opened: {error.strerror}") from error
        try:
            self._fill(capacity)
            # Else the kernel keeps what was filled in pieces of a mebibyte, and counts a small write as a whole one.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except BaseException:
            self.close()
            raise

    def _fill(self, capacity: int) -> None:
        try:
            size = os.fstat(self._descriptor).st_size
            if size >= capacity:
                return
            while size < capacity:
                size += os.pwrite(self._descriptor, _ZEROS[: capacity - size], size)
            os.fsync(self._descriptor)
            sync_folder(self._path.parent)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise StoreFailed(f"{self._path} can't be made: {error.strerror}") from error

    def read(self) -> bytes:
        """All of it."""
        try:
            size = os.fstat(self._descriptor).st_size
            parts: list[bytes] = []
            at = 0
            while at < size:
                part = os.pread(self._descriptor, size - at, at)
                if not part:
                    break
                parts.append(part)
                at += len(part)
        except OSError as error:
            raise StoreFailed(f"{self._path} can't be read: {error.strerror}") from error
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`, all of it."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view = view[written:]
                offset += written
        except OSError as error:
            failure = StoreFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else StoreFailed
            raise failure(f"{self._path} can't be written: {error.strerror}") from error

    def sync(self) -> None:
        """What was written is on disk when this returns."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise StoreFailed(f"{self._path} can't be synced: {error.strerror}") from error

    def write_synced(self, offset: int, data: bytes) -> None:
        """`write` and its `sync` in one call of the system, which costs less than two."""
        try:
            done = os.pwritev(self._descriptor, [data], offset, os.RWF_DSYNC) == len(data)
        except OSError as error:
            # Which of both failed is not told, and no room means another thing in each; some file systems can't.
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP}:
                raise StoreFailed(f"{self._path} can't be written: {error.strerror}") from error
            done = False
        if not done:
            self.write(offset, data)
            self.sync()

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class Journal:
    """The records of the present era. `begin` names it before anything else."""

    def __init__(self, file: JournalFile, capacity: int, *, syncs: bool = True) -> None:
        self._file = file
        self._capacity = capacity
        self._syncs = syncs
        self._era = bytes(ERA_SIZE)
        self._number = 0
        self._at = 0
        self._all_synced = True

    @property
    def used(self) -> int:
        """Bytes that this era's records take."""
        return self._at

    @property
    def capacity(self) -> int:
        """Bytes that an era's records may take."""
        return self._capacity

    def begin(self, era: bytes) -> None:
        """A new era, which the database knows of: write from the start again."""
        self._era = era
        self._number = 0
        self._at = 0
        self._all_synced = True

    def fits(self, payload: bytes) -> bool:
        """Whether there is room for a record."""
        return self._at + _HEADER.size + len(payload) <= self._capacity

    def append(self, payload: bytes, *, sync: bool) -> None:
        """One more record; on disk when this returns, where `sync` asks for it. It must fit.

        Raises `StoreFailed`, after which nothing is known, and `StoreFull`, after which there is no such record.
        """
        number = self._number + 1
        checksum = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(self._era, number, len(payload))))
        record = _HEADER.pack(self._era, number, len(payload), checksum) + payload
        if not sync or not self._syncs:
            self._file.write(self._at, record)
            self._all_synced = False
        elif self._all_synced:
            self._file.write_synced(self._at, record)
        else:
            # A record counts only behind all before it.
            self._file.write(self._at, record)
            self._file.sync()
            self._all_synced = True
        self._number = number
        self._at += _HEADER.size + len(payload)

    def replay(self, era: bytes) -> Iterator[bytes]:
        """The payloads that this era's records have; the next `append` goes behind the last one."""
        self.begin(era)
        data = self._file.read()
        while len(data) - self._at >= _HEADER.size:
            found, number, size, checksum = _HEADER.unpack_from(data, self._at)
            start = self._at + _HEADER.size
            payload = data[start : start + size]
            if found != era or number != self._number + 1 or len(payload) != size:
                return
            if checksum != zlib.crc32(payload, zlib.crc32(_CHECKED.pack(era, number, size))):
                return
            self._number = number
            self._at = start + size
            # Whether it is on disk or only to be read is not known.
            self._all_synced = False
            yield payload

    def sync_again(self) -> None:
        """Write this era's records once more and sync them: what was read may never have reached the disk.

        A sync that failed leaves bytes that can be read and are not on disk, and that no later sync writes.
        """
        if self._at:
            self._file.write(0, self._file.read()[: self._at])
            self._file.sync()
            self._all_synced = True

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
