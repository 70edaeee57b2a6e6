"""Messages that are accepted: one by one, in runs, and under a token."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.storage_protocol.frames import BatchRefused
from common.storage_protocol.message_format import pack_frame, pack_frame_once
from common.storage_protocol.operations import (
    BeginUpload,
    MarkAuthenticated,
    MessagesStored,
    Outcome,
    PublishKeys,
    PullPage,
    Refused,
    RepeatedFrame,
    SetBlock,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.paged.send_tokens import TOKEN_LIFE_MS, TOKENS_PER_SENDER
from storage_worker.engine.sqlite.mail_pages import PAGE_BYTES
from storage_worker.rules.admission import Limits
from tests.storage_worker.rules.asking import NOBODY, TOKEN, after, contents, fetch, tokens_kept, waiting
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, pieces, the_one


class TestStoreMessage:
    def test_what_is_stored_is_fetched(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        worker.now_ms = 1_234_567
        [sequence] = gateway.store(alice, bob, b"hello")
        leased = fetch(gateway, bob)
        [piece] = pieces(leased.page)
        assert (piece.sequence, piece.sender, piece.accepted_at, piece.authenticated) == (
            sequence,
            alice,
            1_234_567,
            False,
        )
        assert (piece.kind, piece.size, piece.offset, piece.content) == (3, 5, 0, b"hello")
        assert (leased.first, leased.last, leased.count, leased.content_bytes) == (sequence, sequence, 1, 5)

    def test_every_message_gets_a_token_of_its_own(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        for _ in range(3):
            gateway.store(alice, alice, *[b"x"] * 1000)
        assert len({piece.token for piece in pieces(fetch(gateway, alice, page_bytes=2**30).page)}) == 3000

    def test_sequences_grow_by_order_and_are_never_used_again(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        assert gateway.store(alice, bob, b"a", b"b") == [1, 2]
        leased = fetch(gateway, bob)
        gateway.ask(Settle(1, bob, False, leased.first, leased.last))
        worker.close()
        worker = open_worker()
        assert Gateway(worker).store(bob, alice, b"c") == [3]

    def test_unknown_recipient(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(StoreMessage(alice, False, NOBODY, 3, b"")) is Reason.RECIPIENT_UNKNOWN

    @pytest.mark.parametrize("kind", [0, 5, 255])
    def test_kind(self, gateway: Gateway, kind: int) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(StoreMessage(alice, False, alice, kind, b"")) is Reason.MALFORMED
        assert gateway.refused(BeginUpload(1, alice, False, alice, kind, 0)) is Reason.MALFORMED

    def test_size(self, open_worker: Callable[..., SqliteWorker]) -> None:
        gateway = Gateway(open_worker(limits=Limits(largest_message=10)))
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, bytes(10))
        assert gateway.refused(StoreMessage(alice, False, alice, 3, bytes(11))) is Reason.TOO_LARGE
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 11)) is Reason.TOO_LARGE

    @pytest.mark.parametrize("size", [0, 1, PAGE_BYTES, PAGE_BYTES + 1, 12 * PAGE_BYTES + 7])
    def test_any_size_comes_back(self, worker: SqliteWorker, gateway: Gateway, size: int) -> None:
        [alice] = gateway.register("alice")
        content = bytes(number * 7 % 251 for number in range(size))
        [sequence] = gateway.store(alice, alice, content)
        assert contents(fetch(gateway, alice, page_bytes=2**30).page) == [content]
        gateway.ask(Settle(1, alice, False, sequence, sequence))
        assert waiting(worker) == 0

    def test_many_mailboxes_are_weighed_anew(
        self, worker: SqliteWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage_worker.engine.paged.message_queue.MAILBOXES_KEPT", 2)
        ids = list(gateway.register("a", "b", "c", "d"))
        for sender in ids:
            for recipient in ids:
                gateway.store(sender, recipient, b"x")
            worker.flush()
        assert waiting(worker) == 16
        assert fetch(gateway, ids[0]).count == 4


class TestStoreRun:
    """A run is what `StoreMessage` does, one by one, without a token."""

    def frames(self, *messages: tuple[bytes, bytes, int, bytes]) -> bytes:
        return b"".join([pack_frame(*message) for message in messages])

    @pytest.mark.parametrize("share", [1, 50, 67, 100])
    def test_a_run_and_the_same_one_by_one_give_the_same(
        self, open_worker: Callable[..., SqliteWorker], share: int
    ) -> None:
        worker = open_worker(
            limits=Limits(largest_message=100, mailbox_messages=3, mailbox_bytes=150, sender_share=share)
        )
        gateway = Gateway(worker)
        alice, bob, carol, dave = gateway.register("alice", "bob", "carol", "dave")
        gateway.ask(MarkAuthenticated(dave))
        for authenticated in (False, True):
            for pair in ((alice, bob), (bob, carol)):
                sender, recipient = pair
                messages = [
                    (sender, recipient, 3, b"a" * 60), (NOBODY, recipient, 3, b"b"), (sender, NOBODY, 3, b"c"),
                    (sender, recipient, 0, b"d"), (sender, recipient, 5, b"e"), (sender, recipient, 4, b"f" * 101),
                    (dave, recipient, 3, b"g" * 60), (sender, recipient, 1, b""), (sender, recipient, 3, b"h" * 60),
                    (sender, recipient, 2, b"i"), (dave, dave, 3, b"j"), (sender, recipient, 3, b"k"),
                ]  # fmt: skip
                outcome = gateway.one(StoreMessages(authenticated, self.frames(*messages)))
                mine = fetch(gateway, recipient, page_bytes=2**30)
                gateway.ask(Settle(mine.first, recipient, False, mine.first, mine.last))
                daves = after(gateway, dave, 0) if authenticated else None
                if daves is not None:
                    after(gateway, dave, daves.last)
                outcomes = gateway.ask(
                    *[StoreMessage(who, authenticated, whom, kind, content) for who, whom, kind, content in messages]
                )
                assert isinstance(outcome, MessagesStored)
                refused = {frame.index: Refused(frame.reason, frame.retry_after) for frame in outcome.refused}
                sequence = outcome.first
                for index, expected in enumerate(outcomes):
                    assert refused.get(index, "stored") == (expected if isinstance(expected, Refused) else "stored")
                    sequence += index not in refused
                assert sequence == outcome.first + len(messages) - len(refused)
                again = fetch(gateway, recipient, page_bytes=2**30)
                assert contents(again.page) == contents(mine.page)
                for one, other in zip(pieces(again.page), pieces(mine.page), strict=True):
                    assert (one.sender, one.kind, one.authenticated) == (other.sender, other.kind, other.authenticated)
                gateway.ask(Settle(again.first, recipient, False, again.first, again.last))

    @pytest.mark.parametrize("flushed", [False, True])
    def test_a_restart_changes_nothing(self, open_worker: Callable[..., SqliteWorker], flushed: bool) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        run = [(alice, bob, 3, bytes([n]) * n) for n in range(50)]
        run[7] = (alice, NOBODY, 3, b"nobody's")
        outcome = gateway.one(StoreMessages(False, self.frames(*run)))
        gateway.ask(Settle(1, bob, False, 10, 20))
        before = gateway.one(PullPage(bob, False, 0, 0, 2**62, 2**30))
        if flushed:
            worker.flush()
        worker.kill()
        gateway.worker = open_worker()
        assert gateway.one(PullPage(bob, False, 0, 0, 2**62, 2**30)) == before
        assert isinstance(outcome, MessagesStored)
        [sequence] = gateway.store(alice, bob, b"next")
        assert sequence >= outcome.first + 49

    def test_every_message_gets_a_token_of_its_own(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        for _ in range(3):
            gateway.ask(StoreMessages(False, self.frames(*[(alice, alice, 3, b"x")] * 1000)))
        assert len({piece.token for piece in pieces(fetch(gateway, alice, page_bytes=2**30).page)}) == 3000

    @pytest.mark.parametrize("cut", [1, 43, 44, 46])
    def test_a_run_that_is_cut_off_refuses_its_batch(self, worker: SqliteWorker, gateway: Gateway, cut: int) -> None:
        [alice] = gateway.register("alice")
        frame = pack_frame(alice, alice, 3, b"abc")
        batch = gateway.next_batch(
            StoreMessage(alice, False, alice, 3, b"x"), StoreMessages(False, frame + frame[:cut])
        )
        the_one(BatchRefused, worker.handle(batch))
        assert fetch(gateway, alice).count == 0

    def test_an_empty_run(self, gateway: Gateway) -> None:
        assert gateway.one(StoreMessages(False, b"")) == MessagesStored(1, [])
        assert gateway.one(StoreMessagesOnce(True, b"")) == MessagesStored(1, [])


class TestStoreRunOnce:
    """A run with tokens is what `StoreMessage` does, one by one."""

    @pytest.mark.parametrize("share", [1, 50, 67, 100])
    @pytest.mark.parametrize("authenticated", [False, True])
    def test_a_run_and_the_same_one_by_one_give_the_same(self, tmp_path: Path, share: int, authenticated: bool) -> None:
        limits = Limits(largest_message=100, mailbox_messages=3, mailbox_bytes=150, sender_share=share)
        found = []
        for as_run in (True, False):
            folder = tmp_path / str(as_run)
            folder.mkdir()
            worker = SqliteWorker(folder, limits=limits)
            gateway = Gateway(worker)
            alice, bob, dave = gateway.register("alice", "bob", "dave")
            gateway.ask(MarkAuthenticated(dave), PublishKeys(dave, True, False, b"bundle", b""))
            gateway.ask(MarkAuthenticated(bob), SetBlock(bob, True, alice, True), SetBlock(bob, True, alice, False))
            gateway.ask(SetBlock(dave, True, alice, True))
            sends = [
                (alice, b"1", bob, 3, b"a" * 60), (NOBODY, b"1", bob, 3, b"b"), (alice, b"2", NOBODY, 3, b"c"),
                (alice, b"3", bob, 0, b"d"), (alice, b"4", bob, 5, b"e"), (alice, b"5", bob, 4, b"f" * 101),
                (dave, b"1", bob, 3, b"g" * 60), (alice, b"6", bob, 1, b""), (alice, b"1", bob, 3, b"a" * 60),
                (alice, b"1", bob, 3, b"other"), (bob, b"1", dave, 5, b"sealed"), (alice, b"7", dave, 3, b"blocked"),
                (alice, b"7", dave, 3, b"blocked"), (alice, b"8", bob, 2, b"i" * 90), (dave, b"1", bob, 3, b"g" * 60),
                (dave, b"2", bob, 3, b"l"), (dave, b"3", bob, 6, b"m"), (dave, b"1", bob, 4, b"g" * 60),
            ]  # fmt: skip
            outcomes: list[Outcome] = []
            for _ in range(2):
                # The second time most are known.
                if as_run:
                    frames = [pack_frame_once(who, token * 16, whom, kind, it) for who, token, whom, kind, it in sends]
                    outcome = gateway.one(StoreMessagesOnce(authenticated, b"".join(frames)))
                    assert isinstance(outcome, MessagesStored)
                    outcomes += one_by_one(outcome, len(sends))
                else:
                    outcomes += gateway.ask(
                        *[
                            StoreMessage(who, authenticated, whom, kind, content, token * 16)
                            for who, token, whom, kind, content in sends
                        ]
                    )
            mail = [after(gateway, user, 0, page_bytes=2**30).page for user in (alice, bob, dave)]
            found.append((outcomes, [pieces(page) for page in mail]))
            worker.kill()
        assert found[0] == found[1]
        assert any(isinstance(outcome, Stored) for outcome in found[0][0]) is authenticated

    @pytest.mark.parametrize("flushed", [False, True])
    def test_a_restart_changes_nothing(self, open_worker: Callable[..., SqliteWorker], flushed: bool) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        run = [(bob if n % 3 else alice, bytes([n]) * 16, bob, 3, bytes([n]) * n) for n in range(50)]
        run[0] = (NOBODY, bytes(16), bob, 3, b"nobody's")
        run[7] = (alice, b"\7" * 16, NOBODY, 3, b"to nobody")
        run[9] = run[8]
        operation = StoreMessagesOnce(True, b"".join([pack_frame_once(*one) for one in run]))
        outcome = gateway.one(operation)
        assert isinstance(outcome, MessagesStored)
        assert [one.index for one in outcome.refused] == [0, 7]
        assert outcome.repeated == [RepeatedFrame(9, outcome.first + 6)]
        gateway.ask(Settle(1, bob, True, 10, 20))
        before = after(gateway, bob, 0)
        if flushed:
            worker.flush()
        worker.kill()
        gateway = Gateway(open_worker())
        assert pieces(after(gateway, bob, 0).page) == pieces(before.page)
        again = gateway.one(operation)
        assert isinstance(again, MessagesStored)
        assert again.refused == outcome.refused
        assert [one_by_one(again, 50)[n] for n in range(50)] == one_by_one(outcome, 50)
        assert pieces(after(gateway, bob, 0).page) == pieces(before.page)

    @pytest.mark.parametrize("cut", [1, 59, 60, 62])
    def test_a_run_that_is_cut_off_refuses_its_batch(self, worker: SqliteWorker, gateway: Gateway, cut: int) -> None:
        [alice] = gateway.register("alice")
        frame = pack_frame_once(alice, TOKEN, alice, 3, b"abc")
        the_one(BatchRefused, worker.handle(gateway.next_batch(StoreMessagesOnce(True, frame + frame[:cut]))))
        assert fetch(gateway, alice).count == 0
        assert gateway.one(StoreMessagesOnce(True, frame)) == MessagesStored(1, [])

    def test_a_token_whose_time_is_over_is_new_again(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        run = StoreMessagesOnce(True, pack_frame_once(alice, TOKEN, alice, 3, b"x"))
        assert gateway.one(run) == MessagesStored(1, [])
        assert gateway.one(run) == MessagesStored(2, [], [RepeatedFrame(0, 1)])
        worker.now_ms += TOKEN_LIFE_MS + 1
        assert gateway.one(run) == MessagesStored(2, [])
        assert gateway.one(run) == MessagesStored(3, [], [RepeatedFrame(0, 2)])

    def test_refused_ones_leave_the_newest_tokens_known(self, open_worker: Callable[..., SqliteWorker]) -> None:
        """However many are refused: they use no token up."""
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=2)))
        alice, bob = gateway.register("alice", "bob")
        first = StoreMessagesOnce(True, pack_frame_once(alice, TOKEN, bob, 3, b"x"))
        assert gateway.one(first) == MessagesStored(1, [])
        for start in range(0, 3 * TOKENS_PER_SENDER, 256):
            numbers = range(start, start + 256)
            frames = [pack_frame_once(alice, n.to_bytes(16, "big"), NOBODY, 3, b"y") for n in numbers]
            outcome = gateway.one(StoreMessagesOnce(True, b"".join(frames)))
            assert isinstance(outcome, MessagesStored)
            assert len(outcome.refused) == 256
        assert gateway.one(first) == MessagesStored(2, [], [RepeatedFrame(0, 1)])


def one_by_one(stored: MessagesStored, count: int) -> list[Outcome]:
    """The outcomes of a run's messages."""
    others: dict[int, Outcome] = {one.index: Refused(one.reason, one.retry_after) for one in stored.refused}
    others |= {one.index: Stored(one.sequence) for one in stored.repeated}
    sequences = iter(range(stored.first, stored.first + count))
    return [others.get(index) or Stored(next(sequences)) for index in range(count)]


