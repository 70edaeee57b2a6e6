"""Deletion, and the facts about the server, one operation at a time."""

from collections.abc import Callable
from contextlib import closing

import pytest

from common.storage_protocol.administration import Obeyed, SetDisabled, UsersChanged
from common.storage_protocol.frames import LOOK_ANYWAY, MailArrived
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    AbortUpload,
    AboutServer,
    BeginUpload,
    Chunk,
    CommitUpload,
    DeleteAccount,
    DeletionGoesOn,
    Done,
    Fetch,
    GetAbout,
    GetProofKey,
    GetPublicKey,
    GetUploadProgress,
    ListUsers,
    MarkAuthenticated,
    MessagesStored,
    Pull,
    Refused,
    Register,
    Registered,
    Settle,
    StoreMessage,
    StoreMessages,
    UploadProgress,
    UploadUnknown,
    UsersPage,
)
from common.values import RefusalReason as Reason
from common.values import Registration
from storage_worker import admin_accounts
from storage_worker.engine.memory import Disk
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.operators_tables import SqliteTables
from storage_worker.engine.values import Identity
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.admission import Limits
from tests.storage_worker.rules.asking import NOBODY, TOKEN, after, contents, fetch, files, in_the_name_of, waiting
from tests.storage_worker.worker_under_test import KEY, Gateway, MemoryWorker, SqliteWorker


def delete(gateway: Gateway, user: bytes) -> None:
    """To its end."""
    for _ in range(100):
        outcome = gateway.one(DeleteAccount(user, True))
        if outcome == Done():
            return
        assert outcome == DeletionGoesOn()
    raise AssertionError("it never ended")


