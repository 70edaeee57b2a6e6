"""Large contents as files: written in order, synced by a thread, gone when nobody needs them."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_worker.engine.errors import StoreDamaged, StoreFailed, StoreFull
from storage_worker.engine.sqlite import blobs as bodies_module
from storage_worker.engine.sqlite.blob_checksums import PIECE_BYTES, table_bytes
from storage_worker.engine.sqlite.blobs import Blobs, DiskBlobs, SyncThread
from tests.storage_worker.worker_under_test import SyncAtOnce
from torture.patience import HANG_SECONDS


@pytest.fixture
def folder(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "bodies")


def test_a_file_comes_back_as_it_was_written(tmp_path: Path, folder: DiskBlobs) -> None:
    blobs = Blobs(folder, SyncAtOnce(folder))
    blobs.append(7, b"abc")
    blobs.append(7, b"defg")
    assert blobs.unsynced(7) == 7
    assert blobs.finish(7) == 0
    assert blobs.unsynced(7) == 0
    assert blobs.read(7, 2, 3, 7) == b"cde"
    assert (tmp_path / "bodies" / "7").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "bodies").stat().st_mode & 0o777 == 0o700
    with pytest.raises(StoreDamaged, match="shorter than it was"):
        blobs.read(7, 5, 3, 100)
    blobs.remove(7)
    blobs.remove(7)
    assert folder.sizes() == {}
    with pytest.raises(StoreDamaged, match="can't be read"):
        blobs.read(7, 0, 1, 7)


def test_an_altered_piece_is_never_handed_out_and_the_others_are(tmp_path: Path, folder: DiskBlobs) -> None:
    content = bytes(range(251)) * 800
    size = len(content)
    writer = Blobs(folder, SyncAtOnce(folder))
    for at in range(0, size, 70_001):
        writer.append(7, content[at : at + 70_001])
    assert writer.finish(7) == 0
    path = tmp_path / "bodies" / "7"
    whole = path.read_bytes()
    assert whole[:size] == content
    for place in [*range(0, len(whole), 9973), size - 1, size, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        blobs = Blobs(folder, SyncAtOnce(folder))
        assert list(blobs.altered({7: size})) == [7]
        for at in range(0, size, 50_000):
            length = min(50_000, size - at)
            piece = range(at // PIECE_BYTES, (at + length - 1) // PIECE_BYTES + 1)
            if place >= size or place // PIECE_BYTES in piece:
                with pytest.raises(StoreDamaged, match=r"bodies/7 is altered"):
                    blobs.read(7, at, length, size)
            else:
                assert blobs.read(7, at, length, size) == content[at : at + length]
    for cut in (0, 1, size + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreDamaged):
            Blobs(folder, SyncAtOnce(folder)).read(7, 0, 10, size)
    # What an earlier version wrote has no table.
    path.write_bytes(content)
    blobs = Blobs(folder, SyncAtOnce(folder))
    assert blobs.sweep({7: size}) == set()
    assert blobs.read(7, 60_000, 10_000, size) == content[60_000:70_000]


def test_an_empty_file_is_synced_too(folder: DiskBlobs) -> None:
    blobs = Blobs(folder, SyncAtOnce(folder))
    assert blobs.finish(1) == 0
    assert folder.sizes() == {1: table_bytes(0)}


def test_sweep(tmp_path: Path, folder: DiskBlobs) -> None:
    for number in (1, 2, 3):
        folder.append(number, 0, b"x")
    (tmp_path / "bodies" / "notes.txt").write_text("not ours")
    assert Blobs(folder, SyncAtOnce(folder)).sweep({2: 1, 3: 2, 4: 0}) == {3, 4}
    assert folder.sizes() == {2: 1, 3: 1}
    assert (tmp_path / "bodies" / "notes.txt").exists()


def test_a_number_that_is_used_again_begins_empty(folder: DiskBlobs) -> None:
    folder.append(1, 0, b"a long rest of an earlier life")
    folder.close(1)
    folder.append(1, 0, b"new")
    folder.close(1)
    with pytest.raises(StoreFailed):
        folder.read(1, 0, 4)
    assert folder.read(1, 0, 3) == b"new"


def test_no_room_and_other_failures(tmp_path: Path, folder: DiskBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(code: int) -> None:
        def fail(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "pwrite", fail)

    failing(28)
    with pytest.raises(StoreFull, match="No space left"):
        folder.append(1, 0, b"x")
    failing(5)
    with pytest.raises(StoreFailed, match="Input/output error"):
        folder.append(1, 0, b"x")
    monkeypatch.undo()
    with pytest.raises(StoreFailed, match="can't be made"):
        DiskBlobs(tmp_path / "missing" / "bodies")


class GatedFolder:
    """A folder whose syncs wait until they are let through."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.failure: StoreFailed | None = None
        self.synced: list[int] = []

    def append(self, blob_id: int, at: int, data: bytes) -> None:
        """Into nothing."""

    def sync(self, blob_id: int) -> None:
        """Wait for the gate."""
        self.begun.release()
        assert self.gate.acquire(timeout=HANG_SECONDS)
        if self.failure is not None:
            raise self.failure
        self.synced.append(blob_id)

    def read(self, blob_id: int, at: int, length: int) -> bytes:
        """Zeros."""
        return bytes(length)

    def remove(self, blob_id: int) -> None:
        """It was never there."""

    def set_aside(self, blob_id: int) -> str:
        """It was never there."""
        raise AssertionError(blob_id)

    def sizes(self) -> dict[int, int]:
        """None."""
        return {}

    def close(self, blob_id: int) -> None:
        """Nothing is open."""

    def close_all(self) -> None:
        """Nothing is open."""


