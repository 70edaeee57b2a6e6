"""The primary dies at a moment of a turn or of a flush, and its standby is promoted: what was
acknowledged is there, once, and what was not may be asked for again.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.postgres import Pair, programs, wait_for
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    Stored,
)
from storage_worker.engine.errors import StorageError
from storage_worker.engine.values import MailboxStats
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker, pieces

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="the wheel of PostgreSQL is not installed: scripts/test does that"),
]
LARGE = bytes(range(256)) * 8192
OF_A_WORKER = "application_name = 'messageu-storage-worker'"
WAITS_FOR_STANDBY = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {OF_A_WORKER}"
IS_WRITTEN = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND {OF_A_WORKER}"


@pytest.fixture
def pair() -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="messageu-pg-", dir="/tmp"))
    pair = Pair(folder)
    try:
        pair.make()
        yield pair
    finally:
        pair.end()
        shutil.rmtree(folder)


class Life:
    """A worker, whose mail is alice's: three messages and a large one in the tables, two in the
    journal.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.worker = PostgresWorker(pair.url(), patience=None)
        self.gateway = Gateway(self.worker)
        [self.alice] = self.gateway.register("alice")
        self.store(b"one", b"two", b"three")
        *_, large = self.gateway.ask(
            BeginUpload(1, self.alice, False, self.alice, 4, len(LARGE)), Chunk(1, LARGE), CommitUpload(1)
        )
        assert isinstance(large, Stored)
        self.worker.engine.log.flush(self.worker.now_ms)
        # One that the next flush takes out of a page, for it is fetched.
        assert self.contents(ack=1)[0] == b"two"
        self.store(b"five", b"six")

    def store(self, *contents: bytes) -> None:
        self.gateway.store(self.alice, self.alice, *contents)

    def contents(self, ack: int) -> list[bytes]:
        fetched = self.gateway.one(Fetch(self.alice, True, ack, 2**40, 54, 2**23, False))
        assert isinstance(fetched, Fetched)
        return [piece.content for piece in pieces(fetched.page)]

    def beside(self, act: Callable[[], object]) -> threading.Thread:
        """Do it until the primary is gone."""

        def until_it_fails() -> None:
            with suppress(StorageError):
                act()

        thread = threading.Thread(target=until_it_fails)
        thread.start()
        return thread

    def await_(self, query: str) -> None:
        wait_for(lambda: self.pair.primary.tell(query) != "0", "that moment")

    def fail_over(self) -> None:
        self.pair.primary.kill()
        self.pair.promote()


def acknowledged(life: Life) -> None:
    """Nothing is on its way."""
    life.fail_over()


def turn_waits(life: Life) -> None:
    """A turn is committed at the primary, and waits for the standby, which never gets it."""
    life.pair.primary.suspend("walsender")
    turn = life.beside(lambda: life.store(b"unknown"))
    life.await_(WAITS_FOR_STANDBY)
    life.fail_over()
    turn.join()


def flush_is_written(life: Life) -> None:
    """A flush has written everything, and is not committed; a turn came after it."""
    life.worker.engine.log.begin_flush(life.worker.now_ms)
    life.await_(IS_WRITTEN)
    life.store(b"seven")
    life.fail_over()


def flush_waits(life: Life) -> None:
    """A flush is committed at the primary, and waits for the standby."""
    life.pair.primary.suspend("walsender")
    flush = life.beside(lambda: life.worker.engine.log.flush(life.worker.now_ms))
    life.await_(WAITS_FOR_STANDBY)
    life.fail_over()
    flush.join()


def flush_is_committed(life: Life) -> None:
    """It is everywhere, and a turn came after it."""
    life.worker.engine.log.flush(life.worker.now_ms)
    life.store(b"seven")
    life.fail_over()


def upload_waits(life: Life) -> None:
    """A piece of a large content waits for the standby; its message is not accepted."""
    assert life.gateway.ask(BeginUpload(2, life.alice, False, life.alice, 4, len(LARGE)))
    life.pair.primary.suspend("walsender")
    upload = life.beside(lambda: life.gateway.ask(Chunk(2, LARGE)))
    life.await_(WAITS_FOR_STANDBY)
    life.fail_over()
    upload.join()


@pytest.mark.parametrize(
    "moment", [acknowledged, turn_waits, flush_is_written, flush_waits, flush_is_committed, upload_waits]
)
def test_what_was_acknowledged_is_there_once(pair: Pair, moment: Callable[[Life], None]) -> None:
    life = Life(pair)
    moment(life)
    life.worker.kill()
    worker = PostgresWorker(pair.url(), seed=1_000_000)
    expected = [b"two", b"three", b"five", b"six"]
    if moment in {flush_is_written, flush_is_committed}:
        expected.append(b"seven")
    life.gateway.worker = worker
    if moment is turn_waits:
        # The gateway does not know what became of it, and asks again.
        life.gateway.resend()
        expected.append(b"unknown")
    life.gateway = Gateway(worker, slot=1)
    found = life.contents(ack=1)
    assert [content for content in found if len(content) < 100] == expected
    sizes = sum(map(len, expected)) + len(LARGE)
    assert worker.engine.load() == (1, MailboxStats(len(expected) + 1, sizes))
    # And nobody's number is given again.
    assert life.gateway.store(life.alice, life.alice, b"later")[0] == worker.rules.highest
    worker.kill()
