"""The journal: two small files of fixed size in front of the database, one write and one sync for
each turn.

Owns: `mail.journal` and `mail.journal.2`: their records, and where the next one goes.
Promises: what `append` was given is on disk when it returns. `replay` gives the records of a log
epoch and of the one behind it in their order, and ends before the first that is not whole: a record
that was being written when the power went is there or not there, never half. Nothing of other log
epochs is ever given. Where a record shows that more was on disk than is found whole, that is damage
and no power cut: `replay` raises `JournalDamaged`, and changes nothing. So is a record that is
whole but for its log epoch.
Exposure: the data folder's owner.

    offset 0                                                                             capacity
    ├─ record 1 ─┼─ record 2 ─┼─ … ─┼─ record n ─┼─ what an earlier log epoch left, or zeros ─┤
    ├─ link ─┼─ record 1 ─┼─ …

    record    log epoch [16], the one before where it is linked [16], number u32 (1, 2, 3 …), sure u32, payload size
              u32, CRC-32 u32 of these and the payload; the payload
    link      a record with number 0; its payload is the log epoch before, and how many records that has u32

`sure`: what precedes this offset of the file was on disk when the record was written. A power
cut leaves any of the records behind the last sync whole and any torn, also a whole one behind a
torn one: numbers of batches are not synced. But it takes nothing of what was sure. The end of the
last record that was synced is all that nothing vouches for.

A log epoch begins when all that was in the journal is in the database: the database names the log
epoch (16 random bytes) in the very transaction that took the rest in. So a record of an earlier log
epoch, or of another database's, is never mistaken for one of ours. Where that transaction is surely
on disk, writing begins at the start of the same file again. Where it may still be lost with the
power, the file is kept as it is, and the new log epoch begins in the other one with a link: until
the transaction is on disk, the truth is the database before it, and both log epochs.

The files are written with zeros once, so that a later write changes no metadata of the file system:
its sync costs half of one that does.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple, Protocol

from zlib_ng.zlib_ng import crc32

from storage_worker.engine.errors import JournalDamaged, StoreFailed, StoreFull
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES, sync_folder, unwritten
from storage_worker.engine.sqlite.log_epochs import LOG_EPOCH_SIZE, MARK_SIZE, SECTOR, mark

_HEADER: Final = Struct("<16s16sIIII")
"""log epoch, log epoch before, number, sure, payload size, CRC-32"""
_CHECKED: Final = Struct("<16s16sIII")
_OLD_HEADER: Final = Struct("<16sIII")
"""Of schema version 3: log epoch, number, payload size, CRC-32. Read, so that a store is
brought over; never written.
"""
_OLD_CHECKED: Final = Struct("<16sII")
_LINK: Final = Struct("<16sI")
_ZEROS: Final = bytes(1024 * 1024)
_ERASED_AT_ONCE: Final = 64 * 1024
_NEXT_STEP: Final = (
    "Nothing was changed. `scripts/admin recover-journal` recovers all intact records and keeps the files as they "
    "are; or put the whole data folder back from a backup"
)


class JournalFile(Protocol):
    """The interface to the file; tests replace it by a disk that loses, tears or fails writes.

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

    Raises `StoreFailed`; a disk without room for it leaves it shorter, which `write` then makes up
    for, or not.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{path} can't be opened: {error.strerror}") from error
        try:
            self._fill(size)
            # Else the kernel keeps what was filled in pieces of a mebibyte, and counts a small
            # write as a whole one.
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

    @property
    def size(self) -> int:
        """Its bytes. Raises `StoreFailed`."""
        try:
            return os.fstat(self._descriptor).st_size
        except OSError as error:
            raise StoreFailed(f"{self._path} can't be looked at: {error.strerror}") from error

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
        """`write` and its `sync` in one system call, which costs less than two."""
        try:
            done = os.pwritev(self._descriptor, [data], offset, os.RWF_DSYNC) == len(data)
        except OSError as error:
            # Which of both failed is not told, and no room means another thing in each; some file
            # systems can't.
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

    log_epoch: bytes
    before: bytes
    number: int
    sure: int
    payload: bytes
    end: int


_NO_LOG_EPOCH: Final = bytes(LOG_EPOCH_SIZE)


def _number(record: _Record) -> int:
    return record.number


