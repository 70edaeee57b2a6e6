"""Who has the shard: a takeover, and a worker that was superseded and does not know it."""

from collections.abc import Callable, Iterator

import pytest

from common.storage_protocol.frames import Batch
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    Operation,
    Register,
    Stored,
    StoreMessage,
)
from storage_worker.engine.errors import StoreFailed, StoreSuperseded
from storage_worker.engine.values import MailboxStats
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import KEY, Gateway, PostgresWorker, pieces

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import opening
from storage_worker.engine.postgres.connection import Connection
from storage_worker.engine.postgres.database import Opened, beside, take_over

END = 2**63 - 1
OpenWorker = Callable[..., PostgresWorker]


def rows(worker: PostgresWorker) -> dict[str, list[tuple[object, ...]]]:
    """All that the tables hold, but for who has them."""
    names = [
        row[0]
        for row in worker.beside.rows(
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1", "messageu_0"
        )
    ]
    assert len(names) > 10
    return {
        name: worker.beside.rows(f"SELECT t::text FROM {name} AS t ORDER BY 1") for name in names if name != "owner"
    }


def contents(gateway: Gateway, user: bytes) -> list[bytes]:
    fetched = gateway.one(Fetch(user, True, 0, END, 54, 2**20, False))
    assert isinstance(fetched, Fetched)
    return [piece.content for piece in pieces(fetched.page)]


class TestSuperseded:
    """Whatever an earlier worker tries, not one row of it is written."""

    @pytest.fixture
    def workers(self, open_worker: OpenWorker) -> tuple[PostgresWorker, PostgresWorker, bytes]:
        earlier = open_worker()
        gateway = Gateway(earlier)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"kept")
        return earlier, open_worker(), alice

    @pytest.mark.parametrize("what", ["a send", "a read", "a registration", "an upload", "a flush", "a deletion"])
    def test_it_writes_nothing_and_ends(self, workers: tuple[PostgresWorker, PostgresWorker, bytes], what: str) -> None:
        earlier, later, alice = workers
        before = rows(later)
        engine = earlier.engine
        slot = engine.slots.find(0)
        assert slot is not None
        operations: dict[str, Operation] = {
            "a send": StoreMessage(alice, False, alice, 3, b"lost"),
            "a read": Fetch(alice, True, 0, END, 54, 2**20, False),
            "a registration": Register("bob", KEY),
        }
        with pytest.raises(StoreSuperseded, match="taken the shard over"):
            if what in operations:
                earlier.handle(Batch(0, slot.epoch, slot.number + 1, [operations[what]]))
            elif what == "an upload":
                engine.blobs.append(1, bytes(2**20))
            elif what == "a deletion":
                engine.blobs.remove(1)
            else:
                engine.log.flush(earlier.now_ms)
        assert rows(later) == before

    def test_the_later_one_goes_on(self, workers: tuple[PostgresWorker, PostgresWorker, bytes]) -> None:
        _earlier, later, alice = workers
        gateway = Gateway(later, slot=1)
        gateway.store(alice, alice, b"more")
        assert contents(gateway, alice) == [b"kept", b"more"]


class TestTakeover:
    def test_epochs_and_starts_grow(self, open_worker: OpenWorker) -> None:
        for number in (1, 2, 3):
            worker = open_worker()
            assert worker.beside.rows("SELECT epoch FROM owner") == [(number,)]
            assert worker.engine.totals().starts == number

    def test_what_the_last_worker_appended_is_there(self, open_worker: OpenWorker) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        sequences = gateway.store(alice, alice, b"one", b"two")
        assert worker.beside.rows("SELECT count(*) FROM journal") != [(0,)]
        worker.kill()
        later = open_worker()
        assert later.beside.rows("SELECT count(*) FROM journal") == [(0,)], "it is in the tables"
        gateway = Gateway(later, slot=1)
        assert contents(gateway, alice) == [b"one", b"two"]
        assert gateway.store(alice, alice, b"three")[0] > sequences[-1]

    def test_a_batch_whose_answer_nobody_heard(self, open_worker: OpenWorker) -> None:
        gateway = Gateway(open_worker())
        [alice] = gateway.register("alice")
        batch = gateway.next_batch(StoreMessage(alice, False, alice, 3, b"once"))
        heard = gateway.send(batch)
        gateway.worker.kill()
        gateway.worker = open_worker()
        assert gateway.send(batch) == heard
        assert contents(gateway, alice) == [b"once"]

    def test_one_that_no_standby_acknowledged_is_none(self) -> None:
        with PostgresServer() as alone:
            url = alone.empty_database()
            PostgresWorker(url).kill()
            alone.wait_for_standby("nobody")
            thread = alone.cancel_the_next_wait()
            with pytest.raises(StoreFailed, match="committed with a warning"):
                PostgresWorker(url)
            thread.join()