class TestDelete:
    def test_nobody_deletes_another_ones_account(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(DeleteAccount(alice, False)) is Reason.PROOF_NEEDED
        assert gateway.refused(DeleteAccount(NOBODY, True)) is Reason.REQUESTER_UNKNOWN
        assert gateway.refused(DeleteAccount(NOBODY, False)) is Reason.PROOF_NEEDED
        gateway.store(alice, alice, b"still there")

    def test_a_deleted_user_is_none(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(MarkAuthenticated(alice))
        delete(gateway, alice)
        for operation in in_the_name_of(alice, bob, authenticated=True):
            assert gateway.refused(operation) is Reason.REQUESTER_UNKNOWN
        for unproven in in_the_name_of(alice, bob, authenticated=False):
            assert gateway.refused(unproven) is Reason.REQUESTER_UNKNOWN
        assert gateway.refused(GetProofKey(alice)) is Reason.REQUESTER_UNKNOWN
        assert gateway.refused(MarkAuthenticated(alice)) is Reason.REQUESTER_UNKNOWN
        assert gateway.refused(GetPublicKey(bob, False, alice)) is Reason.RECIPIENT_UNKNOWN
        assert gateway.refused(StoreMessage(bob, False, alice, 3, b"x")) is Reason.RECIPIENT_UNKNOWN
        run = pack_frame(bob, alice, 3, b"x") + pack_frame(alice, bob, 3, b"x") + pack_frame(bob, bob, 3, b"y")
        stored = gateway.one(StoreMessages(False, run))
        assert isinstance(stored, MessagesStored)
        assert [Reason(one.reason) for one in stored.refused] == [Reason.RECIPIENT_UNKNOWN, Reason.REQUESTER_UNKNOWN]
        assert gateway.one(ListUsers(bob, False)) == UsersPage(0, 2, 2, [])

    def test_at_once_in_the_very_turn(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        first, _, second, third = gateway.ask(
            StoreMessage(alice, False, bob, 3, b"x"),
            DeleteAccount(alice, True),
            StoreMessage(alice, False, bob, 3, b"x"),
            StoreMessage(bob, False, alice, 3, b"x"),
        )
        assert [type(one).__name__ for one in (first, second, third)] == ["Stored", "Refused", "Refused"]

    def test_it_is_answered_again_and_again(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.one(DeleteAccount(alice, True)) == DeletionGoesOn()
        assert gateway.resend() == [DeletionGoesOn()]
        delete(gateway, alice)
        assert gateway.one(DeleteAccount(alice, True)) == Done()
        assert gateway.refused(DeleteAccount(alice, False)) is Reason.PROOF_NEEDED

    def test_what_others_have_stays(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        gateway.store(alice, bob, b"from alice")
        gateway.store(carol, alice, b"goes")
        gateway.store(carol, bob, b"from carol")
        gateway.ask(StoreMessage(carol, True, alice, 3, b"goes too", TOKEN))
        delete(gateway, alice)
        assert contents(fetch(gateway, bob).page) == [b"from alice", b"from carol"]
        assert waiting(worker) == 2

    def test_large_messages_and_uploads_go(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(BeginUpload(1, bob, False, alice, 4, 3), Chunk(1, b"abc"), CommitUpload(1))
        gateway.ask(BeginUpload(2, bob, False, alice, 4, 3), Chunk(2, b"abc"))
        gateway.ask(BeginUpload(3, alice, False, bob, 4, 3), Chunk(3, b"abc"))
        gateway.ask(BeginUpload(4, bob, False, bob, 4, 3), Chunk(4, b"abc"))
        assert files(worker) == 4
        delete(gateway, alice)
        assert files(worker) == 1
        to_nobody, by_nobody = Refused(Reason.RECIPIENT_UNKNOWN), Refused(Reason.REQUESTER_UNKNOWN)
        assert gateway.ask(GetUploadProgress(2), CommitUpload(2), Chunk(3, b"d"), Chunk(3, b"d")) == [
            to_nobody, to_nobody, by_nobody, by_nobody
        ]  # fmt: skip
        assert gateway.ask(Chunk(2, b"d"), AbortUpload(3), Chunk(3, b"d")) == [UploadUnknown(), Done(), UploadUnknown()]
        assert gateway.one(Chunk(4, b"")) == UploadProgress(3)

    def test_leases_and_subscriptions_that_were_left(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(bob, alice, b"x")
        pulled = fetch(gateway, alice, lease=7)
        after(gateway, alice, pulled.last, watch=True)
        delete(gateway, alice)
        assert gateway.one(Settle(7, alice, False, pulled.first, pulled.last)) == Done()
        assert len(worker.rules.leases) == 0
        gateway.store(bob, bob, b"y")
        assert gateway.arrived == [MailArrived(0, 1, LOOK_ANYWAY, [alice])], "who waits for mail asks again, once"
        assert gateway.refused(Pull(8, alice, True, 100, 25, 100)) is Reason.REQUESTER_UNKNOWN

    def test_who_waits_for_mail_and_is_deleted_or_disabled_by_the_operator(
        self, worker: SqliteWorker, gateway: Gateway
    ) -> None:
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        for user in (alice, bob, carol):
            after(gateway, user, 0, watch=True)
        worker.flush()
        with closing(Database(worker.folder / "mail.db", beside=True)) as beside:
            assert admin_accounts.delete(SqliteTables(beside), "alice", print, as_json=False) == 0
        assert worker.administer(UsersChanged()) == Obeyed()
        assert worker.administer(SetDisabled("bob", True)) == Obeyed()
        [(peer, notice)] = worker.processor.take_notices()
        assert (peer, notice) == (b"peer", MailArrived(0, 1, LOOK_ANYWAY, [alice, bob]))
        assert worker.processor.take_notices() == []
        assert gateway.refused(Fetch(alice, True, 0, 100, 54, 100, True)) is Reason.REQUESTER_UNKNOWN
        assert gateway.refused(Fetch(bob, True, 0, 100, 54, 100, True)) is Reason.DISABLED
        gateway.store(carol, carol, b"x")
        assert gateway.arrived == [MailArrived(0, 1, 1, [carol])]

    def test_the_name_and_the_id_stay_taken(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.one(DeleteAccount(alice, True))
        for goes_on in (True, False):
            assert gateway.refused(Register("alice", KEY)) is Reason.NAME_TAKEN
            assert gateway.refused(Register("alice", KEY, True)) is Reason.NAME_TAKEN
            registered = gateway.one(Register(f"carol {goes_on}", KEY, True, alice))
            assert isinstance(registered, Registered)
            assert registered.client_id != alice, "others know alice by it"
            delete(gateway, alice)

    def test_the_audit_log_has_it_once(self, gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
        [alice] = gateway.register("alice")
        caplog.set_level("INFO", "messageu.audit")
        delete(gateway, alice)
        gateway.one(DeleteAccount(alice, True))
        assert [vars(record)["fields"] for record in caplog.records] == [{"event": "deleted", "user": alice.hex()}]

    def test_without_room_for_mail_too(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        worker.admit(mail=False)
        delete(gateway, alice)

    def test_a_turn_that_is_undone_deletes_nobody(
        self, worker: SqliteWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(bob, alice, b"x")
        assert after(gateway, alice, gateway.store(bob, alice, b"y")[0], watch=True).count == 0

        def fail(_slot: int, _operation: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setitem(worker.rules.by_operation, GetAbout, fail)
        worker.handle(gateway.next_batch(DeleteAccount(alice, True), GetAbout()))
        gateway.store(bob, alice, b"z")
        assert gateway.arrived == [MailArrived(0, 1, 3, [alice])], "the subscription is there again"


class TestAbout:
    def test_settings(self) -> None:
        accounts = AccountSettings(Registration.INVITED, "ünser Server".encode(), 21)
        limits = Limits(largest_message=2000, mailbox_messages=3000, mailbox_bytes=2**33)
        worker = MemoryWorker(Disk(Identity(bytes(16), 1)), limits=limits, accounts=accounts)
        told = Gateway(worker).one(GetAbout())
        assert told == AboutServer(21, 2000, 3000, 2**33, 1, "ünser Server".encode())

    def test_as_it_is_without_any(self, open_worker: Callable[..., SqliteWorker]) -> None:
        told = Gateway(open_worker()).one(GetAbout())
        assert told == AboutServer(0, 1024**3, 1_000_000, 4 * 1024**3, 0, b"")