def _record(content: bytes, at: int) -> _Record | None:
    """The record at `at`; None if there is no intact one."""
    if len(content) - at >= _HEADER.size:
        log_epoch, before, number, sure, size, checksum = _HEADER.unpack_from(content, at)
        start = at + _HEADER.size
        if size <= len(content) - start:
            payload = content[start : start + size]
            if checksum == crc32(payload, crc32(_CHECKED.pack(log_epoch, before, number, sure, size))):
                return _Record(log_epoch, before, number, sure, payload, start + size)
    if len(content) - at >= _OLD_HEADER.size:
        log_epoch, number, size, checksum = _OLD_HEADER.unpack_from(content, at)
        start = at + _OLD_HEADER.size
        if size <= len(content) - start:
            payload = content[start : start + size]
            if checksum == crc32(payload, crc32(_OLD_CHECKED.pack(log_epoch, number, size))):
                return _Record(log_epoch, _NO_LOG_EPOCH, number, 0, payload, start + size)
    return None


def _is_whole_but_for_its_log_epoch(content: bytes, at: int, log_epoch: bytes) -> bool:
    """Whether the record at `at` would be whole if it were one of `log_epoch`.

    No power cut leaves that, unless the difference is in another sector than the rest.
    """
    if len(content) - at < _HEADER.size:
        return False
    found, before, number, sure, size, checksum = _HEADER.unpack_from(content, at)
    start = at + _HEADER.size
    differing = [place for place in range(LOG_EPOCH_SIZE) if found[place] != log_epoch[place]]
    if not differing or size > len(content) - start:
        return False
    if (at + differing[-1]) // SECTOR != (at + LOG_EPOCH_SIZE) // SECTOR:
        return False
    header = _CHECKED.pack(log_epoch, before, number, sure, size)
    return bool(checksum == crc32(content[start : start + size], crc32(header)))


def _encoded(log_epoch: bytes, before: bytes, number: int, sure: int, payload: bytes) -> bytes:
    checksum = crc32(payload, crc32(_CHECKED.pack(log_epoch, before, number, sure, len(payload))))
    return _HEADER.pack(log_epoch, before, number, sure, len(payload), checksum) + payload


def _whole_behind(content: bytes, at: int, log_epoch: bytes) -> list[_Record]:
    """The whole records from `at` on that name a log epoch, as their own or as the one before."""
    found: list[_Record] = []
    end = at
    while (at := content.find(log_epoch, at)) >= 0:
        for start in (at, at - LOG_EPOCH_SIZE):
            record = _record(content, start) if start >= end else None
            if record is not None and log_epoch in record[:2]:
                found.append(record)
                at = end = record.end
                break
        else:
            at += 1
    return found


def _chain(content: bytes, log_epoch: bytes) -> tuple[int, int]:
    """How many records of a log epoch a file begins with, besides a link, and where they end."""
    at = found = 0
    while (record := _record(content, at)) is not None and record.log_epoch == log_epoch:
        is_link = not at and not record.number
        if not is_link and record.number != found + 1:
            break
        found, at = record.number, record.end
    return found, at