class TestSendOnce:
    def send(
        self, sender: bytes, recipient: bytes, content: bytes = b"x", kind: int = 3, token: bytes = TOKEN
    ) -> StoreMessage:
        return StoreMessage(sender, True, recipient, kind, content, token)

    def test_needs_an_authenticated_connection(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(StoreMessage(alice, False, alice, 3, b"", TOKEN)) is Reason.PROOF_NEEDED
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 0, TOKEN)) is Reason.PROOF_NEEDED

    def test_twice_is_once(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        first = gateway.one(self.send(alice, bob))
        assert gateway.one(self.send(alice, bob)) == first
        assert gateway.ask(self.send(alice, bob), self.send(alice, bob)) == [first, first]
        [piece] = pieces(fetch(gateway, bob).page)
        assert (piece.token, piece.authenticated) == (TOKEN, True)

    def test_within_one_batch(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.ask(self.send(alice, alice), self.send(alice, alice), self.send(alice, alice, b"y")) == [
            Stored(1),
            Stored(1),
            Refused(Reason.TOKEN_REUSED),
        ]

    def test_also_after_it_was_fetched_and_after_a_restart(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        first = gateway.one(self.send(alice, alice))
        after(gateway, alice, 1)
        worker.kill()
        worker = open_worker()
        assert Gateway(worker).one(self.send(alice, alice)) == first
        assert waiting(worker) == 0

    def test_anything_else_under_the_token_is_refused(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(alice, bob))
        for other in [self.send(alice, alice), self.send(alice, bob, b"y"), self.send(alice, bob, kind=4)]:
            assert gateway.refused(other) is Reason.TOKEN_REUSED

    def test_a_token_is_its_senders_own(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(alice, bob))
        assert gateway.one(self.send(bob, alice, b"y")) == Stored(2)

    def test_the_newest_are_kept(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(bob, alice, token=b"b" * 16))
        tokens = [number.to_bytes(16, "big") for number in range(TOKENS_PER_SENDER + 10)]
        for start in range(0, len(tokens), 100):
            gateway.ask(*[self.send(alice, bob, token=token) for token in tokens[start : start + 100]])
        assert tokens_kept(worker) == TOKENS_PER_SENDER + 1
        assert gateway.one(self.send(alice, bob, token=tokens[10])) == Stored(12)
        assert gateway.one(self.send(alice, bob, token=tokens[9])) == Stored(len(tokens) + 2)

    def test_a_token_lives_for_seven_days(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(alice, bob), self.send(bob, alice))
        worker.now_ms += TOKEN_LIFE_MS
        assert gateway.one(self.send(alice, bob)) == Stored(1)
        worker.now_ms += 1
        assert gateway.one(self.send(alice, bob)) == Stored(3)
        assert tokens_kept(worker) == 1, "the expired one of the other sender is cleared in passing"

    def test_a_known_token_is_answered_where_nothing_new_would_be(
        self, open_worker: Callable[..., SqliteWorker]
    ) -> None:
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=1)))
        [alice] = gateway.register("alice")
        first = gateway.one(self.send(alice, alice))
        assert gateway.refused(self.send(alice, alice, token=b"u" * 16)) is Reason.MAILBOX_FULL
        assert gateway.one(self.send(alice, alice)) == first
