"""The journal: two small files of fixed size in front of the database, one write and one sync for each turn.

Owns: `mail.journal` and `mail.journal.2`: their records, and where the next one goes.
Promises: what `append` was given is on disk when it returns. `replay` gives the records of an era and of the one
behind it in their order, and ends before the first that is not whole: a record that was being written when the power
went is there or not there, never half. Nothing of other eras is ever given.
Exposure: the data folder's owner.

    offset 0                                                                             capacity
    ├─ record 1 ─┼─ record 2 ─┼─ … ─┼─ record n ─┼─ what an earlier era left, or zeros ─┤
    ├─ link ─┼─ record 1 ─┼─ …

    record    era [16], number u32 (1, 2, 3 …), payload size u32, CRC-32 u32 of these and the payload; the payload
    link      a record with number 0; its payload is the era before, and how many records that has u32

An era begins when all that was in the journal is in the database: the database names the era (16 random bytes) in
the very transaction that took the rest in. So a record of an earlier era, or of another database's, is never mistaken
for one of ours. Where that transaction is surely on disk, writing begins at the start of the same file again. Where it
may still be lost with the power, the file is kept as it is, and the new era begins in the other one with a link: until
the transaction is on disk, the truth is the database before it, and both eras.

The files are written with zeros once, so that a later write changes no metadata of the file system: its sync costs
half of one that does.
"""

import errno
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple, Protocol

from common.errors import StoreFailed, StoreFull
from storage_worker.folder import sync_folder, unwritten

