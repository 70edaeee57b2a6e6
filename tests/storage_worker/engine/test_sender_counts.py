"""The counts of a mailbox's senders: added to, reduced, and restarted if they can't be right."""

from common.storage_protocol.message_format import Entry, pack_entry
from storage_worker.engine.sender_counts import SenderCounts
from storage_worker.engine.values import MailboxStats

ALICE, BOB = b"a" * 16, b"b" * 16
DROPPED = MailboxStats(2, 10)


def entry(sender: bytes, content: bytes = b"xy") -> bytes:
    return pack_entry(Entry(sender, bytes(16), 1, 0, 0, 3, len(content), content))


def test_messages_are_counted_by_sender_and_taken_off_again() -> None:
    counts = SenderCounts(DROPPED)
    counts.add(entry(ALICE) + entry(BOB, b"") + entry(ALICE, b"z"))
    assert counts.counts() == {ALICE: MailboxStats(2, 3), BOB: MailboxStats(1, 0)}
    assert (counts.of(ALICE), counts.of(b"c" * 16)) == ((2, 3), (0, 0))
    counts.take(entry(BOB, b"") + entry(ALICE))
    assert counts.counts() == {ALICE: MailboxStats(1, 1)}


def test_what_was_not_counted_begins_again() -> None:
    counts = SenderCounts(DROPPED)
    counts.add(entry(ALICE) * 2)
    counts.completed(5)
    counts.take(entry(ALICE))
    assert counts.counts() == {ALICE: MailboxStats(1, 2)}
    counts.take(entry(BOB))
    assert (counts.counts(), counts.counted_to, counts.complete) == ({}, 0, False)


def test_what_arrived_meanwhile_is_forgotten_once_all_is_counted() -> None:
    counts = SenderCounts(DROPPED)
    counts.arrived[ALICE] = [1, 2]
    counts.completed(3)
    assert (counts.complete, counts.counted_to, counts.arrived) == (True, 3, {})


def test_a_mailbox_that_is_nearly_empty_needs_none() -> None:
    counts = SenderCounts(DROPPED)
    assert counts.is_needless(2, 10)
    assert not counts.is_needless(3, 0)
    assert not counts.is_needless(0, 11)