class Journal:
    """The records of the present log epoch, `capacity` bytes of them. `begin` or `replay` names it
    before anything else.

    `files`: the two that take turns. `marks_at`: where in each of them the mark is, behind all
    records; 0: nowhere.
    """

    def __init__(self, files: Sequence[JournalFile], capacity: int, *, syncs: bool = True, marks_at: int = 0) -> None:
        self._files = files
        self._file = files[0]
        self._capacity = min(capacity, marks_at or capacity)
        self._marks_at = marks_at
        self._syncs = syncs
        self._log_epoch = bytes(LOG_EPOCH_SIZE)
        self._number = 0
        self._at = 0
        self._all_synced = True
        self._before = _NO_LOG_EPOCH
        self._sure = 0
        self.torn_at: int | None = None
        """Where `replay` found something of the log epoch that is no whole record, and in which
        file.
        """
        self.torn_file = ""
        self.before_link = 0
        """How many of the payloads that `replay` or `salvage` gave last are of the log epoch that
        was asked for: the first ones.
        """
        self.linked = False
        """Whether `replay` found two log epochs."""

    @property
    def log_epoch(self) -> bytes:
        """The present log epoch."""
        return self._log_epoch

    @property
    def used(self) -> int:
        """Bytes that this log epoch's records take."""
        return self._at

    @property
    def capacity(self) -> int:
        """Bytes that a log epoch's records may take."""
        return self._capacity

    def _other(self) -> JournalFile:
        return self._files[1] if self._file is self._files[0] else self._files[0]

    def link(self, log_epoch: bytes) -> bool:
        """Prepare the other file for `log_epoch`, so that it can begin with the present one kept;
        whether there is room.

        What is in the other file must be needed no more. Raises `StoreFailed`.
        """
        if self._syncs and not self._all_synced:
            # The link counts only behind all before it.
            self._file.sync()
            self._all_synced = True
            self._sure = self._at
        try:
            self._other().write(0, self._link_to(log_epoch))
        except StoreFull:
            # A file that is shorter than it should be may not grow.
            return False
        return True

    def _link_to(self, log_epoch: bytes) -> bytes:
        return _encoded(log_epoch, self._log_epoch, 0, 0, _LINK.pack(self._log_epoch, self._number))

    def begin(self, log_epoch: bytes, *, linked: bool = False) -> None:
        """A new log epoch, which the database knows of. `linked`: the records of the last one may
        still be needed.

        Raises `StoreFailed`.
        """
        self._start(log_epoch, linked=linked)
        if self._marks_at and not linked:
            # Of a linked one the link tells. A mark that stays as it was only tells less.
            with contextlib.suppress(StoreFull):
                self._file.write(self._marks_at, mark(log_epoch))

    def mark_all(self) -> bool:
        """Outside of turns, with nothing in the journal that the database lacks: mark both files,
        on disk.

        Whether there was room. Raises `StoreFailed`.
        """
        try:
            for file in self._files:
                file.write(self._marks_at, mark(self._log_epoch))
                file.sync()
        except StoreFull:
            return False
        return True

    def erase(self) -> None:
        """Outside of turns, with nothing in the journal that the database lacks: overwrite what its
        records left in both files, on disk. Their marks stay. Raises `StoreFailed`, `StoreFull`.
        """
        for file in self._files:
            content = file.read()
            for at in range(0, len(content), _ERASED_AT_ONCE):
                end = min(at + _ERASED_AT_ONCE, len(content))
                if self._marks_at and at <= self._marks_at < end:
                    end_of_mark = self._marks_at + MARK_SIZE
                    parts = [(at, self._marks_at), (end_of_mark, max(end, end_of_mark))]
                else:
                    parts = [(at, end)]
                for start, stop in parts:
                    if any(content[start:stop]):
                        file.write(start, bytes(stop - start))
            file.sync()

    def _start(self, log_epoch: bytes, *, linked: bool = False) -> None:
        self._at = 0
        self._sure = 0
        self._before = _NO_LOG_EPOCH
        if linked:
            self._at = len(self._link_to(log_epoch))
            self._file = self._other()
            self._before = self._log_epoch
        self._log_epoch = log_epoch
        self._number = 0
        self._all_synced = not linked

    def fits(self, payload: bytes) -> bool:
        """Whether there is room for a record."""
        return self._at + _HEADER.size + len(payload) <= self._capacity

    def append(self, payload: bytes, *, sync: bool) -> None:
        """One more record; on disk when this returns, where `sync` asks for it. It must fit.

        Raises `StoreFailed`, after which nothing is known, and `StoreFull`, after which there is no
        such record.
        """
        record = _encoded(self._log_epoch, self._before, self._number + 1, self._sure, payload)
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
        if self._syncs and self._all_synced:
            self._sure = self._at

    def replay(self, log_epoch: bytes) -> list[bytes]:
        """The payloads of this log epoch's records, then of those of the log epoch that is linked
        to it.

        The next `append` goes behind the last one. Raises `StoreFailed`, and `JournalDamaged`.
        """
        contents = [file.read() for file in self._files]
        payloads = self._take_up_all(contents, log_epoch)
        problem = self._damage(contents, log_epoch)
        if problem is not None:
            raise JournalDamaged(f"{problem}. {_NEXT_STEP}")
        return payloads

    def salvage(self, log_epoch: bytes) -> list[list[bytes]]:
        """The payloads of all records that are whole, in their order: behind each gap another list
        begins.

        The first is what no gap is before, and may be empty.

        Raises `StoreFailed`.
        """
        contents = [file.read() for file in self._files]
        named = [record for content in contents for record in _whole_behind(content, 0, log_epoch)]
        linked = sorted(
            {record.log_epoch for record in named if record.log_epoch != log_epoch and record.before == log_epoch}
        )
        runs: list[list[bytes]] = [[]]
        last = 0
        self.before_link = sum(bool(record.number) for record in named if record.log_epoch == log_epoch)
        for one in [log_epoch, *linked]:
            found = named if one == log_epoch else [r for content in contents for r in _whole_behind(content, 0, one)]
            records = sorted([record for record in found if record.log_epoch == one], key=_number)
            if one != log_epoch and not (records[0].number == 0 and records[0].payload == _LINK.pack(log_epoch, last)):
                # How much is missing before it nobody knows.
                runs.append([])
            last = 0
            for record in records:
                if record.number:
                    if record.number != last + 1:
                        runs.append([])
                    runs[-1].append(record.payload)
                    last = record.number
        return runs

    def go_on_from(self, log_epoch: bytes) -> None:
        """After `salvage`: the log epoch that the next one follows. Nothing is appended before that
        begins.
        """
        self._start(log_epoch)

    def _take_up_all(self, contents: Sequence[bytes], log_epoch: bytes) -> list[bytes]:
        firsts = [_record(content, 0) for content in contents]
        self._start(log_epoch)
        self.linked = False
        payloads: list[bytes] = []
        for file, content, first in zip(self._files, contents, firsts, strict=True):
            if first is not None and first.log_epoch == log_epoch:
                payloads += self._take_up(file, content, log_epoch)
        self.before_link = len(payloads)
        # Behind anything but the whole of the log epoch before it, it would be another store's.
        link = _LINK.pack(log_epoch, self._number)
        for file, content, first in zip(self._files, contents, firsts, strict=True):
            if first is not None and first.number == 0 and first.payload == link:
                self.linked = True
                payloads += self._take_up(file, content, first.log_epoch)
        return payloads

    def _damage(self, contents: Sequence[bytes], log_epoch: bytes) -> str | None:
        """Why something that was on disk must be missing; None if nothing is."""
        self.torn_at = None
        firsts = [_record(content, 0) for content in contents]
        for number, (content, first) in enumerate(zip(contents, firsts, strict=True)):
            for one in {log_epoch, self._log_epoch}:
                if first is not None and first.log_epoch != one:
                    # Written over by a later log epoch: the database is older than the journal,
                    # somebody put it back.
                    continue
                _, end = _chain(content, one)
                name = JOURNAL_NAMES[number]
                behind = _whole_behind(content, end, one)
                if any(record.sure > end for record in behind):
                    return f"{name} is damaged at byte {end}: intact records after it show that this was on disk"
                if _is_whole_but_for_its_log_epoch(content, end, one):
                    return f"{name} is damaged at byte {end}: a record is whole but for its first bytes"
                if behind or content[end : end + LOG_EPOCH_SIZE] == one:
                    self.torn_at, self.torn_file = end, name
            other, other_first = contents[1 - number], firsts[1 - number]
            if first is not None and first.number == 0 and first.payload[:LOG_EPOCH_SIZE] == log_epoch:
                written_over = other_first is not None and other_first.log_epoch != log_epoch
                if not written_over and _LINK.unpack(first.payload)[1] > _chain(other, log_epoch)[0]:
                    return (
                        f"{JOURNAL_NAMES[1 - number]} is damaged: {JOURNAL_NAMES[number]} shows that more was on disk"
                    )
        return None

    def _take_up(self, file: JournalFile, content: bytes, log_epoch: bytes) -> list[bytes]:
        """The payloads of a log epoch's records in a file; the next record goes behind them."""
        payloads: list[bytes] = []
        at = 0
        before = _NO_LOG_EPOCH
        while True:
            record = _record(content, at)
            is_link = record is not None and at == 0 and record.number == 0
            if record is None or record.log_epoch != log_epoch or (not is_link and record.number != len(payloads) + 1):
                break
            if not is_link:
                payloads.append(record.payload)
            before = record.before
            at = record.end
        self._file, self._log_epoch, self._number, self._at = file, log_epoch, len(payloads), at
        self._before = before
        # Whether they are on disk or only to be read is not known.
        self._all_synced = False
        self._sure = 0
        return payloads

    def sync_again(self) -> None:
        """Write what `replay` found once more and sync it: what was read may never have reached the
        disk.

        A sync that failed leaves bytes that can be read and are not on disk, and that no later sync
        writes. Raises `StoreFailed` and `StoreFull`.
        """
        if self._at:
            for file in self._files if self.linked else [self._file]:
                file.write(0, file.read())
                file.sync()
            self._all_synced = True
            self._sure = self._at

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()
