"""One sender's share of a crowded mailbox: the bounds, the counts step by step, and the
counts against naive ones.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    MarkAuthenticated,
    MessagesStored,
    Operation,
    Outcome,
    Refused,
    RefusedFrame,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadProgress,
    UploadUnknown,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.paged import message_queue
from storage_worker.engine.paged.mailboxes import Mailbox
from storage_worker.engine.sender_counts import SenderCounts
from storage_worker.engine.values import Admission, Capacity, MailboxStats
from storage_worker.rules import admission
from storage_worker.rules.admission import Limits
from storage_worker.state.sender_usage import Bounds, bounds_of
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker

Open = Callable[..., SqliteWorker]
FULL = Refused(Reason.MAILBOX_FULL, 30)
SHARE = Refused(Reason.SENDER_SHARE, 30)


def send(sender: bytes, recipient: bytes, size: int = 0) -> StoreMessage:
    return StoreMessage(sender, False, recipient, 3, bytes(size))


def run_of(sender: bytes, recipient: bytes, number: int) -> StoreMessages:
    return StoreMessages(False, pack_frame(sender, recipient, 3, b"") * number)


def box_of(worker: SqliteWorker, user: int) -> Mailbox:
    return worker.engine.mailboxes.mailbox(user)


def counts_of(worker: SqliteWorker, user: int) -> SenderCounts:
    counts = box_of(worker, user).counts
    assert counts is not None
    return counts


class TestBounds:
    @pytest.mark.parametrize(
        ("messages", "percent", "expected"),
        [
            (1_000_000, 12, (500_000, 120_000, 250_000)),
            (1, 12, (1, 1, 0)),
            (2, 12, (1, 1, 0)),
            (3, 12, (2, 1, 1)),
            (10, 20, (5, 2, 2)),
            (10, 29, (5, 2, 2)),
            (10, 99, (5, 9, 2)),
            (10, 100, (10, 10, 10)),
        ],
    )
    def test_of_messages(self, messages: int, percent: int, expected: tuple[int, int, int]) -> None:
        bounds = bounds_of(messages, 1000, percent)
        assert (bounds.calm.messages, bounds.share.messages, bounds.dropped.messages) == expected

    def test_of_bytes(self) -> None:
        assert bounds_of(1, 1001, 12) == Bounds(MailboxStats(1, 501), MailboxStats(1, 120), MailboxStats(0, 250))


class TestSmallMailboxes:
    """Half is rounded up, and nobody's share is less than one message."""

    @pytest.mark.parametrize(("messages", "alone"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
    def test_one_sender_keeps_nobody_out(self, open_worker: Open, messages: int, alone: int) -> None:
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=messages)))
        bob, *senders = gateway.register("bob", "a", "b", "c", "d", "e")
        outcomes = [gateway.one(send(senders[0], bob)) for _ in range(messages)]
        assert outcomes == [Stored(n + 1) for n in range(alone)] + [SHARE] * (messages - alone)
        others = [gateway.one(send(sender, bob)) for sender in senders[1 : 1 + messages - alone]]
        assert all(isinstance(outcome, Stored) for outcome in others), "everybody else may bring one"
        assert gateway.one(send(senders[0], bob)) == FULL, "which is said first, for it is why nobody may"

    def test_one_message_however_large(self, open_worker: Open) -> None:
        gateway = Gateway(open_worker(limits=Limits(largest_message=100, mailbox_bytes=100)))
        alice, bob = gateway.register("alice", "bob")
        assert gateway.one(send(alice, bob, 90)) == Stored(1)
        assert gateway.one(send(alice, bob, 1)) == SHARE
        assert gateway.one(send(bob, bob, 10)) == Stored(2)
        assert gateway.one(send(alice, bob, 0)) == SHARE


