"""Checkpoints in their thread: begun, ended, and reported with their result."""

import threading
import time
from pathlib import Path

import pytest

from storage_worker.engine.errors import StoreFailed, StoreFull
from storage_worker.engine.sqlite.checkpointer import CheckpointThread
from storage_worker.engine.sqlite.database import Database
from torture.patience import HANG_SECONDS

"""Seconds after which a thread that does not come is a failure."""


class Slow(Database):
    """A database whose checkpoint takes until it is let go."""

    def __init__(self, path: Path, failure: Exception | None = None) -> None:
        super().__init__(path, beside=True)
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.failure = failure

    def checkpoint(self, *, truncate: bool = False, waits: bool = True) -> bool:
        self.begun.set()
        assert self.may_end.wait(HANG_SECONDS)
        if self.failure is not None:
            raise self.failure
        return super().checkpoint(truncate=truncate, waits=waits)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "mail.db")


def begun(thread: CheckpointThread, slow: Slow) -> None:
    thread.begin()
    assert slow.begun.wait(HANG_SECONDS)
    assert thread.running
    assert thread.outcome() is None


def outcome_of(thread: CheckpointThread) -> bool:
    deadline = time.monotonic() + HANG_SECONDS
    while (outcome := thread.outcome()) is None:
        assert time.monotonic() < deadline, "it never ended"
    return outcome


def test_the_loop_goes_on_while_one_runs(database: Database, tmp_path: Path) -> None:
    slow = Slow(tmp_path / "mail.db")
    thread = CheckpointThread(lambda: slow)
    assert not thread.running
    with database.transaction(synced=False):
        database.execute("INSERT INTO ballast VALUES (2, zeroblob(400000))")
    begun(thread, slow)
    with database.transaction(synced=False):
        database.execute("INSERT INTO ballast VALUES (3, zeroblob(400000))")
    slow.may_end.set()
    thread.close()
    assert thread.outcome() is True
    assert not thread.running
    assert (tmp_path / "mail.db").stat().st_size > 800_000
    database.close()


@pytest.mark.parametrize("failure", [StoreFailed("no disk"), StoreFull("no room"), ZeroDivisionError("a bug")])
def test_a_failure_is_told_once(database: Database, tmp_path: Path, failure: Exception) -> None:
    slow = Slow(tmp_path / "mail.db", failure)
    thread = CheckpointThread(lambda: slow)
    begun(thread, slow)
    slow.may_end.set()
    thread.close()
    with pytest.raises(type(failure), match=str(failure)):
        thread.outcome()
    assert not thread.running
    assert thread.outcome() is None
    database.close()


def test_one_that_fails_is_followed_by_another(database: Database, tmp_path: Path) -> None:
    slow = Slow(tmp_path / "mail.db", ZeroDivisionError("a bug"))
    thread = CheckpointThread(lambda: slow)
    begun(thread, slow)
    slow.may_end.set()
    with pytest.raises(ZeroDivisionError):
        outcome_of(thread)
    slow.failure = None
    thread.begin()
    assert outcome_of(thread) is True
    thread.close()
    database.close()


def test_one_that_was_not_begun_is_not_made(database: Database, tmp_path: Path) -> None:
    slow = Slow(tmp_path / "mail.db")
    thread = CheckpointThread(lambda: slow)
    thread.close()
    assert not slow.begun.is_set()
    assert thread.outcome() is None
    database.close()
