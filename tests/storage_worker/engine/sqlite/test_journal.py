"""The journal: what was appended is found again, up to the first record that is not
whole, and nothing else.
"""

import errno
import os
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from common.filesystem import NO_ROOM
from storage_worker.engine.errors import JournalDamaged, StoreFailed, StoreFull
from storage_worker.engine.sqlite.journal import DiskJournal, Journal
from storage_worker.engine.sqlite.log_epochs import MARK_SIZE, mark, mark_at

LOG_EPOCH = b"e" * 16
OTHER = b"o" * 16
CAPACITY = 4096


def opened(path: Path) -> Journal:
    return Journal([DiskJournal(path, CAPACITY), DiskJournal(path.with_name("mail.journal.2"), CAPACITY)], CAPACITY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.journal"


def written(path: Path, *payloads: bytes, log_epoch: bytes = LOG_EPOCH) -> int:
    """Append to a new log epoch and close; the bytes that its records take."""
    journal = opened(path)
    journal.begin(log_epoch)
    for payload in payloads:
        journal.append(payload, sync=True)
    journal.close()
    return journal.used


def found(path: Path, log_epoch: bytes = LOG_EPOCH) -> list[bytes]:
    journal = opened(path)
    try:
        return list(journal.replay(log_epoch))
    finally:
        journal.close()


def test_the_file_has_its_size_from_the_start_and_is_the_owners_alone(path: Path) -> None:
    opened(path).close()
    assert path.read_bytes() == bytes(CAPACITY)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_appended_is_found_and_the_next_goes_behind_it(path: Path) -> None:
    written(path, b"one", b"", b"three" * 100)
    journal = opened(path)
    assert list(journal.replay(LOG_EPOCH)) == [b"one", b"", b"three" * 100]
    journal.append(b"four", sync=False)
    journal.close()
    assert found(path) == [b"one", b"", b"three" * 100, b"four"]


def test_a_new_log_epoch_hides_what_the_one_before_left(path: Path) -> None:
    written(path, b"a" * 100, b"b" * 100, b"c" * 100)
    written(path, b"A" * 100, log_epoch=OTHER)
    assert found(path, OTHER) == [b"A" * 100]
    assert found(path, LOG_EPOCH) == []


def test_every_torn_end_is_the_end_before_it(path: Path) -> None:
    first = written(path, b"first")
    size = written(path, b"first", b"second")
    content = path.read_bytes()
    for cut in range(first, size):
        # What comes behind the cut was not written: the file is as it was.
        path.write_bytes(content[:cut] + bytes(CAPACITY - cut))
        assert found(path) in ([b"first"], [b"first", b"second"]) if cut == size else found(path) == [b"first"]
    for place in range(first, size):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        if place < first + len(LOG_EPOCH):
            # All else of the record is there, in the same sector: no power cut does that.
            with pytest.raises(JournalDamaged, match=f"mail.journal is damaged at byte {first}: a record is whole but"):
                found(path)
        else:
            assert found(path) == [b"first"]


def test_a_log_epoch_that_a_power_cut_tore_at_the_end_of_a_sector_is_no_damage(path: Path) -> None:
    payload = bytes(504 - written(path, b""))
    first = written(path, payload)
    assert first == 504
    written(path, payload, b"second")
    content = bytearray(path.read_bytes())
    content[first : first + 8] = bytes(8)
    path.write_bytes(content)
    assert found(path) == [payload]
    content[first + 8 : first + 9] = b"x"
    path.write_bytes(content)
    with pytest.raises(JournalDamaged):
        found(path)


def test_a_record_that_repeats_a_number_ends_the_replay(path: Path) -> None:
    size = written(path, b"one", b"two")
    content = bytearray(path.read_bytes())
    half = size // 2
    content[half : 2 * half] = content[:half]
    path.write_bytes(content)
    assert found(path) == [b"one"]


def test_capacity(path: Path) -> None:
    journal = opened(path)
    journal.begin(LOG_EPOCH)
    overhead = written(path.with_name("other"), b"")
    assert journal.fits(bytes(CAPACITY - overhead))
    assert not journal.fits(bytes(CAPACITY - overhead + 1))
    journal.append(bytes(CAPACITY - overhead), sync=True)
    assert journal.used == journal.capacity == CAPACITY
    assert not journal.fits(b"")
    journal.close()


def test_a_shorter_file_grows_and_keeps_what_it_has(path: Path) -> None:
    written(path, b"one")
    content = path.read_bytes()
    path.write_bytes(content[:200])
    assert found(path) == [b"one"]
    assert path.stat().st_size == CAPACITY


def test_sync_again_writes_the_same(path: Path) -> None:
    written(path, b"one", b"two")
    before = path.read_bytes()
    journal = opened(path)
    list(journal.replay(LOG_EPOCH))
    journal.sync_again()
    journal.close()
    assert path.read_bytes() == before


def test_doors_tell_what_went_wrong(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StoreFailed, match="can't be opened"):
        DiskJournal(tmp_path / "missing" / "mail.journal", CAPACITY)
    file = DiskJournal(path, CAPACITY)
    file.close()
    for action in (file.read, file.sync, lambda: file.write(0, b"x"), lambda: file.write_synced(0, b"x")):
        with pytest.raises(StoreFailed, match=r"mail\.journal can't be"):
            action()


def test_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DiskJournal(path, CAPACITY)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "pwritev", full)
    for write in (file.write, file.write_synced):
        with pytest.raises(StoreFull, match=r"no room to write .*mail\.journal \(No space left"):
            write(0, b"x")
    monkeypatch.undo()
    file.close()


