"""Copies that are made while the store is served."""

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.storage_protocol.frames import Hello
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    MarkAuthenticated,
    Stored,
    UploadProgress,
)
from storage_worker.engine.errors import StoreFailed, StoreUnusable
from storage_worker.engine.sqlite import online_backup
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import refuse_lost_database
from storage_worker.engine.values import BackupState
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, pieces
from torture.patience import HANG_SECONDS

LARGE = bytes(range(256)) * 1024


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


def finished(worker: SqliteWorker) -> BackupState:
    """What became of it, when all that was put off is done too."""
    deadline = time.monotonic() + HANG_SECONDS
    while worker.engine.backup.running or worker.engine.has_pending:
        assert time.monotonic() < deadline, "it never ended"
        worker.processor.maintain(worker.now_ms)
        worker.now_ms += 10_000
    return worker.engine.backup


def backed_up(worker: SqliteWorker, target: Path) -> BackupState:
    assert worker.engine.begin_backup(target, worker.now_ms) is None
    return finished(worker)


def upload(gateway: Gateway, sender: bytes, recipient: bytes, content: bytes, number: int = 1) -> int:
    gateway.ask(BeginUpload(number, sender, True, recipient, 3, len(content)), Chunk(number, content))
    while isinstance(outcome := gateway.one(CommitUpload(number)), UploadProgress):
        pass
    assert isinstance(outcome, Stored)
    return outcome.sequence


def fetched(gateway: Gateway, user: bytes, ack: int = 0) -> list[bytes]:
    outcome = gateway.one(Fetch(user, True, ack, 2**40, 0, 2**30, False))
    assert isinstance(outcome, Fetched)
    return [piece.content for piece in pieces(outcome.page)]


