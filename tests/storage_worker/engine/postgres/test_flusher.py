"""The thread that writes into the tables: turns go on beside it, and its failures are the loop's to
hear of.
"""

from collections.abc import Callable, Iterator

import pytest

from common.storage_protocol.operations import Fetch, Fetched, MarkAuthenticated, TellOthers
from storage_worker.engine.errors import StoreFailed, StoreSuperseded
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker, pieces
from torture.programs import wait_until

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres.connection import Connection
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.flusher import FlushThread
from storage_worker.engine.postgres.schema import Place, create

END = 2**63 - 1
DAY_MS = 24 * 3600 * 1000
IN_ITS_WAY = "INSERT INTO day (day, sequence) VALUES ($1, 0)"
"""Not committed, it keeps whoever notes that day waiting."""


def note_day(day: int) -> Callable[[Database], None]:
    def write(database: Database) -> None:
        assert database.change(IN_ITS_WAY, day) == 1

    return write


def contents(gateway: Gateway, user: bytes, ack: int = 0) -> list[bytes]:
    fetched = gateway.one(Fetch(user, True, ack, END, 54, 2**20, False))
    assert isinstance(fetched, Fetched)
    return [piece.content for piece in pieces(fetched.page)]


class TestWorker:
    @pytest.fixture
    def worker(self, open_worker: Callable[..., PostgresWorker]) -> PostgresWorker:
        return open_worker(patience=None)

    def test_turns_go_on_while_the_tables_are_written(self, worker: PostgresWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        log = worker.engine.log
        log.flush(worker.now_ms)
        flushes = log.flushes
        worker.now_ms = 10 * DAY_MS
        with worker.beside.transaction():
            worker.beside.change(IN_ITS_WAY, 10)
            sequences = gateway.store(alice, alice, b"one", b"two")
            log.begin_flush(worker.now_ms)
            assert gateway.store(alice, alice, b"three") == [sequences[-1] + 1]
            assert contents(gateway, alice) == [b"one", b"two", b"three"]
            assert contents(gateway, alice, sequences[0]) == [b"two", b"three"]
            assert log.is_flushing
            assert worker.processor.is_busy, "its commit is to be soon"
            assert log.flushes == flushes
        log.settle(wait=True)
        assert log.flushes == flushes + 1
        assert contents(gateway, alice) == [b"two", b"three"]
        log.flush(worker.now_ms)
        assert contents(gateway, alice) == [b"two", b"three"]

    def test_turns_wait_where_it_falls_far_behind(
        self, worker: PostgresWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from storage_worker.engine.postgres import commit_log

        [alice] = gateway.register("alice")
        log = worker.engine.log
        log.flush(worker.now_ms)
        monkeypatch.setattr(commit_log, "MOST_UNFLUSHED_MESSAGES", 2)
        monkeypatch.setattr(log, "settle", lambda *, wait: waits.append(wait))
        waits: list[bool] = []
        gateway.store(alice, alice, b"one", b"two")
        assert log.is_flushing
        for _ in range(commit_log.MOST_BEHIND):
            waits.clear()
            gateway.store(alice, alice, b"one", b"two")
            assert len(waits) == 1
        assert waits == [True]
        monkeypatch.undo()
        log.settle(wait=True)
        assert len(contents(gateway, alice)) == 2 + 2 * commit_log.MOST_BEHIND

    def test_what_other_shards_read_does_not_wait_for_it_for_ever(
        self, open_worker: Callable[..., PostgresWorker]
    ) -> None:
        """It changes a row that a flush under way has changed."""
        worker = open_worker(shard=(0, 2), patience=10**9)
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"x")
        worker.engine.log.flush(worker.now_ms)
        worker.now_ms += DAY_MS
        gateway.store(alice, alice, b"seen on another day")
        flushes = worker.engine.log.flushes
        worker.engine.log.begin_flush(worker.now_ms)
        assert gateway.one(MarkAuthenticated(alice)) == TellOthers()
        assert worker.engine.log.flushes == flushes + 1
        assert worker.beside.rows("SELECT proven FROM account") == [(True,)]
        assert contents(gateway, alice) == [b"x", b"seen on another day"]

    def test_a_takeover_ends_it(
        self, worker: PostgresWorker, gateway: Gateway, open_worker: Callable[..., PostgresWorker]
    ) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"kept")
        later = open_worker()
        with pytest.raises(StoreSuperseded):
            worker.engine.log.flush(worker.now_ms)
        assert contents(Gateway(later, slot=1), alice) == [b"kept"]

    def test_a_server_that_goes_away_ends_the_worker(self) -> None:
        with PostgresServer() as server:
            worker = PostgresWorker(server.empty_database(), patience=None)
            gateway = Gateway(worker)
            [alice] = gateway.register("alice")
            gateway.store(alice, alice, b"x")
            server.kill()
            with pytest.raises(StoreFailed):
                worker.engine.log.flush(worker.now_ms)
            worker.kill()

    def test_one_whose_standbys_do_not_have_it_is_a_failure(self) -> None:
        with PostgresServer() as alone:
            worker = PostgresWorker(alone.empty_database(), patience=None)
            gateway = Gateway(worker)
            [alice] = gateway.register("alice")
            gateway.store(alice, alice, b"x")
            worker.engine.log.begin_flush(worker.now_ms)
            alone.wait_for_standby("nobody")
            thread = alone.cancel_the_next_wait()
            with pytest.raises(StoreFailed, match="committed with a warning"):
                worker.engine.log.settle(wait=True)
            thread.join()
            worker.kill()


class TestThread:
    @pytest.fixture
    def database(self, url: str) -> Database:
        connection = Connection(url, "messageu_0")
        create(connection, Place(0, 1), bytes(16), 1)
        return Database(connection, 0)

    @pytest.fixture
    def flusher(self, database: Database) -> Iterator[FlushThread]:
        thread = FlushThread(database)
        yield thread
        thread.close()

    def test_what_it_writes_is_committed_by_its_caller(self, url: str, flusher: FlushThread) -> None:
        beside = Connection(url, "messageu_0")
        for number in (1, 2):
            flusher.begin(note_day(number))
            wait_until(lambda: flusher.is_done(wait=False), "the flush")
            assert beside.rows("SELECT count(*) FROM day") == [(number - 1,)]
            flusher.commit()
            assert not flusher.running
            assert beside.rows("SELECT count(*) FROM day") == [(number,)]
        beside.close()

    def test_a_failure_undoes_it_and_the_thread_goes_on(self, url: str, flusher: FlushThread) -> None:
        def write(database: Database) -> None:
            database.change(IN_ITS_WAY, 1)
            raise ZeroDivisionError("a bug")

        for _ in range(2):
            flusher.begin(write)
            with pytest.raises(ZeroDivisionError, match="a bug"):
                flusher.is_done(wait=True)
            assert not flusher.running
        beside = Connection(url, "messageu_0")
        assert beside.rows("SELECT count(*) FROM day") == [(0,)]
        beside.close()

    def test_what_is_not_committed_when_it_is_closed_is_undone(self, url: str, database: Database) -> None:
        flusher = FlushThread(database)
        flusher.begin(note_day(1))
        assert flusher.is_done(wait=True)
        flusher.close()
        beside = Connection(url, "messageu_0")
        assert beside.rows("SELECT count(*) FROM day") == [(0,)]
        beside.close()
