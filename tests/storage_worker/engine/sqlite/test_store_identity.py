"""A restored or recreated database is noticed, as far as that is possible."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.storage_protocol.operations import NO_MAIL, Pull, Pulled, Refused, StoreMessage
from storage_worker.engine.errors import StoreFailed, StoreFull
from storage_worker.engine.sqlite import store_identity
from storage_worker.engine.sqlite.store_identity import (
    GenerationFile,
    StoreIdentity,
    new_generation,
    parse_identity,
    record_progress,
)
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker

Open = Callable[..., SqliteWorker]


def copy(folder: Path, name: str) -> Path:
    """A backup of the database alone, taken while nothing writes."""
    target = folder / name
    shutil.copy(folder / "mail.db", target)
    return target


def put_back(folder: Path, backup: Path) -> None:
    for left in folder.glob("mail.db*"):
        left.unlink()
    shutil.copy(backup, folder / "mail.db")


def test_text() -> None:
    facts = StoreIdentity(bytes(range(16)), 1, 2, 3, 4)
    assert parse_identity(facts.to_text()) == facts


def test_restarts_keep_the_generation(open_worker: Open) -> None:
    worker = open_worker(now_ms=5000)
    assert worker.facts.generation == 5000
    worker.close()
    killed = open_worker(now_ms=6000)
    killed.kill()
    third = open_worker(now_ms=7000)
    assert third.facts == worker.facts._replace(starts=3)


def test_an_older_copy(open_worker: Open, tmp_path: Path) -> None:
    open_worker(now_ms=5000).close()
    backup = copy(tmp_path, "backup")
    open_worker(now_ms=6000).close()
    put_back(tmp_path, backup)
    assert open_worker(now_ms=7000).facts.generation == 7000


def test_an_older_copy_and_a_clock_that_was_set_back(open_worker: Open, tmp_path: Path) -> None:
    open_worker(now_ms=5000).close()
    backup = copy(tmp_path, "backup")
    open_worker(now_ms=6000).close()
    put_back(tmp_path, backup)
    restored = open_worker(now_ms=10)
    assert restored.facts.generation == 5001
    restored.close()
    assert open_worker(now_ms=20).facts.generation == 5001


def test_a_copy_of_the_same_run_is_told_by_the_mail_that_came_since(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker(now_ms=5000)
    worker.database.checkpoint(truncate=True)
    backup = copy(tmp_path, "backup")
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    record_progress(worker.database, worker.file)
    worker.close()
    put_back(tmp_path, backup)
    assert open_worker(now_ms=7000).facts.generation == 7000


def test_a_database_made_anew(open_worker: Open, tmp_path: Path) -> None:
    first = open_worker(now_ms=5000)
    first.close()
    (tmp_path / "mail.db").unlink()
    second = open_worker(now_ms=4000)
    assert second.facts.generation == 5001
    assert second.facts.server_id != first.facts.server_id


def test_a_death_between_database_and_file(open_worker: Open, tmp_path: Path) -> None:
    open_worker(now_ms=5000).close()
    before = (tmp_path / "store.generation").read_text()
    open_worker(now_ms=6000).close()
    (tmp_path / "store.generation").write_text(before)
    assert open_worker(now_ms=7000).facts.generation == 5000


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\n1\n2\n3\n", b"00\nx\n2\n3\n"])
def test_an_unreadable_file_is_written_anew(open_worker: Open, tmp_path: Path, content: bytes) -> None:
    open_worker(now_ms=5000).close()
    (tmp_path / "store.generation").write_bytes(content)
    worker = open_worker(now_ms=6000)
    assert worker.facts.generation == 5000
    assert parse_identity((tmp_path / "store.generation").read_text()) == worker.facts


def test_new_generation(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker(now_ms=5000)
    assert new_generation(worker.database, worker.file, 4000) == 5001
    assert new_generation(worker.database, worker.file, 9000) == 9000
    worker.close()
    assert open_worker(now_ms=9500).facts.generation == 9000


def test_no_room_for_the_file_is_no_failure(open_worker: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_worker(now_ms=5000).close()
    before = (tmp_path / "store.generation").read_text()
    monkeypatch.setattr("os.write", lambda _descriptor, content: len(content) - 1)
    with pytest.raises(StoreFull, match="short write"):
        GenerationFile(tmp_path / "store.generation").write("x")
    worker = open_worker(now_ms=6000)
    assert worker.facts.generation == 5000
    assert (tmp_path / "store.generation").read_text() == before


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreFailed, match="can't be read"):
        GenerationFile(tmp_path / "taken").read()
    with pytest.raises(StoreFailed, match="can't be written"):
        GenerationFile(tmp_path / "missing" / "file").write("x")


def test_after_a_kill_no_sequence_is_given_again_even_by_a_copy_of_the_same_run(
    open_worker: Open, tmp_path: Path
) -> None:
    worker = open_worker(now_ms=5000)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    worker.database.checkpoint(truncate=True)
    backup = copy(tmp_path, "backup")
    given = gateway.store(alice, alice, *[b"x"] * 10)
    worker.kill()
    put_back(tmp_path, backup)
    restored = open_worker(now_ms=5001)
    [sequence] = Gateway(restored).store(alice, alice, b"new")
    assert sequence > given[-1]


def test_after_an_orderly_end_the_next_sequence_follows(open_worker: Open) -> None:
    worker = open_worker(now_ms=5000)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    assert gateway.store(alice, alice, b"x", b"y") == [1, 2]
    worker.close()
    assert Gateway(open_worker(now_ms=6000)).store(alice, alice, b"z") == [3]


def test_without_room_to_reserve_no_mail_is_taken(open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_identity, "RESERVED_AHEAD", 0)
    worker = open_worker(now_ms=5000)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    with monkeypatch.context() as patch:
        gateway.store(alice, alice, b"x")
        patch.setattr("os.write", lambda _descriptor, content: len(content) - 1)
        outcomes = gateway.ask(*[StoreMessage(alice, False, alice, 3, b"x")] * 3)
        assert {type(outcome) for outcome in outcomes} == {Refused}
        assert gateway.one(Pull(1, alice, False, 2**40, 25, 100)) != Pulled(0, 0, 0, 0, NO_MAIL)
    worker.now_ms += 2000
    assert len(gateway.store(alice, alice, b"x")) == 1