def test_a_disk_without_room_for_all_of_it_leaves_it_shorter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def nearly_full(descriptor: int, data: bytes, offset: int) -> int:
        if offset + len(data) > 1000:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    def nearly_full_too(descriptor: int, parts: list[bytes], offset: int, _flags: int) -> int:
        return nearly_full(descriptor, parts[0], offset)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    monkeypatch.setattr(os, "pwritev", nearly_full_too)
    file = DiskJournal(path, CAPACITY)
    journal = Journal([file, DiskJournal(path.with_name("other"), CAPACITY)], CAPACITY)
    journal.begin(LOG_EPOCH)
    journal.append(b"fits", sync=True)
    with pytest.raises(StoreFull):
        journal.append(bytes(2000), sync=True)
    journal.append(b"fits too", sync=True)
    journal.close()
    monkeypatch.undo()
    assert found(path) == [b"fits", b"fits too"]


class RecordingFile:
    """A journal's file in memory that records what is called."""

    def __init__(self) -> None:
        self.content = bytearray(CAPACITY)
        self.calls: list[str] = []

    def read(self) -> bytes:
        return bytes(self.content)

    def write(self, offset: int, data: bytes) -> None:
        self.calls.append("write")
        self.content[offset : offset + len(data)] = data

    def sync(self) -> None:
        self.calls.append("sync")

    def write_synced(self, offset: int, data: bytes) -> None:
        self.content[offset : offset + len(data)] = data
        self.calls.append("write_synced")

    def close(self) -> None:
        pass


