"""The log of turns: what a turn writes, when the tables take it in, and what a full server does."""

import pytest

from common.storage_protocol.operations import Fetch, Fetched, Refused, StoreMessage
from common.values import RefusalReason
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker, pieces

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import commit_log

END = 2**63 - 1


def turns(worker: PostgresWorker) -> int:
    """Rows of the journal."""
    [(found,)] = worker.beside.rows("SELECT count(*) FROM journal")
    return int(found)


def pages(worker: PostgresWorker) -> int:
    [(found,)] = worker.beside.rows("SELECT count(*) FROM mail_page")
    return int(found)


@pytest.fixture
def alice(worker: PostgresWorker, gateway: Gateway) -> bytes:
    """A user; the journal is empty."""
    [alice] = gateway.register("alice")
    worker.engine.log.flush(worker.now_ms)
    return alice


def test_a_turn_is_one_row(worker: PostgresWorker, gateway: Gateway, alice: bytes) -> None:
    gateway.store(alice, alice, *[b"x"] * 300)
    assert (turns(worker), pages(worker)) == (1, 0)
    gateway.one(Fetch(alice, True, 0, END, 54, 2**20, False))
    assert turns(worker) == 2, "of a read, too: it shows who has the shard"
    assert len(list(gateway.register("bob"))) == 1
    assert turns(worker) == 3


@pytest.mark.parametrize(
    ("limit", "value", "turns_before"),
    [("MOST_UNFLUSHED_BYTES", 500, 4), ("MOST_UNFLUSHED_MESSAGES", 5, 4), ("MOST_TURNS", 5, 4)],
)
def test_what_is_much_goes_into_the_tables(
    worker: PostgresWorker,
    gateway: Gateway,
    alice: bytes,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    turns_before: int,
) -> None:
    monkeypatch.setattr(commit_log, limit, value)
    for number in range(1, turns_before + 1):
        gateway.store(alice, alice, bytes(54))
        assert (turns(worker), pages(worker)) == (number, 0)
    gateway.store(alice, alice, bytes(54))
    assert (turns(worker), pages(worker)) == (0, 1)


def test_so_does_what_is_old(worker: PostgresWorker, gateway: Gateway, alice: bytes) -> None:
    gateway.store(alice, alice, b"x")
    worker.now_ms += commit_log.FLUSH_AFTER_MS - 1
    worker.engine.maintain(worker.now_ms)
    assert turns(worker) == 1
    assert worker.engine.has_pending
    worker.now_ms += 1
    worker.engine.maintain(worker.now_ms)
    assert (turns(worker), pages(worker)) == (0, 1)
    assert not worker.engine.has_pending


def test_where_the_tables_have_no_room_it_stays_in_the_journal(
    worker: PostgresWorker, gateway: Gateway, alice: bytes
) -> None:
    gateway.store(alice, alice, b"acknowledged")
    with worker.beside.transaction():
        worker.beside.run_script(
            "CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER no_room BEFORE INSERT ON mail_page FOR EACH ROW EXECUTE FUNCTION no_room()"
        )
    worker.now_ms += commit_log.FLUSH_AFTER_MS
    worker.engine.maintain(worker.now_ms)
    assert turns(worker) == 1
    assert gateway.refused(StoreMessage(alice, False, alice, 3, b"new")) is RefusalReason.STORAGE_FULL
    fetched = gateway.one(Fetch(alice, True, 0, END, 54, 2**20, False))
    assert isinstance(fetched, Fetched)
    assert [piece.content for piece in pieces(fetched.page)] == [b"acknowledged"]
    worker.beside.run_script("DROP TRIGGER no_room ON mail_page")
    worker.engine.maintain(worker.now_ms)
    assert turns(worker) > 0, "not before a second has gone by"
    worker.now_ms += 1000
    worker.engine.maintain(worker.now_ms)
    assert (turns(worker), pages(worker)) == (0, 1)
    assert not isinstance(gateway.one(StoreMessage(alice, False, alice, 3, b"new")), Refused)
