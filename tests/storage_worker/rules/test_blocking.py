"""Blocked senders: answered like any others, and in nobody's mailbox."""

from collections.abc import Callable

import pytest

from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Done,
    Fetch,
    Fetched,
    MarkAuthenticated,
    MessagesStored,
    SetBlock,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadProgress,
)
from common.values import RefusalReason as Reason
from storage_worker.rules import blocking
from storage_worker.rules.admission import Limits
from tests.storage_worker.rules.asking import NOBODY, TOKEN, after, contents, fetch, files, waiting
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker


def block(gateway: Gateway, user: bytes, sender: bytes, *, blocked: bool = True) -> None:
    assert gateway.one(SetBlock(user, True, sender, blocked)) == Done()


class TestWhoMay:
    def test_the_user_alone_on_an_authenticated_connection(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert gateway.refused(SetBlock(alice, False, bob, True)) is Reason.PROOF_NEEDED
        assert gateway.refused(SetBlock(NOBODY, True, bob, True)) is Reason.REQUESTER_UNKNOWN
        gateway.ask(MarkAuthenticated(alice))
        assert gateway.refused(SetBlock(alice, False, bob, False)) is Reason.PROOF_NEEDED

    def test_whom(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert gateway.refused(SetBlock(alice, True, NOBODY, True)) is Reason.RECIPIENT_UNKNOWN
        assert gateway.refused(SetBlock(alice, True, alice, True)) is Reason.MALFORMED
        for blocked in (True, True, False, False, True):
            block(gateway, alice, bob, blocked=blocked)

    def test_how_many(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(blocking, "MOST_BLOCKED", 2)
        alice, bob, carol, dave = gateway.register("alice", "bob", "carol", "dave")
        block(gateway, alice, bob)
        block(gateway, alice, carol)
        assert gateway.refused(SetBlock(alice, True, dave, True)) is Reason.TOO_LARGE
        block(gateway, alice, bob)
        block(gateway, alice, bob, blocked=False)
        block(gateway, alice, dave)
        block(gateway, bob, alice)

    def test_a_full_disk(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker(min_free_bytes=1000)
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        block(gateway, alice, bob)
        worker.admit(mail=False)
        worker.now_ms += 10_000
        assert gateway.refused(SetBlock(alice, True, carol, True)) is Reason.STORAGE_FULL
        block(gateway, alice, bob, blocked=False)


class TestWhatTheSenderSees:
    def test_sequences_as_ever_and_nothing_is_stored(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(bob, alice, b"before")
        block(gateway, alice, bob)
        assert gateway.one(StoreMessage(bob, False, alice, 3, b"one")) == Stored(2)
        run = b"".join(
            pack_frame(bob, to, 3, content) for to, content in ((alice, b"two"), (bob, b"mine"), (alice, b""))
        )
        assert gateway.one(StoreMessages(False, run)) == MessagesStored(3, [])
        assert gateway.one(StoreMessage(alice, False, bob, 3, b"answer")) == Stored(6)
        assert contents(after(gateway, alice, 0).page) == [b"before"]
        assert contents(after(gateway, bob, 0).page) == [b"mine", b"answer"]
        assert waiting(worker) == 3
        block(gateway, alice, bob, blocked=False)
        assert gateway.one(StoreMessage(bob, False, alice, 3, b"again")) == Stored(7)
        assert contents(after(gateway, alice, 1).page) == [b"again"]

    @pytest.mark.parametrize("blocks", [True, False])
    def test_what_is_refused_is_refused_as_ever(self, open_worker: Callable[..., SqliteWorker], blocks: bool) -> None:
        gateway = Gateway(open_worker(limits=Limits(largest_message=10, mailbox_messages=4)))
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        if blocks:
            block(gateway, alice, bob)
        assert gateway.refused(StoreMessage(bob, False, alice, 3, bytes(11))) is Reason.TOO_LARGE
        assert gateway.refused(StoreMessage(bob, False, alice, 9, b"")) is Reason.MALFORMED
        gateway.store(carol, alice, b"1", b"2")
        gateway.store(alice, alice, b"3")
        gateway.store(alice, bob, b"x")
        gateway.ask(StoreMessage(carol, False, alice, 3, b""))
        assert gateway.refused(StoreMessage(carol, False, alice, 3, b"4")) is Reason.SENDER_SHARE

    def test_a_full_mailbox_is_full_for_them_too(self, open_worker: Callable[..., SqliteWorker]) -> None:
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=2, sender_share=100)))
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        block(gateway, alice, bob)
        gateway.store(carol, alice, b"1", b"2")
        assert gateway.refused(StoreMessage(bob, False, alice, 3, b"3")) is Reason.MAILBOX_FULL

    def test_a_token_is_used_up(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        block(gateway, alice, bob)
        message = StoreMessage(bob, True, alice, 3, b"hello", TOKEN)
        assert gateway.one(message) == gateway.one(message) == Stored(1)
        assert gateway.refused(StoreMessage(bob, True, alice, 3, b"other", TOKEN)) is Reason.TOKEN_REUSED
        block(gateway, alice, bob, blocked=False)
        assert gateway.one(message) == Stored(1)
        assert contents(after(gateway, alice, 0).page) == []

    def test_nobody_is_woken(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        block(gateway, alice, bob)
        after(gateway, alice, 0, watch=True)
        batch = gateway.next_batch(StoreMessage(bob, False, alice, 3, b"x"))
        assert len(worker.handle(batch)) == 1

    @pytest.mark.parametrize("when", ["before", "meanwhile", "until then"])
    def test_uploads(self, worker: SqliteWorker, gateway: Gateway, when: str) -> None:
        alice, bob = gateway.register("alice", "bob")
        if when != "meanwhile":
            block(gateway, alice, bob)
        begun = gateway.one(BeginUpload(1, bob, True, alice, 4, 200_000, TOKEN))
        assert begun == UploadProgress(0)
        assert isinstance(gateway.one(Chunk(1, bytes(200_000))), UploadProgress)
        held = worker.engine.mailboxes.mailbox(worker.engine.users.find(alice).row)  # type: ignore[union-attr]
        assert held.content_bytes == (200_000 if when == "meanwhile" else 0)
        block(gateway, alice, bob, blocked=when != "until then")
        assert gateway.one(CommitUpload(1)) == Stored(1)
        assert files(worker) == 0
        assert (held.messages, held.content_bytes) == (0, 0)
        assert contents(fetch(gateway, alice).page) == []
        assert gateway.one(StoreMessage(alice, False, bob, 3, b"")) == Stored(2)


class TestLasting:
    @pytest.mark.parametrize("orderly", [True, False])
    @pytest.mark.parametrize("flush", [True, False])
    def test_a_restart(self, open_worker: Callable[..., SqliteWorker], orderly: bool, flush: bool) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        block(gateway, alice, bob)
        block(gateway, alice, carol)
        block(gateway, alice, carol, blocked=False)
        run = pack_frame(bob, alice, 3, b"two") + pack_frame(carol, alice, 3, b"three") + pack_frame(bob, alice, 3, b"")
        assert gateway.one(StoreMessages(False, run)) == MessagesStored(1, [])
        assert gateway.one(StoreMessage(bob, True, alice, 3, b"", TOKEN)) == Stored(4)
        if flush:
            worker.flush()
        (worker.close if orderly else worker.kill)()
        gateway = Gateway(open_worker())
        fetched = gateway.one(Fetch(alice, True, 0, 2**40, 54, 2**20, False))
        assert isinstance(fetched, Fetched)
        assert (fetched.last, contents(fetched.page)) == (2, [b"three"])
        [sequence] = gateway.store(bob, alice, b"still blocked")
        assert sequence > 4
        assert gateway.one(StoreMessage(bob, True, alice, 3, b"", TOKEN)) == Stored(4)
        assert contents(after(gateway, alice, 0).page) == [b"three"]
