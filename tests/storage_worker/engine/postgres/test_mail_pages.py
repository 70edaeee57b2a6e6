"""Pages in the table: how many there are, what is cut off them, and what an altered one does."""

import pytest

from common.storage_protocol.operations import Fetch, Fetched, Refused
from common.values import RefusalReason
from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.records import MailRemoved
from storage_worker.engine.values import Admission
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker, pieces

END = 2**63 - 1
CONTENTS = [bytes([number]) * 1000 for number in range(40)]


@pytest.fixture
def alice(worker: PostgresWorker, gateway: Gateway) -> bytes:
    """A user, in row 1, with forty messages in pages."""
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, *CONTENTS)
    worker.engine.log.flush(worker.now_ms)
    return alice


def contents(gateway: Gateway, user: bytes) -> list[bytes]:
    fetched = gateway.one(Fetch(user, True, 0, END, 54, 2**20, False))
    assert isinstance(fetched, Fetched)
    return [piece.content for piece in pieces(fetched.page)]


def spans(worker: PostgresWorker) -> list[tuple[int, int, int]]:
    return [
        (row[0], row[1], row[2])
        for row in worker.beside.rows("SELECT first, last, messages FROM mail_page ORDER BY first")
    ]


def remove(worker: PostgresWorker, first: int, last: int) -> None:
    """These messages of row 1, in the tables too."""
    with worker.engine.turn(worker.now_ms, Admission.OPEN, registers=False):
        worker.engine.apply(MailRemoved(1, first, last))


def test_a_page_fits_into_a_block_of_the_server(worker: PostgresWorker, gateway: Gateway, alice: bytes) -> None:
    assert spans(worker) == [(first, min(first + 6, 40), min(7, 41 - first)) for first in range(1, 41, 7)]
    outside = worker.beside.rows(
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'mail_page'::regclass"
    )
    assert outside == [(0,)]
    assert contents(gateway, alice) == CONTENTS


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ([(1, 7)], [(8, 14, 7), (15, 21, 7)]),
        ([(3, 5)], [(1, 2, 2), (6, 7, 2), (8, 14, 7), (15, 21, 7)]),
        ([(2, 2), (4, 4), (6, 30)], [(1, 1, 1), (3, 3, 1), (5, 5, 1)]),
        ([(7, 8)], [(1, 6, 6), (9, 14, 6), (15, 21, 7)]),
        ([(2, 20)], [(1, 1, 1), (21, 21, 1)]),
        ([(1, 40)], []),
    ],
)
def test_removed_is_what_was_named(
    worker: PostgresWorker,
    gateway: Gateway,
    alice: bytes,
    gone: list[tuple[int, int]],
    left: list[tuple[int, int, int]],
) -> None:
    remove(worker, 22, 40)
    for first, last in gone:
        remove(worker, first, last)
    expected = [
        content
        for sequence, content in enumerate(CONTENTS[:21], 1)
        if not any(first <= sequence <= last for first, last in gone)
    ]
    assert contents(gateway, alice) == expected, "before the tables know"
    worker.engine.log.flush(worker.now_ms)
    assert spans(worker) == left
    assert contents(gateway, alice) == expected


def test_a_mailbox_of_many_pages_is_read_to_its_end(worker: PostgresWorker, gateway: Gateway) -> None:
    [bob] = gateway.register("bob")
    for _ in range(70):
        gateway.store(bob, bob, bytes(7000))
        worker.engine.log.flush(worker.now_ms)
    assert len(spans(worker)) == 70
    assert len(contents(gateway, bob)) == 70


class TestDamage:
    @pytest.fixture
    def altered(self, worker: PostgresWorker, alice: bytes) -> bytes:
        assert worker.beside.change("UPDATE mail_page SET entries = set_byte(entries, 500, 99) WHERE first = 8") == 1
        return alice

    def test_it_is_not_handed_out(self, worker: PostgresWorker, gateway: Gateway, altered: bytes) -> None:
        first = gateway.one(Fetch(altered, True, 0, END, 54, 2**20, False))
        assert isinstance(first, Refused)
        assert first.reason == RefusalReason.DAMAGED
        assert contents(gateway, altered) == CONTENTS[:7], "the next one ends before it"
        with pytest.raises(StoreDamaged, match=r"the mailbox of 'alice' \(5a0.*7 messages, 8 to 14"):
            worker.engine.mailboxes.read(1, 8, 0, 14, 2**20)

    def test_a_part_of_it_stays_and_all_of_it_goes(self, worker: PostgresWorker, altered: bytes) -> None:
        remove(worker, 1, 10)
        worker.engine.log.flush(worker.now_ms)
        assert spans(worker)[0] == (8, 14, 7)
        remove(worker, 8, 14)
        worker.engine.log.flush(worker.now_ms)
        assert spans(worker)[0] == (15, 21, 7)