@pytest.fixture
def gated() -> Iterator[tuple[GatedFolder, SyncThread]]:
    folder = GatedFolder()
    thread = SyncThread(folder)
    yield folder, thread
    folder.gate.release(100)
    thread.close()


def until_synced(thread: SyncThread, blob_id: int, size: int) -> None:
    """Wait for the thread's own word."""
    give_up = time.monotonic() + HANG_SECONDS
    while thread.synced(blob_id) < size:
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.001)


def test_the_thread_tells_what_it_synced_and_nothing_more(gated: tuple[GatedFolder, SyncThread]) -> None:
    folder, thread = gated
    blobs = Blobs(folder, thread)
    blobs.append(1, bytes(bodies_module.SYNC_STEP))
    assert folder.begun.acquire(timeout=HANG_SECONDS), "a full step is synced while the file still grows"
    blobs.append(1, b"rest")
    table = table_bytes(bodies_module.SYNC_STEP + 4)
    assert blobs.finish(1) == bodies_module.SYNC_STEP + 4 + table + 1
    folder.gate.release()
    until_synced(thread, 1, bodies_module.SYNC_STEP)
    assert blobs.finish(1) == 4 + table, "the rest came after that sync began"
    folder.gate.release()
    until_synced(thread, 1, bodies_module.SYNC_STEP + 4 + table)
    assert blobs.finish(1) == 0
    assert folder.synced == [1, 1]


def test_a_failed_sync_is_told_by_whatever_comes_next(gated: tuple[GatedFolder, SyncThread]) -> None:
    folder, thread = gated
    folder.failure = StoreFailed("the disk is gone")
    blobs = Blobs(folder, thread)
    blobs.append(1, b"x")
    assert blobs.finish(1) > 0
    folder.gate.release()
    [worker] = [one for one in threading.enumerate() if one.name == "blob-sync"]
    worker.join(HANG_SECONDS)
    for ask in (blobs.finish, blobs.unsynced):
        with pytest.raises(StoreFailed, match="the disk is gone"):
            ask(1)


def test_what_is_forgotten_is_not_synced(gated: tuple[GatedFolder, SyncThread]) -> None:
    folder, thread = gated
    blobs = Blobs(folder, thread)
    blobs.append(1, b"x")
    blobs.append(2, b"y")
    assert blobs.finish(1) > 0
    assert folder.begun.acquire(timeout=HANG_SECONDS)
    assert blobs.finish(2) > 0
    blobs.remove(2)
    folder.gate.release()
    until_synced(thread, 1, 1)
    assert blobs.finish(1) == 0
    assert folder.synced == [1]


def test_a_number_that_is_used_again_is_not_taken_for_synced(gated: tuple[GatedFolder, SyncThread]) -> None:
    """After a turn that was undone a number comes again, perhaps during the first sync."""
    folder, thread = gated
    blobs = Blobs(folder, thread)
    blobs.append(1, bytes(bodies_module.SYNC_STEP))
    assert folder.begun.acquire(timeout=HANG_SECONDS)
    blobs.remove(1)
    blobs.append(1, b"another")
    assert blobs.finish(1) > 0
    folder.gate.release()
    assert folder.begun.acquire(timeout=HANG_SECONDS), "the sync of the first file is over when the next one begins"
    assert blobs.finish(1) > 0, "nothing of the second file is on disk"
    folder.gate.release()
    until_synced(thread, 1, 7 + table_bytes(7))
    assert blobs.finish(1) == 0


def test_who_closes_a_file_does_not_wait_for_the_disk(folder: DiskBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.append(1, 0, b"one")
    folder.append(2, 0, b"two")
    seen: list[int] = []
    fdatasync = os.fdatasync

    def during(descriptor: int) -> None:
        def close() -> None:
            folder.close(2)
            folder.remove(1)

        loop = threading.Thread(target=close, daemon=True)
        loop.start()
        loop.join(HANG_SECONDS)
        assert not loop.is_alive(), "the loop would stand still until the disk is done"
        fdatasync(descriptor)
        seen.append(descriptor)

    monkeypatch.setattr(os, "fdatasync", during)
    folder.sync(1)
    assert list(folder.sizes()) == [2]
    assert seen, "what was closed meanwhile is open for the sync, and no longer"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(seen[0])