class Standstill:
    """The copying of the database waits in here until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.may_go_on = threading.Event()
        copy_to = Database.copy_to

        def waiting(database: Database, path: Path) -> None:
            copy_to(database, path)
            self.reached.set()
            assert self.may_go_on.wait(HANG_SECONDS)

        monkeypatch.setattr(Database, "copy_to", waiting)


def test_all_that_was_acknowledged_is_in_the_copy(worker: SqliteWorker, gateway: Gateway, target: Path) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(bob))
    gateway.store(alice, bob, b"in the database")
    worker.flush()
    upload(gateway, alice, bob, LARGE)
    gateway.store(alice, bob, b"in the journal alone")
    assert worker.engine.log.waits
    state = backed_up(worker, target)
    assert (state.running, state.folder, state.problem, state.missing) == (False, str(target), "", 0)
    assert (state.contents, state.content_bytes) == (1, len(LARGE))
    assert state.database_bytes == (target / "mail.db").stat().st_size
    assert sorted(path.name for path in target.iterdir()) == ["bodies", "mail.db"]
    gateway.store(alice, bob, b"later")
    copy = SqliteWorker(target, seed=10**6, now_ms=worker.now_ms)
    again = Gateway(copy, incarnation=b"2" * 16)
    assert copy.facts.server_id == worker.facts.server_id
    assert copy.facts.generation > worker.facts.generation
    assert fetched(again, bob) == [b"in the database", LARGE, b"in the journal alone"]
    assert fetched(again, bob, copy.rules.highest) == []
    # The copy's worker has deleted its names of the contents, and the store's are there.
    assert fetched(gateway, bob) == [b"in the database", LARGE, b"in the journal alone", b"later"]
    copy.kill()


def test_the_mark_begins_one_generation(worker: SqliteWorker, gateway: Gateway, target: Path) -> None:
    list(gateway.register("alice"))
    backed_up(worker, target)
    generations = [worker.facts.generation]
    for seed in (1, 2, 3):
        copy = SqliteWorker(target, seed=seed * 10**6, now_ms=worker.now_ms + seed)
        generations.append(copy.facts.generation)
        if seed == 1:
            copy.kill()
        else:
            copy.close()
    assert generations[0] < generations[1] == generations[2] == generations[3]


def test_a_copy_of_a_copy_begins_another_one(worker: SqliteWorker, gateway: Gateway, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    list(gateway.register("alice"))
    backed_up(worker, folders[0])
    copy = SqliteWorker(folders[0], seed=10**6, now_ms=worker.now_ms)
    copy.file.read()
    backed_up(copy, folders[1])
    second = SqliteWorker(folders[1], seed=2 * 10**6, now_ms=copy.now_ms)
    assert worker.facts.generation < copy.facts.generation < second.facts.generation
    second.kill()
    copy.kill()


def test_turns_go_on_and_contents_that_are_deleted_meanwhile_are_in_the_copy(
    worker: SqliteWorker, gateway: Gateway, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice), MarkAuthenticated(bob))
    sequence = upload(gateway, alice, bob, LARGE)
    standstill = Standstill(monkeypatch)
    assert worker.engine.begin_backup(target, worker.now_ms) is None
    assert standstill.reached.wait(HANG_SECONDS)
    assert worker.engine.begin_backup(target, worker.now_ms) == "a backup is being made already"
    assert fetched(gateway, bob, sequence) == []
    gateway.store(alice, bob, b"meanwhile", authenticated=True)
    worker.flush()
    assert [path.name for path in (worker.folder / "bodies").iterdir()] == ["1"], "it is deleted later"
    standstill.may_go_on.set()
    assert finished(worker).contents == 1
    assert list((worker.folder / "bodies").iterdir()) == [], "now it is"
    copy = SqliteWorker(target, seed=10**6, now_ms=worker.now_ms)
    assert fetched(Gateway(copy, incarnation=b"2" * 16), bob) == [LARGE]
    copy.kill()


def test_a_number_that_a_turn_gave_back_is_not_deleted_under_its_next_owner(
    worker: SqliteWorker, gateway: Gateway, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standstill = Standstill(monkeypatch)
    assert worker.engine.begin_backup(target, worker.now_ms) is None
    assert standstill.reached.wait(HANG_SECONDS)
    worker.blobs.append(7, b"of an upload that is given up")
    worker.blobs.remove(7)
    worker.blobs.append(7, b"of another one")
    while worker.blobs.finish(7):
        pass
    worker.blobs.append(8, b"given up")
    worker.blobs.remove(8)
    standstill.may_go_on.set()
    finished(worker)
    assert [path.name for path in (worker.folder / "bodies").iterdir()] == ["7"]


def test_many_deletions_that_were_put_off_are_done_in_steps(
    worker: SqliteWorker, gateway: Gateway, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standstill = Standstill(monkeypatch)
    assert worker.engine.begin_backup(target, worker.now_ms) is None
    for number in range(100, 250):
        worker.blobs.append(number, b"x")
        worker.blobs.remove(number)
    standstill.may_go_on.set()
    while worker.engine.backup.running:
        time.sleep(0.001)
    left = []
    while worker.engine.has_pending:
        worker.processor.maintain(worker.now_ms)
        left.append(len(list((worker.folder / "bodies").iterdir())))
    assert left[:3] == [86, 22, 0]


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (lambda target: (target / "mail.db").touch(), "has a file mail.db already"),
        (lambda target: (target / "bodies").mkdir(), "has a file bodies already"),
        (lambda target: target.rmdir(), "is no folder"),
        (lambda target: (target.rmdir(), target.touch()), "is no folder"),
    ],
)
def test_folders_that_are_refused(
    worker: SqliteWorker, target: Path, prepare: Callable[[Path], object], problem: str
) -> None:
    prepare(target)
    before = sorted(target.iterdir()) if target.is_dir() else []
    assert problem in (worker.engine.begin_backup(target, worker.now_ms) or "")
    assert (sorted(target.iterdir()) if target.is_dir() else []) == before
    assert not worker.engine.backup.folder
    assert not worker.engine.has_pending


def test_a_path_that_depends_on_the_workers_folder_is_refused(worker: SqliteWorker) -> None:
    assert "absolute path" in (worker.engine.begin_backup(Path("copy"), worker.now_ms) or "")


def test_too_little_room(tmp_path: Path, target: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    worker = SqliteWorker(folder, min_free_bytes=10 * 2**20)
    size = worker.database.used_bytes()
    worker.free_bytes = size + 20 * 2**20 - 1
    assert "twice the free-space mark (20971520) has to be left" in (
        worker.engine.begin_backup(target, worker.now_ms) or ""
    )
    worker.free_bytes += 1
    assert backed_up(worker, target).problem == ""
    worker.kill()


def test_an_end_meanwhile_leaves_no_backup(
    worker: SqliteWorker, gateway: Gateway, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    upload(gateway, alice, bob, LARGE)
    standstill = Standstill(monkeypatch)
    assert worker.engine.begin_backup(target, worker.now_ms) is None
    assert standstill.reached.wait(HANG_SECONDS)
    close = Database.close

    def closed(database: Database) -> None:
        # The store's own is closed when the backup has ended.
        assert not worker.engine.backup.running
        close(database)

    monkeypatch.setattr(worker.database, "close", lambda: closed(worker.database))
    monkeypatch.setattr(Database, "interrupt", lambda _database: standstill.may_go_on.set())
    worker.engine.close(worker.now_ms)
    assert worker.engine.backup.problem == "the storage worker ended meanwhile"
    assert [path.name for path in target.iterdir()] == ["bodies"]


def test_what_broke_off_is_refused_by_a_start(
    worker: SqliteWorker, gateway: Gateway, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(gateway.register("alice"))

    def fail(_folder: Path) -> None:
        raise StoreFailed("the disk is gone")

    monkeypatch.setattr(online_backup, "sync_folder", fail)
    state = backed_up(worker, target)
    assert (state.running, state.problem) == (False, "the disk is gone")
    assert [path.name for path in target.iterdir()] == ["bodies"]
    # A file in it says that there was a store.
    (target / "bodies" / "1").touch()
    with pytest.raises(StoreUnusable, match=r"mail\.db is missing"):
        refuse_lost_database(target)
    assert gateway.store(*gateway.register("bob"), *gateway.register("carol"), b"it goes on") == [1]


def test_a_disk_of_its_own_gets_copies_of_the_contents(
    worker: SqliteWorker, gateway: Gateway, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice), MarkAuthenticated(bob))
    upload(gateway, alice, bob, LARGE)

    def other_disk(_self: Path, _source: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", other_disk)
    assert backed_up(worker, target).contents == 1
    assert (target / "bodies" / "1").stat().st_ino != (worker.folder / "bodies" / "1").stat().st_ino
    copy = SqliteWorker(target, seed=10**6, now_ms=worker.now_ms)
    assert fetched(Gateway(copy, incarnation=b"2" * 16), bob) == [LARGE]
    copy.kill()


def test_a_content_that_was_lost_before_is_counted(worker: SqliteWorker, gateway: Gateway, target: Path) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    upload(gateway, alice, bob, LARGE)
    (worker.folder / "bodies" / "1").unlink()
    state = backed_up(worker, target)
    assert (state.problem, state.contents, state.missing) == ("", 0, 1)


def test_a_bug_ends_the_backup_alone(
    worker: SqliteWorker, target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_database: Database, _path: Path) -> None:
        raise ValueError("seventeen")

    monkeypatch.setattr(Database, "copy_to", fail)
    assert backed_up(worker, target).problem == "a bug: ValueError"
    assert "seventeen" in caplog.text
    assert worker.handle(Hello(0, b"i" * 16))