class TestTwoPrimaries:
    """A primary that was cut off takes itself for one, and can be reached again; the store went on
    at another server.
    """

    @pytest.fixture
    def old(self) -> Iterator[PostgresServer]:
        with PostgresServer() as server:
            worker = PostgresWorker(server.empty_database())
            worker.kill()
            yield server

    def test_all_of_a_worker_goes_where_its_takeover_went(
        self, monkeypatch: pytest.MonkeyPatch, old: PostgresServer
    ) -> None:
        with PostgresServer() as new:
            url = new.empty_database()
            gateway = Gateway(PostgresWorker(url))
            [alice] = gateway.register("alice")
            gateway.ask(BeginUpload(1, alice, False, alice, 3, 2**20), Chunk(1, bytes(2**20)))
            assert isinstance(gateway.one(CommitUpload(1)), Stored)
            gateway.worker.kill()
            socket = new.folder / ".s.PGSQL.5432"

            def take_over_and_be_away(connection: Connection) -> Opened:
                opened = take_over(connection)
                socket.rename(socket.with_name("away"))
                return opened

            monkeypatch.setattr(opening, "take_over", take_over_and_be_away)
            with pytest.raises(StoreFailed, match="can't be reached"):
                PostgresWorker(f"postgresql://postgres@/mail?host={new.folder},{old.folder}")
            monkeypatch.undo()
            socket.with_name("away").rename(socket)
            later = PostgresWorker(url)
            assert later.engine.load() == (1, MailboxStats(1, 2**20)), "a large message is not taken for lost"
            later.kill()

    def test_a_server_that_does_not_know_of_the_takeover_is_none(self, open_worker: OpenWorker) -> None:
        worker = open_worker()
        with pytest.raises(StoreFailed, match="does not know of the takeover"):
            beside(worker.beside, 2)
        with pytest.raises(StoreSuperseded):
            beside(worker.beside, 0)


class TestLostConnection:
    def test_the_worker_fails_and_the_next_one_knows_what_was_acknowledged(
        self, postgres: PostgresServer, open_worker: OpenWorker
    ) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"acknowledged")
        postgres.tell(
            "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity "
            "WHERE application_name = 'messageu-storage-worker'"
        )
        batch = gateway.next_batch(StoreMessage(alice, False, alice, 3, b"unknown"))
        with pytest.raises(StoreFailed):
            gateway.send(batch)
        gateway.worker = open_worker()
        outcomes = gateway.send(batch)
        assert len(outcomes) == 1
        assert contents(gateway, alice) == [b"acknowledged", b"unknown"]

    def test_a_server_that_is_killed(self) -> None:
        with PostgresServer() as server:
            url = server.empty_database()
            gateway = Gateway(PostgresWorker(url, seed=1))
            [alice] = gateway.register("alice")
            gateway.store(alice, alice, b"acknowledged")
            server.kill()
            with pytest.raises(StoreFailed):
                gateway.store(alice, alice, b"unknown")
            with pytest.raises(StoreFailed, match="can't be reached"):
                PostgresWorker(url)
            server.start()
            worker = PostgresWorker(url, seed=1_000_000)
            assert contents(Gateway(worker, slot=1), alice) == [b"acknowledged"]
            worker.kill()