def test_a_record_is_synced_alone_only_where_all_before_it_are() -> None:
    file = RecordingFile()
    journal = Journal([file, RecordingFile()], CAPACITY)
    journal.begin(LOG_EPOCH)
    for sync in (True, False, True, True):
        journal.append(b"record", sync=sync)
    assert file.calls == ["write_synced", "write", "write", "sync", "write_synced"]
    file.calls.clear()
    # What another process wrote may be read without being on disk.
    again = Journal([file, RecordingFile()], CAPACITY)
    assert len(list(again.replay(LOG_EPOCH))) == 4
    again.append(b"record", sync=True)
    again.append(b"record", sync=True)
    assert file.calls == ["write", "sync", "write_synced"]
    file.calls.clear()
    third = Journal([file, RecordingFile()], CAPACITY)
    assert len(list(third.replay(LOG_EPOCH))) == 6
    third.sync_again()
    third.append(b"record", sync=True)
    assert file.calls == ["write", "sync", "write_synced"]


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, *NO_ROOM, 0])
def test_where_one_call_does_not_do_it_two_are_made(path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def half(descriptor: int, parts: list[bytes], offset: int, _flags: int) -> int:
        if error:
            raise OSError(error, os.strerror(error))
        return os.pwrite(descriptor, parts[0][: len(parts[0]) // 2], offset)

    monkeypatch.setattr(os, "pwritev", half)
    synced: list[int] = []
    real = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    written(path, b"one", b"two")
    assert len(synced) == 2
    monkeypatch.undo()
    assert found(path) == [b"one", b"two"]


def test_a_write_and_sync_that_fails_is_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    file = DiskJournal(path, CAPACITY)
    monkeypatch.setattr(os, "pwritev", broken)
    with pytest.raises(StoreFailed, match=r"can't be written \(Input/output error\)"):
        file.write_synced(0, b"x")
    monkeypatch.undo()
    file.close()


def linked(path: Path) -> None:
    """Two log epochs: "one" and "two" in the first, "three" in the one that is linked to it."""
    journal = opened(path)
    journal.begin(LOG_EPOCH)
    for payload in (b"one", b"two"):
        journal.append(payload, sync=True)
    assert journal.link(OTHER)
    journal.begin(OTHER, linked=True)
    journal.append(b"three", sync=True)
    journal.close()


def test_a_log_epoch_that_is_linked_is_found_behind_the_one_before_and_alone(path: Path) -> None:
    linked(path)
    journal = opened(path)
    assert journal.replay(LOG_EPOCH) == [b"one", b"two", b"three"]
    assert journal.linked
    journal.append(b"four", sync=True)
    journal.close()
    journal = opened(path)
    assert journal.replay(OTHER) == [b"three", b"four"]
    assert not journal.linked
    journal.close()
    assert found(path) == [b"one", b"two", b"three", b"four"]


def test_a_link_from_a_log_epoch_without_records(path: Path) -> None:
    journal = opened(path)
    journal.begin(LOG_EPOCH)
    assert journal.link(OTHER)
    journal.begin(OTHER, linked=True)
    journal.append(b"one", sync=True)
    journal.close()
    assert found(path) == [b"one"]


def test_the_files_take_turns(path: Path) -> None:
    log_epochs = [bytes([number]) * 16 for number in range(5)]
    journal = opened(path)
    journal.begin(log_epochs[0])
    for before, log_epoch in pairwise(log_epochs):
        journal.append(before, sync=True)
        assert journal.link(log_epoch)
        journal.begin(log_epoch, linked=True)
    journal.append(log_epochs[4], sync=True)
    journal.close()
    assert found(path, log_epochs[3]) == log_epochs[3:]
    assert found(path, log_epochs[4]) == log_epochs[4:]
    # Of what is older nothing is whole any more, so nothing of it counts.
    for log_epoch in log_epochs[:3]:
        assert found(path, log_epoch) == []


@pytest.mark.parametrize("left", [0, 1])
def test_a_link_behind_less_than_it_says_is_damage(path: Path, left: int) -> None:
    linked(path)
    content = bytearray(path.read_bytes())
    size = len(content.rstrip(b"\0")) // 2 if left else 0
    content[size:] = bytes(len(content) - size)
    path.write_bytes(content)
    with pytest.raises(JournalDamaged, match=r"mail\.journal is damaged: mail\.journal\.2 shows"):
        found(path)
    assert found(path, OTHER) == [b"three"]


def test_every_altered_bit_before_the_last_record_is_told_as_damage(path: Path) -> None:
    two = written(path, b"one", b"two")
    written(path, b"one", b"two", b"three")
    content = path.read_bytes()
    for place in range(two):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(JournalDamaged, match="recover-journal"):
                found(path)
            assert path.read_bytes() == bytes(damaged), "it is kept as it is"


def test_every_altered_bit_of_a_linked_pair_is_told_or_is_in_the_last_record(path: Path) -> None:
    linked(path)
    journal = opened(path)
    journal.replay(LOG_EPOCH)
    journal.append(b"four", sync=True)
    last = journal.used
    journal.append(b"five", sync=True)
    journal.close()
    for name in (path, path.with_name("mail.journal.2")):
        content = name.read_bytes()
        used = len(content.rstrip(b"\0")) if name == path else last
        for place in range(used):
            damaged = bytearray(content)
            damaged[place] ^= 1
            name.write_bytes(damaged)
            with pytest.raises(JournalDamaged):
                found(path)
        name.write_bytes(content)


@pytest.mark.parametrize("broken", range(3))
def test_a_whole_record_behind_a_torn_one_that_was_not_synced_is_no_damage(path: Path, broken: int) -> None:
    journal = opened(path)
    journal.begin(LOG_EPOCH)
    journal.append(b"sure", sync=True)
    ends = [journal.used]
    for payload in (b"unsynced", b"unsynced too", b"synced, and the power went meanwhile"):
        journal.append(payload, sync=payload.startswith(b"synced"))
        ends.append(journal.used)
    journal.close()
    content = bytearray(path.read_bytes())
    content[ends[broken] + 53] ^= 0xFF
    path.write_bytes(content)
    assert found(path) == [b"sure", b"unsynced", b"unsynced too"][: broken + 1]


def test_the_last_record_altered_is_told(path: Path) -> None:
    one = written(path, b"one")
    written(path, b"one", b"two")
    content = bytearray(path.read_bytes())
    content[one + 60] ^= 1
    content[one + 50] ^= 1
    path.write_bytes(content)
    journal = opened(path)
    assert journal.replay(LOG_EPOCH) == [b"one"]
    assert journal.torn_at == one
    journal.close()


def test_a_database_that_was_put_back_finds_no_damage(path: Path) -> None:
    """Its log epoch was written over by a later one, which is shorter: whole records of it are
    left behind that one.
    """
    written(path, b"a" * 100, b"b" * 100, b"c" * 100)
    written(path, b"A" * 30, log_epoch=OTHER)
    assert found(path, LOG_EPOCH) == []


def test_records_of_schema_3_are_read(path: Path) -> None:
    records = b""
    for number, payload in enumerate((b"one", b"two"), 1):
        fields = struct.pack("<16sII", LOG_EPOCH, number, len(payload))
        records += fields + struct.pack("<I", zlib.crc32(fields + payload)) + payload
    path.write_bytes(records + bytes(CAPACITY - len(records)))
    journal = opened(path)
    assert journal.replay(LOG_EPOCH) == [b"one", b"two"]
    journal.append(b"three", sync=True)
    journal.close()
    assert found(path) == [b"one", b"two", b"three"]


def test_salvage_gives_what_is_whole_and_where_the_gaps_are(path: Path) -> None:
    linked(path)
    journal = opened(path)
    journal.replay(LOG_EPOCH)
    journal.append(b"four", sync=True)
    assert journal.salvage(LOG_EPOCH) == [[b"one", b"two", b"three", b"four"]]
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    assert journal.salvage(LOG_EPOCH) == [[], [b"two", b"three", b"four"]]
    journal.close()


def test_a_link_that_came_to_nothing_is_none(path: Path) -> None:
    journal = opened(path)
    journal.begin(LOG_EPOCH)
    journal.append(b"one", sync=True)
    assert journal.link(OTHER)
    journal.append(b"two", sync=True)
    journal.close()
    assert found(path) == [b"one", b"two"]


def test_a_link_waits_until_all_before_it_is_synced() -> None:
    first, second = RecordingFile(), RecordingFile()
    journal = Journal([first, second], CAPACITY)
    journal.begin(LOG_EPOCH)
    journal.append(b"record", sync=True)
    journal.append(b"record", sync=False)
    journal.link(OTHER)
    assert first.calls == ["write_synced", "write", "sync"]
    journal.begin(OTHER, linked=True)
    journal.append(b"record", sync=True)
    journal.append(b"record", sync=True)
    # The first record takes the link along.
    assert second.calls == ["write", "write", "sync", "write_synced"]


def test_without_room_there_is_no_link(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(path)
    journal.begin(LOG_EPOCH)
    journal.append(b"one", sync=True)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert not journal.link(OTHER)
    monkeypatch.undo()
    journal.append(b"two", sync=True)
    journal.close()
    assert found(path) == [b"one", b"two"]


def test_sync_again_writes_both_log_epochs(path: Path) -> None:
    linked(path)
    files = [RecordingFile(), RecordingFile()]
    for file, name in zip(files, (path, path.with_name("mail.journal.2")), strict=True):
        file.content[:] = name.read_bytes()
    journal = Journal(files, CAPACITY)
    journal.replay(LOG_EPOCH)
    journal.sync_again()
    assert [file.calls for file in files] == [["write", "sync"], ["write", "sync"]]
    journal = Journal(files, CAPACITY)
    assert journal.replay(LOG_EPOCH) == [b"one", b"two", b"three"]


def test_what_was_erased_is_zeros_but_for_the_marks(path: Path) -> None:
    files = [DiskJournal(path.with_name(name), 200_000) for name in ("mail.journal", "mail.journal.2")]
    at = mark_at(200_000)
    journal = Journal(files, 200_000, marks_at=at)
    journal.begin(LOG_EPOCH)
    journal.append(b"a secret" * 10_000, sync=True)
    assert journal.link(OTHER)
    journal.begin(OTHER, linked=True)
    journal.append(b"a secret" * 20_000, sync=True)
    journal.begin(LOG_EPOCH)
    journal.mark_all()
    # What a journal of another size left behind the mark.
    files[0].write(at + MARK_SIZE, b"a secret")
    journal.erase()
    for file in files:
        assert file.read() == bytes(at) + mark(LOG_EPOCH) + bytes(200_000 - at - MARK_SIZE)
    journal.append(b"next", sync=True)
    journal.close()
    reopened = Journal([DiskJournal(path.with_name(f.name), 0) for f in sorted(path.parent.glob("mail*"))], 200_000)
    assert list(reopened.replay(LOG_EPOCH)) == [b"next"]
    reopened.close()
