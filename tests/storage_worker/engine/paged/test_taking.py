"""Mail that a slow flush has under way, while turns read it, delete it and bring more."""

from collections.abc import Iterator

import pytest

from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    SetBlock,
    Stored,
    StoreMessage,
)
from storage_worker.engine.errors import StoreFull
from storage_worker.engine.values import Admission
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker, pieces

END = 2**63 - 1
NEVER = 10**9
"""A patience: who wants the flush has to wait for it."""
KEEP_IN_MEMORY = 64 * 1024


class Case:
    """A gateway, alice, and what she has of a worker whose flushes go on until they are waited
    for.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.lives = 0
        self.open()
        [self.alice] = self.gateway.register("alice")
        self.flush()

    def open(self) -> None:
        self.lives += 1
        self.worker = PostgresWorker(self.url, patience=NEVER, seed=self.lives * 1_000_000)
        self.gateway = Gateway(self.worker, slot=self.lives)

    def flush(self) -> None:
        self.worker.engine.log.flush(self.worker.now_ms)

    def begin(self) -> None:
        self.worker.engine.log.begin_flush(self.worker.now_ms)
        assert self.worker.engine.log.is_flushing

    def settle(self) -> None:
        assert self.worker.engine.log.is_flushing
        self.worker.engine.log.settle(wait=True)
        assert not self.worker.engine.log.is_flushing

    def store(self, *contents: bytes) -> list[int]:
        return self.gateway.store(self.alice, self.alice, *contents)

    def contents(self, ack: int = 0) -> list[bytes]:
        fetched = self.gateway.one(Fetch(self.alice, True, ack, END, 54, 2**22, False))
        assert isinstance(fetched, Fetched)
        return [piece.content for piece in pieces(fetched.page)]

    def upload(self, content: bytes) -> None:
        *_, outcome = self.gateway.ask(
            BeginUpload(1, self.alice, True, self.alice, 4, len(content), None), Chunk(1, content), CommitUpload(1)
        )
        assert isinstance(outcome, Stored)

    def restart(self) -> None:
        self.worker.kill()
        self.open()

    def count(self, table: str) -> int:
        [(found,)] = self.worker.beside.rows(f"SELECT count(*) FROM {table}")
        return int(found)


@pytest.fixture
def case(postgres: PostgresServer) -> Case:
    return Case(postgres.empty_database())


@pytest.fixture(autouse=True)
def _end(case: Case) -> Iterator[None]:
    yield
    case.worker.kill()


def test_turns_go_on_and_see_what_is_under_way(case: Case) -> None:
    case.store(b"one", b"two")
    case.begin()
    assert case.contents() == [b"one", b"two"]
    case.store(b"three")
    assert case.contents() == [b"one", b"two", b"three"]
    assert case.worker.engine.mailboxes.load() == (1, 3, 11)
    assert case.count("mail_page") == 0, "not committed"
    case.settle()
    assert case.count("mail_page") == 1
    assert case.contents() == [b"one", b"two", b"three"]
    assert case.worker.engine.mailboxes.load() == (1, 3, 11)
    case.restart()
    assert case.contents() == [b"one", b"two", b"three"]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("deleted", [1, 2, 3, 4])
def test_what_is_deleted_meanwhile_stays_deleted(case: Case, deleted: int, restarts: bool) -> None:
    sequences = case.store(b"one", b"two", b"three")
    case.begin()
    sequences += case.store(b"four")
    left = [b"one", b"two", b"three", b"four"][deleted:]
    assert case.contents(ack=sequences[deleted - 1]) == left
    assert case.contents() == left
    case.settle()
    if restarts:
        case.restart()
    assert case.contents() == left
    case.flush()
    assert case.contents() == left
    [(messages,)] = case.worker.beside.rows("SELECT coalesce(sum(messages), 0)::bigint FROM mail_page")
    assert messages == len(left)


def test_what_was_deleted_before_and_meanwhile(case: Case) -> None:
    sequences = case.store(b"one", b"two", b"three", b"four")
    case.flush()
    case.contents(ack=sequences[0])
    case.begin()
    assert case.contents(ack=sequences[1]) == [b"three", b"four"]
    case.settle()
    assert case.contents() == [b"three", b"four"]
    case.flush()
    case.restart()
    assert case.contents() == [b"three", b"four"]


def test_a_large_content_that_is_fetched_meanwhile(case: Case) -> None:
    case.upload(bytes(KEEP_IN_MEMORY * 2))
    case.begin()
    [sequence] = [case.worker.rules.highest]
    assert case.contents() == [bytes(KEEP_IN_MEMORY * 2)]
    assert case.contents(ack=sequence) == []
    assert case.count("blob_piece") == 1, "the flush has a page that names it"
    case.settle()
    assert case.contents() == []
    assert case.worker.engine.log.is_flushing, "a content has to go"
    case.flush()
    assert (case.count("mail_page"), case.count("blob_piece")) == (0, 0)


def test_a_worker_that_is_killed_meanwhile_lost_nothing(case: Case) -> None:
    sequences = case.store(b"one", b"two")
    case.begin()
    case.store(b"three")
    case.contents(ack=sequences[0])
    case.restart()
    assert case.contents() == [b"two", b"three"]
    assert case.store(b"four")[0] > sequences[-1] + 1


def test_a_turn_that_is_undone_meanwhile_waits_for_the_flush(case: Case) -> None:
    case.store(b"one")
    case.begin()
    case.store(b"two")
    case.worker.rules.roll_back()
    assert not case.worker.engine.log.is_flushing
    assert case.contents() == [b"one", b"two"]
    case.flush()
    assert case.contents() == [b"one", b"two"]


def test_a_flush_that_found_no_room_is_made_again(case: Case) -> None:
    sequences = case.store(b"one", b"two")
    case.begin()
    case.store(b"three")
    case.contents(ack=sequences[0])
    case.worker.flusher.problem = StoreFull("no room")
    with pytest.raises(StoreFull):
        case.worker.engine.log.settle(wait=True)
    assert case.worker.engine.log.is_stuck
    assert case.worker.engine.mailboxes.unflushed_bytes > 0
    assert case.contents() == [b"two", b"three"]
    case.flush()
    assert case.worker.engine.prepare(case.worker.now_ms, 0, 0).level is Admission.OPEN
    assert case.contents() == [b"two", b"three"]
    case.restart()
    assert case.contents() == [b"two", b"three"]


def test_tokens_and_blocks_that_come_meanwhile(case: Case) -> None:
    [bob] = case.gateway.register("bob")
    first, second = bytes([1]) * 16, bytes([2]) * 16

    def sent(token: bytes) -> object:
        return case.gateway.one(StoreMessage(case.alice, True, bob, 3, b"x", token))

    before = sent(first)
    case.gateway.one(SetBlock(bob, True, case.alice, True))
    case.begin()
    meanwhile = sent(second)
    case.gateway.one(SetBlock(bob, True, case.alice, False))
    for _ in range(2):
        assert (sent(first), sent(second)) == (before, meanwhile)
        assert not case.worker.engine.blocks.holds(2, 1)
        case.settle() if case.worker.engine.log.is_flushing else case.flush()
    case.restart()
    assert (sent(first), sent(second)) == (before, meanwhile)
    assert not case.worker.engine.blocks.holds(2, 1)