_HEADER: Final = Struct("<16sIII")
"""era, number, payload size, CRC-32"""
_CHECKED: Final = Struct("<16sII")
_LINK: Final = Struct("<16sI")
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
    """`mail.journal` on a real disk, made with `size` bytes where it is missing or shorter.

    Raises `StoreFailed`; a disk without room for it leaves it shorter, which `write` then makes up for, or not.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{path} can't be opened: {error.strerror}") from error
        try:
            self._fill(size)
            # Else the kernel keeps what was filled in pieces of a mebibyte, and counts a small write as a whole one.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except BaseException:
            self.close()
            raise

    def _fill(self, size: int) -> None:
        try:
            filled = os.fstat(self._descriptor).st_size
            if filled >= size:
                return
            while filled < size:
                filled += os.pwrite(self._descriptor, _ZEROS[: size - filled], filled)
            os.fsync(self._descriptor)
            sync_folder(self._path.parent)
        except OSError as error:
            failure = unwritten(error, self._path)
            if not isinstance(failure, StoreFull):
                raise failure from error

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
            raise unwritten(error, self._path) from error

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
            failure = unwritten(error, self._path)
            if not isinstance(failure, StoreFull) and error.errno != errno.EOPNOTSUPP:
                raise failure from error
            done = False
        if not done:
            self.write(offset, data)
            self.sync()

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class _Record(NamedTuple):
    """`end`: where the next one begins."""

    era: bytes
    number: int
    payload: bytes
    end: int


def _record(content: bytes, at: int) -> _Record | None:
    """The record at `at`; None where there is no whole one."""
    if len(content) - at < _HEADER.size:
        return None
    era, number, size, checksum = _HEADER.unpack_from(content, at)
    start = at + _HEADER.size
    payload = content[start : start + size]
    if len(payload) != size or checksum != zlib.crc32(payload, zlib.crc32(_CHECKED.pack(era, number, size))):
        return None
    return _Record(era, number, payload, start + size)


def _encoded(era: bytes, number: int, payload: bytes) -> bytes:
    checksum = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(era, number, len(payload))))
    return _HEADER.pack(era, number, len(payload), checksum) + payload


class Journal:
    """The records of the present era, `capacity` bytes of them. `begin` or `replay` names it before anything else.

    `files`: the two that take turns.
    """

    def __init__(self, files: Sequence[JournalFile], capacity: int, *, syncs: bool = True) -> None:
        self._files = files
        self._file = files[0]
        self._capacity = capacity
        self._syncs = syncs
        self._era = bytes(ERA_SIZE)
        self._number = 0
        self._at = 0
        self._all_synced = True
        self.linked = False
        """Whether `replay` found two eras."""

    @property
    def used(self) -> int:
        """Bytes that this era's records take."""
        return self._at

    @property
    def capacity(self) -> int:
        """Bytes that an era's records may take."""
        return self._capacity

    def _other(self) -> JournalFile:
        return self._files[1] if self._file is self._files[0] else self._files[0]

    def link(self, era: bytes) -> bool:
        """Prepare the other file for `era`, so that it can begin with the present one kept; whether there is room.

        What is in the other file must be needed no more. Raises `StoreFailed`.
        """
        if self._syncs and not self._all_synced:
            # The link counts only behind all before it.
            self._file.sync()
            self._all_synced = True
        try:
            self._other().write(0, self._link_to(era))
        except StoreFull:
            # A file that is shorter than it should be may not grow.
            return False
        return True

    def _link_to(self, era: bytes) -> bytes:
        return _encoded(era, 0, _LINK.pack(self._era, self._number))

    def begin(self, era: bytes, *, linked: bool = False) -> None:
        """A new era, which the database knows of. `linked`: the records of the last one may still be needed."""
        self._at = 0
        if linked:
            self._at = len(self._link_to(era))
            self._file = self._other()
        self._era = era
        self._number = 0
        self._all_synced = not linked

    def fits(self, payload: bytes) -> bool:
        """Whether there is room for a record."""
        return self._at + _HEADER.size + len(payload) <= self._capacity

    def append(self, payload: bytes, *, sync: bool) -> None:
        """One more record; on disk when this returns, where `sync` asks for it. It must fit.

        Raises `StoreFailed`, after which nothing is known, and `StoreFull`, after which there is no such record.
        """
        record = _encoded(self._era, self._number + 1, payload)
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
        self._number += 1
        self._at += len(record)

    def replay(self, era: bytes) -> list[bytes]:
        """The payloads of this era's records, then of those of the era that is linked to it.

        The next `append` goes behind the last one. Raises `StoreFailed`.
        """
        contents = [file.read() for file in self._files]
        firsts = [_record(content, 0) for content in contents]
        self.begin(era)
        self.linked = False
        payloads: list[bytes] = []
        for file, content, first in zip(self._files, contents, firsts, strict=True):
            if first is not None and first.era == era:
                payloads += self._take_up(file, content, era)
        # Behind anything but the whole of the era before it, it would be another store's.
        link = _LINK.pack(era, self._number)
        for file, content, first in zip(self._files, contents, firsts, strict=True):
            if first is not None and first.number == 0 and first.payload == link:
                self.linked = True
                payloads += self._take_up(file, content, first.era)
        return payloads

    def _take_up(self, file: JournalFile, content: bytes, era: bytes) -> list[bytes]:
        """The payloads of an era's records in a file; the next record goes behind them."""
        payloads: list[bytes] = []
        at = 0
        while True:
            record = _record(content, at)
            is_link = record is not None and at == 0 and record.number == 0
            if record is None or record.era != era or (not is_link and record.number != len(payloads) + 1):
                break
            if not is_link:
                payloads.append(record.payload)
            at = record.end
        self._file, self._era, self._number, self._at = file, era, len(payloads), at
        # Whether they are on disk or only to be read is not known.
        self._all_synced = False
        return payloads

    def sync_again(self) -> None:
        """Write what `replay` found once more and sync it: what was read may never have reached the disk.

        A sync that failed leaves bytes that can be read and are not on disk, and that no later sync writes.
        Raises `StoreFailed` and `StoreFull`.
        """
        if self._at:
            for file in self._files if self.linked else [self._file]:
                file.write(0, file.read())
                file.sync()
            self._all_synced = True

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()
