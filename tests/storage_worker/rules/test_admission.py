"""What a mailbox accepts, and that no two of its messages have the same id."""

from collections.abc import Callable

import pytest

from common.client_protocol.fields import message_id
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    MessagesStored,
    Refused,
    RefusedFrame,
    Settle,
    StoreMessage,
    StoreMessages,
)
from common.values import RefusalReason as Reason
from storage_worker.rules import admission
from storage_worker.rules.admission import Limits
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker


class TestMailboxLimits:
    def test_mailbox_messages(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker(limits=Limits(mailbox_messages=2, sender_share=100))
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        outcomes = gateway.ask(*[StoreMessage(alice, False, bob, 3, b"x")] * 3)
        assert outcomes[2] == Refused(Reason.MAILBOX_FULL, 30)
        worker.close()
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=2, sender_share=100)))
        assert gateway.refused(StoreMessage(alice, False, bob, 3, b"x")) is Reason.MAILBOX_FULL
        gateway.store(bob, alice, b"another mailbox")
        gateway.ask(Settle(1, bob, False, 1, 1))
        gateway.store(alice, bob, b"x")
        assert gateway.refused(StoreMessage(alice, False, bob, 3, b"x")) is Reason.MAILBOX_FULL

    @pytest.mark.parametrize("reopened", [False, True])
    def test_no_two_ids_are_the_same_in_a_mailbox(
        self, open_worker: Callable[..., SqliteWorker], monkeypatch: pytest.MonkeyPatch, reopened: bool
    ) -> None:
        """What waits spans less than ids repeat after: here 4, so that 1 and 5 would have
        the same id.
        """
        assert message_id(7) == message_id(7 + admission.IDS) != message_id(6 + admission.IDS)
        monkeypatch.setattr(admission, "IDS", 4)
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        assert gateway.store(alice, bob, *[b"x"] * 4) == [1, 2, 3, 4]
        if reopened:
            worker.close()
            gateway = Gateway(open_worker())
        assert gateway.refused(StoreMessage(alice, False, bob, 3, b"x")) is Reason.MAILBOX_FULL
        assert gateway.refused(BeginUpload(1, alice, False, bob, 3, 1)) is Reason.MAILBOX_FULL
        run = StoreMessages(False, pack_frame(alice, bob, 3, b"x") + pack_frame(bob, alice, 3, b"x"))
        assert gateway.ask(run) == [MessagesStored(5, [RefusedFrame(0, Reason.MAILBOX_FULL, 30)])]
        # With the oldest gone it takes more, up to the next; in one run, too.
        gateway.ask(Settle(1, bob, False, 1, 2))
        run = StoreMessages(False, pack_frame(alice, bob, 3, b"x") * 2)
        assert gateway.ask(run) == [MessagesStored(6, [RefusedFrame(1, Reason.MAILBOX_FULL, 30)])]
        gateway.ask(Settle(1, bob, False, 1, 6))
        run = StoreMessages(False, pack_frame(alice, bob, 3, b"x") * 5)
        assert gateway.ask(run) == [MessagesStored(7, [RefusedFrame(4, Reason.MAILBOX_FULL, 30)])]
        assert gateway.refused(StoreMessage(alice, False, bob, 3, b"x")) is Reason.MAILBOX_FULL

    def test_mailbox_bytes(self, open_worker: Callable[..., SqliteWorker]) -> None:
        gateway = Gateway(open_worker(limits=Limits(largest_message=100, mailbox_bytes=100, sender_share=100)))
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, bytes(60))
        assert gateway.refused(StoreMessage(alice, False, alice, 3, bytes(41))) is Reason.MAILBOX_FULL
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 41)) is Reason.MAILBOX_FULL
        gateway.store(alice, alice, bytes(40))