class TestCounts:
    def test_are_there_only_while_a_mailbox_is_crowded(self, open_worker: Open) -> None:
        worker = open_worker(limits=Limits(mailbox_messages=12))
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        gateway.ask(MarkAuthenticated(bob))
        gateway.store(alice, bob, *[b"x"] * 6)
        assert box_of(worker, 2).counts is None
        assert gateway.one(send(alice, bob)) == SHARE
        gateway.store(carol, bob, b"yy")
        assert gateway.one(send(carol, bob)) == SHARE
        assert counts_of(worker, 2).counts() == {alice: MailboxStats(6, 6), carol: MailboxStats(1, 2)}
        gateway.ask(Fetch(bob, True, 2, 0, 54, 0, False))
        assert counts_of(worker, 2).counts() == {alice: MailboxStats(4, 4), carol: MailboxStats(1, 2)}
        # Below half nobody counts; what comes is counted when it is needed again.
        assert gateway.one(send(alice, bob)) == Stored(8)
        assert gateway.one(send(alice, bob)) == SHARE
        assert counts_of(worker, 2).counts() == {alice: MailboxStats(5, 4), carol: MailboxStats(1, 2)}
        gateway.ask(Fetch(bob, True, 5, 0, 54, 0, False))
        assert box_of(worker, 2).counts is None

    def test_survive_the_database_and_a_restart(self, open_worker: Open) -> None:
        limits = Limits(mailbox_messages=12)
        worker = open_worker(limits=limits)
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, *[b"x"] * 4)
        worker.flush()
        gateway.store(alice, bob, *[b"x"] * 2)
        assert gateway.one(send(alice, bob)) == SHARE
        worker.flush()
        assert gateway.one(send(alice, bob)) == SHARE
        assert gateway.one(send(bob, bob)) == Stored(7)
        worker.kill()
        worker = open_worker(limits=limits)
        gateway = Gateway(worker)
        assert box_of(worker, 2).counts is None
        assert [gateway.one(send(alice, bob)), gateway.one(send(bob, bob))] == [SHARE, SHARE]
        assert counts_of(worker, 2).counts() == {alice: MailboxStats(6, 6), bob: MailboxStats(1, 0)}

    def test_of_a_run(self, open_worker: Open) -> None:
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=100, sender_share=20)))
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        outcome = gateway.one(run_of(alice, bob, 60))
        assert outcome == MessagesStored(1, [RefusedFrame(n, Reason.SENDER_SHARE, 30) for n in range(50, 60)])
        outcome = gateway.one(run_of(carol, bob, 30))
        assert outcome == MessagesStored(51, [RefusedFrame(n, Reason.SENDER_SHARE, 30) for n in range(20, 30)])
        outcome = gateway.one(run_of(bob, bob, 20))
        assert outcome == MessagesStored(71, [])

    def test_are_made_in_steps_between_turns_too(self, open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission, "COUNTING", 20)
        worker = open_worker(limits=Limits(mailbox_messages=400, sender_share=20))
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        for _ in range(10):
            gateway.store(alice, bob, *[b""] * 20)
            worker.flush()
        # One eighth of a share of 80 may come while it is not known how much is there already.
        outcome = gateway.one(run_of(alice, bob, 20))
        assert outcome == MessagesStored(201, [RefusedFrame(n, Reason.SENDER_SHARE, 30) for n in range(10, 20)])
        assert isinstance(gateway.one(send(carol, bob)), Stored)
        counts = counts_of(worker, 2)
        assert 0 < counts.counts()[alice].messages < 200
        steps = 0
        while worker.processor.has_waiting:
            worker.now_ms += 2000
            worker.processor.maintain(worker.now_ms)
            steps += 1
        assert steps > 3
        assert counts.counts() == {alice: MailboxStats(210, 0), carol: MailboxStats(1, 0)}
        assert gateway.one(send(alice, bob)) == SHARE

    def test_are_complete_where_the_last_page_is_the_last_step(
        self, open_worker: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "COUNTING", 1)
        worker = open_worker(limits=Limits(mailbox_messages=12))
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        for _ in range(6):
            gateway.store(alice, bob, b"x")
            worker.flush()
        assert gateway.one(send(alice, bob)) == SHARE, "what is counted so far is enough"
        assert not counts_of(worker, 2).complete
        worker.flush()
        for _ in range(10):
            worker.processor.maintain(worker.now_ms)
        assert counts_of(worker, 2).complete
        assert not worker.processor.has_waiting

    def test_that_fall_behind_let_a_part_of_the_share_pass(
        self, open_worker: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = open_worker(limits=Limits(mailbox_messages=400, sender_share=20))
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        assert gateway.one(run_of(carol, bob, 200)) == MessagesStored(1, [])
        assert gateway.one(run_of(alice, bob, 20)) == MessagesStored(201, [])
        worker.flush()
        monkeypatch.setattr(admission, "COUNTING", 0)
        outcome = gateway.one(run_of(alice, bob, 50))
        assert outcome == MessagesStored(221, [RefusedFrame(n, Reason.SENDER_SHARE, 30) for n in range(10, 50)])
        monkeypatch.undo()
        outcome = gateway.one(run_of(alice, bob, 60))
        assert outcome == MessagesStored(231, [RefusedFrame(n, Reason.SENDER_SHARE, 30) for n in range(50, 60)])

    def test_begin_again_where_much_goes_at_a_time(self, open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(message_queue, "MOST_UNCOUNTED", 30)
        worker = open_worker(limits=Limits(mailbox_messages=12))
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        for sender in [alice] * 6 + [carol]:
            gateway.store(sender, bob, b"x")
            worker.flush()
        assert gateway.one(send(carol, bob)) == SHARE
        assert counts_of(worker, 2).counted_to == 7
        gateway.ask(Settle(1, bob, False, 1, 3))
        assert (counts_of(worker, 2).counted_to, counts_of(worker, 2).counts()) == (0, {})
        gateway.store(alice, bob, b"x", b"x")
        assert gateway.one(send(alice, bob)) == SHARE
        assert counts_of(worker, 2).counts() == {alice: MailboxStats(5, 5), carol: MailboxStats(1, 1)}

    def test_leave_out_what_is_altered(self, open_worker: Open) -> None:
        limits = Limits(mailbox_messages=12)
        worker = open_worker(limits=limits)
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        gateway.store(alice, bob, *[b"x"] * 3)
        worker.flush()
        gateway.store(carol, bob, *[b"x"] * 3)
        worker.flush()
        with worker.database.transaction():
            worker.database.execute("UPDATE mail_page SET entries = zeroblob(length(entries)) WHERE first = 1")
        assert gateway.one(send(carol, bob)) == SHARE
        assert gateway.one(send(alice, bob)) == Stored(7), "nobody can tell that he holds more"
        assert gateway.one(send(alice, bob)) == SHARE
        assert counts_of(worker, 2).counts() == {alice: MailboxStats(1, 0), carol: MailboxStats(3, 3)}
        gateway.ask(Settle(1, bob, False, 1, 3))
        assert counts_of(worker, 2).counts() == {}, "it was not among what was counted"
        gateway.store(bob, bob, b"", b"")
        assert gateway.one(send(carol, bob)) == SHARE
        assert counts_of(worker, 2).counts() == {
            alice: MailboxStats(1, 0),
            carol: MailboxStats(3, 3),
            bob: MailboxStats(2, 0),
        }


class CountsMachine(RuleBasedStateMachine):
    """Two mailboxes under three senders, beside dictionaries.

    `work`: what a turn may count; where it is enough for everything each outcome is foretold.
    """

    LIMITS = Limits(largest_message=99, mailbox_messages=16, mailbox_bytes=400, sender_share=25)
    work = 10**9

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.before = admission.COUNTING, message_queue.MOST_UNCOUNTED
        admission.COUNTING = message_queue.MOST_UNCOUNTED = self.work  # type: ignore[misc]
        self.numbers = count(1)
        self.lives = count(1)
        self.now_ms = 10**9
        self.open()
        self.users = list(self.gateway.register("a", "b", "c"))
        self.gateway.ask(*[MarkAuthenticated(user) for user in self.users[:2]])
        self.mailboxes: list[dict[int, tuple[bytes, int]]] = [{}, {}]

    def open(self) -> None:
        self.worker = SqliteWorker(
            Path(self.folder.name), limits=self.LIMITS, seed=next(self.lives) * 10**6, now_ms=self.now_ms
        )
        self.gateway = Gateway(self.worker)

    def teardown(self) -> None:
        admission.COUNTING, message_queue.MOST_UNCOUNTED = self.before  # type: ignore[misc]
        self.worker.kill()
        self.folder.cleanup()

    def foretold(self, sender: int, box: int, size: int) -> Outcome | None:
        """What refuses a message, where anything does."""
        mailbox = self.mailboxes[box]
        total = sum([size for _, size in mailbox.values()]) + size
        if len(mailbox) >= 16 or total > 400:
            return FULL
        mine = [size for user, size in mailbox.values() if user == self.users[sender]]
        crowded = len(mailbox) >= 8 or total > 200
        return SHARE if crowded and mine and (len(mine) >= 4 or sum(mine) + size > 100) else None

    def note(self, sender: int, box: int, size: int, outcome: Outcome) -> None:
        foretold = self.foretold(sender, box, size)
        if isinstance(outcome, Stored):
            # What is not counted yet may let somebody exceed his share, and nobody the mailbox.
            assert foretold is None or (foretold == SHARE and not self.complete[box])
            self.mailboxes[box][outcome.sequence] = (self.users[sender], size)
        else:
            assert outcome == foretold or (outcome == SHARE and foretold is None and not self.complete[box])

    def ask(self, *operations: Operation) -> list[Outcome]:
        self.worker.now_ms += 700
        self.complete = [self.work > 10**6] * 2
        return self.gateway.ask(*operations)

    def send_operation(self, sender: int, box: int, size: int) -> Operation:
        return StoreMessage(self.users[sender], sender < 2, self.users[box], 3, bytes(size))

    sends = st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from([0, 0, 1, 70, 99])),
        min_size=1,
        max_size=6,
    )

    @rule(sends=sends)
    def store(self, sends: list[tuple[int, int, int]]) -> None:
        for send_, outcome in zip(sends, self.ask(*[self.send_operation(*one) for one in sends]), strict=True):
            self.note(*send_, outcome)

    @rule(sends=sends, authenticated=st.booleans())
    def store_run(self, sends: list[tuple[int, int, int]], authenticated: bool) -> None:
        frames = [pack_frame(self.users[sender], self.users[box], 3, bytes(size)) for sender, box, size in sends]
        [outcome] = self.ask(StoreMessages(authenticated, b"".join(frames)))
        assert isinstance(outcome, MessagesStored)
        refused = {frame.index: Refused(frame.reason, frame.retry_after) for frame in outcome.refused}
        sequence = outcome.first
        for index, (sender, box, size) in enumerate(sends):
            if sender < 2 and not authenticated:
                assert refused[index] == Refused(Reason.PROOF_NEEDED)
                continue
            self.note(sender, box, size, refused.get(index, Stored(sequence)))
            sequence += index not in refused

    @rule(sender=st.integers(0, 2), box=st.integers(0, 1), size=st.sampled_from([0, 1, 70, 99]))
    def upload(self, sender: int, box: int, size: int) -> None:
        number = next(self.numbers)
        user, mailbox = self.users[sender], self.users[box]
        begun, chunk, outcome = self.ask(
            BeginUpload(number, user, sender < 2, mailbox, 4, size),
            Chunk(number, bytes(size)),
            CommitUpload(number),
        )
        if not isinstance(begun, UploadProgress):
            assert (chunk, outcome) == (UploadUnknown(), UploadUnknown())
            outcome = begun
        elif chunk == SHARE:
            # Counting went on meanwhile, and found so many of the sender's messages.
            assert outcome == UploadUnknown()
            assert self.foretold(sender, box, size) == SHARE
            assert not self.complete[box]
            outcome = chunk
        else:
            assert chunk == UploadProgress(size)
        self.note(sender, box, size, outcome)

    @rule(sender=st.integers(0, 2), box=st.integers(0, 1), sends=sends)
    def undone(self, sender: int, box: int, sends: list[tuple[int, int, int]]) -> None:
        worker = self.worker.rules
        worker.begin(self.worker.now_ms, Capacity(Admission.OPEN, 2**40, is_damaged=False))
        worker.apply(0, [self.send_operation(*one) for one in sends])
        waiting = sorted(self.mailboxes[box])
        worker.apply(0, [Settle(1, self.users[box], True, 0, waiting[len(waiting) // 2] if waiting else 9)])
        worker.roll_back()

    @rule(box=st.integers(0, 1), part=st.integers(1, 4), proof=st.booleans())
    def delete(self, box: int, part: int, proof: bool) -> None:
        waiting = sorted(self.mailboxes[box])[: 4 * part]
        if not waiting:
            return
        first = waiting[0] if proof else waiting[len(waiting) // 2]
        self.ask(
            Fetch(self.users[box], True, waiting[-1], 0, 54, 0, False)
            if proof
            else Settle(1, self.users[box], True, first, waiting[-1])
        )
        for sequence in [sequence for sequence in waiting if sequence >= first]:
            del self.mailboxes[box][sequence]

    @rule()
    def flush(self) -> None:
        self.worker.flush()

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        self.now_ms = self.worker.now_ms
        self.worker.close() if orderly else self.worker.kill()
        self.open()

    @invariant()
    def counts_are_right(self) -> None:
        for number, mailbox in enumerate(getattr(self, "mailboxes", [])):
            box = box_of(self.worker, number + 1)
            assert (box.messages, box.content_bytes) == (len(mailbox), sum([size for _, size in mailbox.values()]))
            if box.counts is None:
                continue
            messages: Counter[bytes] = Counter()
            content_bytes: Counter[bytes] = Counter()
            for sequence, (user, size) in mailbox.items():
                if sequence <= box.counts.counted_to:
                    messages[user] += 1
                    content_bytes[user] += size
            assert box.counts.counts() == {user: MailboxStats(messages[user], content_bytes[user]) for user in messages}


class SlowCountsMachine(CountsMachine):
    """The same where a turn may count about one page."""

    work = 30


def test_an_upload_is_refused_as_soon_as_its_sender_is_counted() -> None:
    machine = SlowCountsMachine()
    try:
        # A turn counts the pages one by one, and what is in memory last.
        machine.upload(sender=0, box=1, size=0)
        machine.store(sends=[(0, 1, 0)] * 2)
        machine.upload(sender=1, box=1, size=0)
        machine.flush()
        machine.store(sends=[(0, 1, 0)] * 4)
        user, mailbox = machine.users[0], machine.users[1]
        begun, chunk, committed = machine.ask(
            BeginUpload(99, user, True, mailbox, 4, 0), Chunk(99, b""), CommitUpload(99)
        )
        assert (begun, chunk, committed) == (UploadProgress(0), SHARE, UploadUnknown())
        machine.counts_are_right()
    finally:
        machine.teardown()


TestCountsMachine = CountsMachine.TestCase
TestCountsMachine.settings = settings(max_examples=15, stateful_step_count=40, suppress_health_check=list(HealthCheck))
TestSlowCountsMachine = SlowCountsMachine.TestCase
TestSlowCountsMachine.settings = TestCountsMachine.settings
