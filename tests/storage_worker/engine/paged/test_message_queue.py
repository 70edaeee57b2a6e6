"""Mailboxes, partly in the database's pages and partly in memory alone: one order, whatever is
where.
"""

import pytest

from common.storage_protocol.message_format import walk
from common.storage_protocol.operations import Settle
from storage_worker.engine.paged.message_queue import ENVELOPE_IN_PAGE, MessageQueue
from storage_worker.engine.values import MailboxStats, Span
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker

CONTENTS = (b"one", b"two!", b"three", b"four..", b"five...")


@pytest.fixture(params=["flushed", "half", "unflushed"])
def bob(request: pytest.FixtureRequest, worker: SqliteWorker, gateway: Gateway) -> bytes:
    """A user, in row 2, with five messages of 3 to 7 bytes."""
    alice, bob = gateway.register("alice", "bob")
    gateway.store(alice, bob, *CONTENTS[:3])
    if request.param != "unflushed":
        worker.flush()
    gateway.store(alice, bob, *CONTENTS[3:])
    if request.param == "flushed":
        worker.flush()
    return bob


@pytest.fixture
def queue(worker: SqliteWorker, bob: bytes) -> MessageQueue:
    return worker.engine.mailboxes


def contents(queue: MessageQueue, first: int, last: int) -> list[bytes]:
    return [entry.content for entry in walk(queue.read(2, first, 0, last, 10**6).entries)]


def test_a_mailbox_counts_what_is_pending(queue: MessageQueue) -> None:
    box = queue.mailbox(2)
    assert (box.messages, box.content_bytes) == (5, 25)
    assert queue.mailbox(2) is box
    assert queue.is_current(box)
    queue.charge(2, 1, 100)
    assert (box.messages, box.content_bytes) == (6, 125)
    queue.charge(2, -1, -100)
    assert (box.messages, box.content_bytes) == (5, 25)


def test_messages_are_read_in_their_order(queue: MessageQueue) -> None:
    assert contents(queue, 1, 5) == list(CONTENTS)
    assert contents(queue, 2, 4) == list(CONTENTS[1:4])
    assert contents(queue, 6, 9) == []


def test_a_span_has_whole_messages_and_at_least_one(queue: MessageQueue) -> None:
    assert queue.span(2, 1, 9, 10**6, 0) == Span(1, 5, 5, 25)
    assert queue.span(2, 2, 9, 9, 0) == Span(2, 3, 2, 9)
    assert queue.span(2, 2, 9, 9 + 3, 4) == Span(2, 2, 1, 4), "an envelope counts"
    assert queue.span(2, 5, 9, 0, 100) == Span(5, 5, 1, 7), "however small the room is"
    assert queue.span(2, 6, 9, 10**6, 0) is None


def test_the_oldest_between(queue: MessageQueue) -> None:
    assert queue.oldest(2, 0, 9) == 1
    assert queue.oldest(2, 3, 9) == 4
    assert queue.oldest(2, 3, 4) is None
    assert queue.oldest(2, 5, 9) is None


def test_what_is_removed_is_not_there_for_anybody(
    queue: MessageQueue, worker: SqliteWorker, gateway: Gateway, bob: bytes
) -> None:
    gateway.ask(Settle(1, bob, False, 2, 3))
    assert contents(queue, 1, 5) == [CONTENTS[0], *CONTENTS[3:]]
    assert (queue.mailbox(2).messages, queue.mailbox(2).content_bytes) == (3, 16)
    assert queue.oldest(2, 1, 9) == 4
    worker.flush()
    assert contents(queue, 1, 5) == [CONTENTS[0], *CONTENTS[3:]]
    assert (queue.mailbox(2).messages, queue.mailbox(2).content_bytes) == (3, 16)


def test_senders_are_counted_wherever_their_messages_are(queue: MessageQueue) -> None:
    counts, _ = queue.count_senders(2, MailboxStats(0, 0), 10_000)
    assert counts.complete
    assert list(counts.counts().values()) == [MailboxStats(5, 25)]
    assert queue.mailbox(2).is_counted
    assert queue.count_senders(2, MailboxStats(0, 0), 10_000)[0] is counts


def test_a_number_of_a_blob_is_given_once(queue: MessageQueue) -> None:
    assert queue.new_blob_id() < queue.new_blob_id() < queue.new_blob_id()


def test_a_page_ends_before_a_block_that_does_not_fit_whole(worker: SqliteWorker, gateway: Gateway) -> None:
    alice, bob = gateway.register("alice", "bob")
    queue = worker.engine.mailboxes
    for _ in range(2):
        gateway.store(alice, bob, *CONTENTS)
        worker.flush()
    # Of 25 bytes and what four messages cost besides, each.
    block = 25 + 4 * ENVELOPE_IN_PAGE
    assert queue.read(2, 1, 0, 10, 2 * block).last == 5, "the second one is one envelope too large"
    assert queue.read(2, 6, 0, 10, 2 * block).last == 10
    assert queue.read(2, 1, 0, 10, 2 * block + ENVELOPE_IN_PAGE).last == 10
    assert queue.read(2, 1, 0, 10, block - 1).last == 4, "something has to come"
