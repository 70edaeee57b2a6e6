"""Every rule, one operation at a time."""

from collections.abc import Callable

import apsw
import pytest

from common.client_protocol.fields import message_id
from common.storage_protocol.frames import BatchRefused
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    NO_MAIL,
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    Done,
    Fetch,
    Fetched,
    GetProofKey,
    GetPublicKey,
    GetUploadProgress,
    KeyFound,
    ListUsers,
    Mail,
    MarkProven,
    MessagesStored,
    Operation,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
    RefusedFrame,
    Register,
    Registered,
    Release,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadProgress,
    UploadUnknown,
    UserEntry,
    UsersPage,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.records import UserRegistered
from storage_worker.engine.sqlite import users
from storage_worker.engine.sqlite.blob_checksums import table_bytes
from storage_worker.engine.sqlite.mail_pages import PAGE_BYTES, MailPages
from storage_worker.engine.sqlite.message_queue import waiting as queue_waiting
from storage_worker.engine.sqlite.send_tokens import TOKEN_LIFE_MS, TOKENS_PER_SENDER
from storage_worker.rules import admission, fetching
from storage_worker.rules.admission import Limits
from tests.storage_worker.office import KEY, Gateway, Office, Piece, SyncAtOnce, pieces, the_one

NOBODY = bytes(16)
TOKEN = b"t" * 16


def fetch(
    gateway: Gateway, user: bytes, lease: int | None = None, max_bytes: int = 2**40, page_bytes: int = 2**20,
    envelope_bytes: int = 25, proven: bool = False,
) -> Pulled:  # fmt: skip
    number = next(gateway.leases) if lease is None else lease
    outcome = gateway.one(Pull(number, user, proven, max_bytes, envelope_bytes, page_bytes))
    assert isinstance(outcome, Pulled), outcome
    return outcome


def after(
    gateway: Gateway, user: bytes, ack: int, max_bytes: int = 2**40, page_bytes: int = 2**20, watch: bool = False
) -> Fetched:
    outcome = gateway.one(Fetch(user, True, ack, max_bytes, 54, page_bytes, watch))
    assert isinstance(outcome, Fetched), outcome
    return outcome


def contents(page: Mail) -> list[bytes]:
    return [piece.content for piece in pieces(page)]


def waiting(office: Office) -> int:
    """Messages in all mailboxes, read as an admin command would."""
    office.flush()
    return sum(load.messages for load in queue_waiting(office.database).values())


def tokens_kept(office: Office) -> int:
    """In the database, when it has taken in everything."""
    office.flush()
    count: int = office.database.row("SELECT count(*) FROM sent_token")[0]
    return count


def files(office: Office) -> int:
    """Contents that are files of their own."""
    return len(office.bodies_folder.sizes())


class TestRegister:
    def test_new_user_gets_an_id_of_his_own(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert len(alice) == len(bob) == 16
        assert alice != bob

    def test_id_is_a_random_uuid(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert alice[6] >> 4 == 4
        assert alice[8] >> 6 == 2

    def test_a_name_is_given_once(self, gateway: Gateway) -> None:
        assert len(list(gateway.register("alice", "Alice"))) == 2
        assert gateway.refused(Register("alice", KEY)) is Reason.NAME_TAKEN

    def test_again_with_the_same_key_gives_the_same_id(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.one(Register("alice", KEY, again=True)) == Registered(alice)
        assert gateway.refused(Register("alice", bytes(160), again=True)) is Reason.NAME_TAKEN

    def test_again_is_no_condition(self, gateway: Gateway) -> None:
        assert isinstance(gateway.one(Register("alice", KEY, again=True)), Registered)

    def test_a_wanted_id_is_given_where_it_is_free(self, gateway: Gateway) -> None:
        """Who was registered after the backup that was put back is the same user again."""
        [alice] = gateway.register("alice")
        lost = bytes.fromhex("0123456789ab4def8123456789abcdef")
        assert gateway.one(Register("bob", KEY, again=True, wanted=lost)) == Registered(lost)
        assert gateway.one(Register("bob", KEY, again=True, wanted=alice)) == Registered(lost)
        taken = gateway.one(Register("carol", KEY, again=True, wanted=alice))
        assert isinstance(taken, Registered)
        assert taken.client_id not in {alice, lost}

    @pytest.mark.parametrize("wanted", [bytes(15) + b"\1", b"\xff" * 16, b"A" * 16])
    def test_no_id_is_given_that_is_none_of_ours(self, gateway: Gateway, wanted: bytes) -> None:
        given = gateway.one(Register("bob", KEY, again=True, wanted=wanted))
        assert isinstance(given, Registered)
        assert given.client_id != wanted

    @pytest.mark.parametrize("name", [" alice", "alice ", "al\nice", "ålice", "\x00"])
    def test_a_name_that_breaks_the_rules_is_malformed(self, gateway: Gateway, name: str) -> None:
        assert gateway.refused(Register(name, KEY)) is Reason.MALFORMED

    def test_a_name_in_one_batch_twice(self, gateway: Gateway) -> None:
        first, second = gateway.ask(Register("alice", KEY), Register("alice", KEY))
        assert isinstance(first, Registered)
        assert second == Refused(Reason.NAME_TAKEN)


class TestUsers:
    def test_everybody_but_the_requester_in_the_order_of_registration(self, gateway: Gateway) -> None:
        zoe, alice, bob = gateway.register("zoe", "alice", "bob")
        assert gateway.one(ListUsers(alice, False)) == UsersPage(
            2, 3, 3, [UserEntry(zoe, "zoe"), UserEntry(bob, "bob")]
        )

    def test_nobody_else(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.one(ListUsers(alice, False)) == UsersPage(0, 1, 1, [])

    def test_pages_tell_where_to_go_on_and_leave_out_who_came_later(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(users, "USERS_PER_PAGE", 2)
        ids = list(gateway.register("a", "b", "c", "d", "e"))
        first = gateway.one(ListUsers(ids[1], False))
        assert first == UsersPage(4, 2, 5, [UserEntry(ids[0], "a")])
        list(gateway.register("f"))
        second = gateway.one(ListUsers(ids[1], False, 2, 5))
        assert second == UsersPage(0, 4, 5, [UserEntry(ids[2], "c"), UserEntry(ids[3], "d")])
        assert gateway.one(ListUsers(ids[1], False, 4, 5)) == UsersPage(0, 5, 5, [UserEntry(ids[4], "e")])
        assert gateway.one(ListUsers(ids[1], False, 5, 5)) == UsersPage(0, 5, 5, [])

    def test_the_count_is_right_however_it_comes_about(self, office: Office, gateway: Gateway) -> None:
        def count(until: int = 0) -> int:
            page = gateway.one(ListUsers(first, False, 0, until))
            assert isinstance(page, UsersPage)
            return page.count

        [first] = gateway.register("a")
        counts = [count()]
        for names in ("bc", "d", "efg"):
            list(gateway.register(*names))
            counts += [count(), count()]
        assert counts == [0, 2, 2, 3, 3, 6, 6]
        registry = office.engine.users
        assert [registry.count(until) for until in (3, 7, 1, 100)] == [3, 7, 1, 7]
        # A turn that is undone takes its users along, and their rows are given again.
        with pytest.raises(ZeroDivisionError), office.database.transaction():
            registry.register(UserRegistered(b"x" * 16, "x", KEY))
            assert registry.count(100) == 8
            raise ZeroDivisionError
        office.rules.roll_back()
        assert registry.count(100) == 7

    def test_public_key(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert gateway.one(GetPublicKey(alice, False, bob)) == KeyFound(bob, KEY)
        assert gateway.one(GetPublicKey(alice, False, alice)) == KeyFound(alice, KEY)
        assert gateway.refused(GetPublicKey(alice, False, NOBODY)) is Reason.RECIPIENT_UNKNOWN

    def test_proof_key_needs_no_proof(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(MarkProven(alice))
        assert gateway.one(GetProofKey(alice)) == KeyFound(alice, KEY)

    @pytest.mark.parametrize("remembered", [1, 2])
    def test_more_users_than_are_remembered(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, remembered: int
    ) -> None:
        monkeypatch.setattr(users, "_REMEMBERED", remembered)
        ids = list(gateway.register("a", "b", "c"))
        for sender in ids:
            for recipient in ids:
                gateway.store(sender, recipient, b"x")
        for user in ids:
            assert [piece.sender for piece in pieces(fetch(gateway, user).page)] == ids


def in_the_name_of(user: bytes, other: bytes, proven: bool) -> list[Operation]:
    """Every operation that asks something in a user's name and can be refused, but 600
    and the proof's own.
    """
    return [
        ListUsers(user, proven),
        GetPublicKey(user, proven, other),
        StoreMessage(user, proven, other, 3, b"x"),
        BeginUpload(1, user, proven, other, 3, 1),
        Pull(1, user, proven, 100, 25, 100),
        PullPage(user, proven, 1, 0, 9, 100),
        Fetch(user, proven, 0, 100, 54, 100, False),
    ]


class TestWhoMayAct:
    def test_unknown_requester(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        for operation in [*in_the_name_of(NOBODY, alice, True), GetProofKey(NOBODY), MarkProven(NOBODY)]:
            assert gateway.refused(operation) is Reason.REQUESTER_UNKNOWN, operation

    def test_proven_user_without_proof(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert gateway.one(MarkProven(alice)) == Done()
        for operation in in_the_name_of(alice, bob, False):
            assert gateway.refused(operation) is Reason.PROOF_NEEDED, operation

    def test_proven_user_with_proof(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(MarkProven(alice))
        for operation in in_the_name_of(alice, bob, True):
            assert not isinstance(gateway.one(operation), Refused), operation

    def test_the_mark_holds_within_its_batch_and_is_no_news_the_second_time(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        outcomes = gateway.ask(MarkProven(alice), MarkProven(alice), ListUsers(alice, False))
        assert outcomes == [Done(), Done(), Refused(Reason.PROOF_NEEDED)]

    def test_the_mark_survives_a_restart(self, open_office: Callable[..., Office]) -> None:
        office = open_office()
        gateway = Gateway(office)
        [alice] = gateway.register("alice")
        gateway.ask(MarkProven(alice))
        office.close()
        assert Gateway(open_office()).refused(ListUsers(alice, False)) is Reason.PROOF_NEEDED

    def test_others_may_write_to_a_proven_user(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(MarkProven(alice))
        gateway.store(bob, alice, b"hello")


class TestStoreMessage:
    def test_what_is_stored_is_fetched(self, office: Office, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        office.now_ms = 1_234_567
        [sequence] = gateway.store(alice, bob, b"hello")
        leased = fetch(gateway, bob)
        [piece] = pieces(leased.page)
        assert (piece.sequence, piece.sender, piece.accepted_at, piece.proven) == (sequence, alice, 1_234_567, False)
        assert (piece.kind, piece.size, piece.offset, piece.content) == (3, 5, 0, b"hello")
        assert (leased.first, leased.last, leased.count, leased.content_bytes) == (sequence, sequence, 1, 5)

    def test_every_message_gets_a_token_of_its_own(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        for _ in range(3):
            gateway.store(alice, alice, *[b"x"] * 1000)
        assert len({piece.token for piece in pieces(fetch(gateway, alice, page_bytes=2**30).page)}) == 3000

    def test_sequences_grow_by_order_and_are_never_used_again(self, open_office: Callable[..., Office]) -> None:
        office = open_office()
        gateway = Gateway(office)
        alice, bob = gateway.register("alice", "bob")
        assert gateway.store(alice, bob, b"a", b"b") == [1, 2]
        leased = fetch(gateway, bob)
        gateway.ask(Settle(1, bob, False, leased.first, leased.last))
        office.close()
        office = open_office()
        assert Gateway(office).store(bob, alice, b"c") == [3]

    def test_unknown_recipient(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(StoreMessage(alice, False, NOBODY, 3, b"")) is Reason.RECIPIENT_UNKNOWN

    @pytest.mark.parametrize("kind", [0, 5, 255])
    def test_kind(self, gateway: Gateway, kind: int) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(StoreMessage(alice, False, alice, kind, b"")) is Reason.MALFORMED
        assert gateway.refused(BeginUpload(1, alice, False, alice, kind, 0)) is Reason.MALFORMED

    def test_size(self, open_office: Callable[..., Office]) -> None:
        gateway = Gateway(open_office(limits=Limits(largest_message=10)))
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, bytes(10))
        assert gateway.refused(StoreMessage(alice, False, alice, 3, bytes(11))) is Reason.TOO_LARGE
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 11)) is Reason.TOO_LARGE

    @pytest.mark.parametrize("size", [0, 1, PAGE_BYTES, PAGE_BYTES + 1, 12 * PAGE_BYTES + 7])
    def test_any_size_comes_back(self, office: Office, gateway: Gateway, size: int) -> None:
        [alice] = gateway.register("alice")
        content = bytes(number * 7 % 251 for number in range(size))
        [sequence] = gateway.store(alice, alice, content)
        assert contents(fetch(gateway, alice, page_bytes=2**30).page) == [content]
        gateway.ask(Settle(1, alice, False, sequence, sequence))
        assert waiting(office) == 0

    def test_mailbox_messages(self, open_office: Callable[..., Office]) -> None:
        office = open_office(limits=Limits(mailbox_messages=2, sender_share=100))
        gateway = Gateway(office)
        alice, bob = gateway.register("alice", "bob")
        outcomes = gateway.ask(*[StoreMessage(alice, False, bob, 3, b"x")] * 3)
        assert outcomes[2] == Refused(Reason.MAILBOX_FULL, 30)
        office.close()
        gateway = Gateway(open_office(limits=Limits(mailbox_messages=2, sender_share=100)))
        assert gateway.refused(StoreMessage(alice, False, bob, 3, b"x")) is Reason.MAILBOX_FULL
        gateway.store(bob, alice, b"another mailbox")
        gateway.ask(Settle(1, bob, False, 1, 1))
        gateway.store(alice, bob, b"x")
        assert gateway.refused(StoreMessage(alice, False, bob, 3, b"x")) is Reason.MAILBOX_FULL

    @pytest.mark.parametrize("reopened", [False, True])
    def test_no_two_ids_are_the_same_in_a_mailbox(
        self, open_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch, reopened: bool
    ) -> None:
        """What waits spans less than ids repeat after: here 4, so that 1 and 5 would have
        the same id.
        """
        assert message_id(7) == message_id(7 + admission.IDS) != message_id(6 + admission.IDS)
        monkeypatch.setattr(admission, "IDS", 4)
        office = open_office()
        gateway = Gateway(office)
        alice, bob = gateway.register("alice", "bob")
        assert gateway.store(alice, bob, *[b"x"] * 4) == [1, 2, 3, 4]
        if reopened:
            office.close()
            gateway = Gateway(open_office())
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

    def test_mailbox_bytes(self, open_office: Callable[..., Office]) -> None:
        gateway = Gateway(open_office(limits=Limits(largest_message=100, mailbox_bytes=100, sender_share=100)))
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, bytes(60))
        assert gateway.refused(StoreMessage(alice, False, alice, 3, bytes(41))) is Reason.MAILBOX_FULL
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 41)) is Reason.MAILBOX_FULL
        gateway.store(alice, alice, bytes(40))

    def test_many_mailboxes_are_weighed_anew(
        self, office: Office, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage_worker.engine.sqlite.message_queue._MAILBOXES_KEPT", 2)
        ids = list(gateway.register("a", "b", "c", "d"))
        for sender in ids:
            for recipient in ids:
                gateway.store(sender, recipient, b"x")
            office.flush()
        assert waiting(office) == 16
        assert fetch(gateway, ids[0]).count == 4


class TestStoreRun:
    """A run is what `StoreMessage` does, one by one, without a token."""

    def frames(self, *messages: tuple[bytes, bytes, int, bytes]) -> bytes:
        return b"".join([pack_frame(*message) for message in messages])

    @pytest.mark.parametrize("share", [1, 50, 67, 100])
    def test_a_run_and_the_same_one_by_one_give_the_same(self, open_office: Callable[..., Office], share: int) -> None:
        office = open_office(
            limits=Limits(largest_message=100, mailbox_messages=3, mailbox_bytes=150, sender_share=share)
        )
        gateway = Gateway(office)
        alice, bob, carol, dave = gateway.register("alice", "bob", "carol", "dave")
        gateway.ask(MarkProven(dave))
        for proven in (False, True):
            for pair in ((alice, bob), (bob, carol)):
                sender, recipient = pair
                messages = [
                    (sender, recipient, 3, b"a" * 60), (NOBODY, recipient, 3, b"b"), (sender, NOBODY, 3, b"c"),
                    (sender, recipient, 0, b"d"), (sender, recipient, 5, b"e"), (sender, recipient, 4, b"f" * 101),
                    (dave, recipient, 3, b"g" * 60), (sender, recipient, 1, b""), (sender, recipient, 3, b"h" * 60),
                    (sender, recipient, 2, b"i"), (dave, dave, 3, b"j"), (sender, recipient, 3, b"k"),
                ]  # fmt: skip
                outcome = gateway.one(StoreMessages(proven, self.frames(*messages)))
                mine = fetch(gateway, recipient, page_bytes=2**30)
                gateway.ask(Settle(mine.first, recipient, False, mine.first, mine.last))
                daves = after(gateway, dave, 0) if proven else None
                if daves is not None:
                    after(gateway, dave, daves.last)
                outcomes = gateway.ask(
                    *[StoreMessage(who, proven, whom, kind, content) for who, whom, kind, content in messages]
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
                    assert (one.sender, one.kind, one.proven) == (other.sender, other.kind, other.proven)
                gateway.ask(Settle(again.first, recipient, False, again.first, again.last))

    @pytest.mark.parametrize("flushed", [False, True])
    def test_a_restart_changes_nothing(self, open_office: Callable[..., Office], flushed: bool) -> None:
        office = open_office()
        gateway = Gateway(office)
        alice, bob = gateway.register("alice", "bob")
        run = [(alice, bob, 3, bytes([n]) * n) for n in range(50)]
        run[7] = (alice, NOBODY, 3, b"nobody's")
        outcome = gateway.one(StoreMessages(False, self.frames(*run)))
        gateway.ask(Settle(1, bob, False, 10, 20))
        before = gateway.one(PullPage(bob, False, 0, 0, 2**62, 2**30))
        if flushed:
            office.flush()
        office.kill()
        gateway.office = open_office()
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
    def test_a_run_that_is_cut_off_refuses_its_batch(self, office: Office, gateway: Gateway, cut: int) -> None:
        [alice] = gateway.register("alice")
        frame = pack_frame(alice, alice, 3, b"abc")
        batch = gateway.next_batch(
            StoreMessage(alice, False, alice, 3, b"x"), StoreMessages(False, frame + frame[:cut])
        )
        the_one(BatchRefused, office.handle(batch))
        assert fetch(gateway, alice).count == 0

    def test_an_empty_run(self, gateway: Gateway) -> None:
        assert gateway.one(StoreMessages(False, b"")) == MessagesStored(1, [])


class TestSendOnce:
    def send(
        self, sender: bytes, recipient: bytes, content: bytes = b"x", kind: int = 3, token: bytes = TOKEN
    ) -> StoreMessage:
        return StoreMessage(sender, True, recipient, kind, content, token)

    def test_needs_a_proven_connection(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(StoreMessage(alice, False, alice, 3, b"", TOKEN)) is Reason.PROOF_NEEDED
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 0, TOKEN)) is Reason.PROOF_NEEDED

    def test_twice_is_once(self, office: Office, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        first = gateway.one(self.send(alice, bob))
        assert gateway.one(self.send(alice, bob)) == first
        assert gateway.ask(self.send(alice, bob), self.send(alice, bob)) == [first, first]
        [piece] = pieces(fetch(gateway, bob).page)
        assert (piece.token, piece.proven) == (TOKEN, True)

    def test_within_one_batch(self, office: Office, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.ask(self.send(alice, alice), self.send(alice, alice), self.send(alice, alice, b"y")) == [
            Stored(1),
            Stored(1),
            Refused(Reason.TOKEN_REUSED),
        ]

    def test_also_after_it_was_fetched_and_after_a_restart(self, open_office: Callable[..., Office]) -> None:
        office = open_office()
        gateway = Gateway(office)
        [alice] = gateway.register("alice")
        first = gateway.one(self.send(alice, alice))
        after(gateway, alice, 1)
        office.kill()
        office = open_office()
        assert Gateway(office).one(self.send(alice, alice)) == first
        assert waiting(office) == 0

    def test_anything_else_under_the_token_is_refused(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(alice, bob))
        for other in [self.send(alice, alice), self.send(alice, bob, b"y"), self.send(alice, bob, kind=4)]:
            assert gateway.refused(other) is Reason.TOKEN_REUSED

    def test_a_token_is_its_senders_own(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(alice, bob))
        assert gateway.one(self.send(bob, alice, b"y")) == Stored(2)

    def test_the_newest_are_kept(self, office: Office, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(bob, alice, token=b"b" * 16))
        tokens = [number.to_bytes(16, "big") for number in range(TOKENS_PER_SENDER + 10)]
        for start in range(0, len(tokens), 100):
            gateway.ask(*[self.send(alice, bob, token=token) for token in tokens[start : start + 100]])
        assert tokens_kept(office) == TOKENS_PER_SENDER + 1
        assert gateway.one(self.send(alice, bob, token=tokens[10])) == Stored(12)
        assert gateway.one(self.send(alice, bob, token=tokens[9])) == Stored(len(tokens) + 2)

    def test_a_token_lives_for_seven_days(self, office: Office, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(self.send(alice, bob), self.send(bob, alice))
        office.now_ms += TOKEN_LIFE_MS
        assert gateway.one(self.send(alice, bob)) == Stored(1)
        office.now_ms += 1
        assert gateway.one(self.send(alice, bob)) == Stored(3)
        assert tokens_kept(office) == 1, "the expired one of the other sender is cleared in passing"

    def test_a_known_token_is_answered_where_nothing_new_would_be(self, open_office: Callable[..., Office]) -> None:
        gateway = Gateway(open_office(limits=Limits(mailbox_messages=1)))
        [alice] = gateway.register("alice")
        first = gateway.one(self.send(alice, alice))
        assert gateway.refused(self.send(alice, alice, token=b"u" * 16)) is Reason.MAILBOX_FULL
        assert gateway.one(self.send(alice, alice)) == first


class TestUpload:
    def upload(
        self, gateway: Gateway, sender: bytes, recipient: bytes, *chunks: bytes, token: bytes | None = None,
        number: int = 1, proven: bool = False,
    ) -> object:  # fmt: skip
        size = sum(map(len, chunks))
        *done, outcome = gateway.ask(
            BeginUpload(number, sender, proven, recipient, 4, size, token),
            *[Chunk(number, chunk) for chunk in chunks],
            CommitUpload(number),
        )
        assert all(isinstance(step, UploadProgress) for step in done)
        return outcome

    @pytest.mark.parametrize("sizes", [(), (0,), (5,), (1, 2, 3), (PAGE_BYTES, 1), (100_000, 1, 70_000), (PAGE_BYTES,)])
    def test_arrives_as_it_was_sent(self, office: Office, gateway: Gateway, sizes: tuple[int, ...]) -> None:
        alice, bob = gateway.register("alice", "bob")
        chunks = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
        assert self.upload(gateway, alice, bob, *chunks) == Stored(1)
        [piece] = pieces(fetch(gateway, bob).page)
        assert (piece.content, piece.kind, piece.sender) == (b"".join(chunks), 4, alice)
        after(gateway, bob, 1)
        assert files(office) == 0

    def test_ends_with_its_worker(self, open_office: Callable[..., Office]) -> None:
        office = open_office()
        gateway = Gateway(office)
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 6), Chunk(1, b"abc"))
        assert files(office) == 1
        office.kill()
        gateway.office = open_office()
        assert files(gateway.office) == 0
        assert gateway.ask(Chunk(1, b"def"), CommitUpload(1), GetUploadProgress(1)) == [UploadUnknown()] * 3

    def test_waits_for_the_disk(self, office: Office, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        [alice] = gateway.register("alice")
        monkeypatch.setattr(SyncAtOnce, "sync", lambda *_: None)
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 6), Chunk(1, b"abc"), Chunk(1, b"def"))
        assert gateway.ask(GetUploadProgress(1), CommitUpload(1)) == [
            UploadProgress(6),
            UploadProgress(7 + table_bytes(6)),
        ]
        assert fetch(gateway, alice).count == 0
        monkeypatch.undo()
        assert gateway.one(CommitUpload(1)) == UploadProgress(7 + table_bytes(6)), "it was asked for before"
        office.bodies._syncer.sync(1, 6 + table_bytes(6))
        assert gateway.one(CommitUpload(1)) == Stored(1)
        assert contents(fetch(gateway, alice).page) == [b"abcdef"]

    @pytest.mark.parametrize("flushed", [False, True])
    def test_survives_a_restart_when_it_is_accepted(self, open_office: Callable[..., Office], flushed: bool) -> None:
        office = open_office()
        gateway = Gateway(office)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"before")
        assert self.upload(gateway, alice, bob, b"abc", b"def") == Stored(2)
        gateway.store(alice, bob, b"behind")
        if flushed:
            office.flush()
        office.kill()
        gateway.office = office = open_office()
        leased = fetch(gateway, bob)
        assert contents(leased.page) == [b"before", b"abcdef", b"behind"]
        assert files(office) == 1
        gateway.ask(Settle(1, bob, False, 2, 3))
        assert files(office) == 0
        assert contents(fetch(gateway, bob, 2).page) == [b"before"]

    @pytest.mark.parametrize("flushed", [False, True])
    @pytest.mark.parametrize("damage", ["missing", "short"])
    def test_without_its_file_a_message_is_dropped_at_the_next_start(
        self, open_office: Callable[..., Office], caplog: pytest.LogCaptureFixture, flushed: bool, damage: str
    ) -> None:
        office = open_office()
        gateway = Gateway(office)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"before")
        self.upload(gateway, alice, bob, b"lost")
        self.upload(gateway, alice, bob, b"kept", number=2)
        if flushed:
            office.flush()
        office.kill()
        path = office.folder / "bodies" / "1"
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(b"los")
        for _ in range(2):
            gateway.office = office = open_office()
            assert contents(fetch(gateway, bob).page) == [b"before", b"kept"]
            office.kill()
        # The first start tells, and no later one.
        [told, number] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        state = "is missing" if damage == "missing" else "is cut, and kept as bodies/1.damaged"
        owner = f"'bob' ({bob.hex().upper()})"
        assert told == f"bodies/1 {state}: message 2 in the mailbox of {owner} is lost"
        assert number == "large messages that are lost with their files: 1"
        kept = [path.read_bytes() for path in (office.folder / "bodies").glob("*.damaged")]
        assert kept == ([] if damage == "missing" else [b"los"])

    def test_ends_with_its_epoch(self, office: Office, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        other = Gateway(office, slot=1)
        for each in (gateway, other):
            each.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"abc"))
        successor = Gateway(office)
        assert successor.one(CommitUpload(1)) == UploadUnknown()
        assert files(office) == 1
        assert other.one(CommitUpload(1)) == Stored(1)

    def test_abort(self, office: Office, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"abc"))
        assert gateway.ask(AbortUpload(1), AbortUpload(1)) == [Done(), Done()]
        assert gateway.one(Chunk(1, b"x")) == UploadUnknown()
        assert files(office) == 0

    def test_too_much_ends_it(self, office: Office, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"ab"))
        assert gateway.refused(Chunk(1, b"cd")) is Reason.MALFORMED
        assert gateway.one(CommitUpload(1)) == UploadUnknown()
        assert files(office) == 0

    def test_too_little_ends_it(self, office: Office, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"ab"))
        assert gateway.refused(CommitUpload(1)) is Reason.MALFORMED
        assert files(office) == 0

    def test_a_number_in_use(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3))
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 3)) is Reason.MALFORMED

    def test_unknown_recipient(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(BeginUpload(1, alice, False, NOBODY, 3, 3)) is Reason.RECIPIENT_UNKNOWN

    def test_the_sender_proved_himself_meanwhile(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 0), MarkProven(alice))
        assert gateway.refused(CommitUpload(1)) is Reason.PROOF_NEEDED

    def test_what_was_begun_has_its_place(self, open_office: Callable[..., Office]) -> None:
        gateway = Gateway(open_office(limits=Limits(mailbox_messages=1)))
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 0))
        assert gateway.refused(StoreMessage(alice, False, alice, 3, b"x")) is Reason.MAILBOX_FULL
        run = StoreMessages(False, pack_frame(alice, alice, 3, b"x"))
        assert gateway.one(run) == MessagesStored(1, [RefusedFrame(0, Reason.MAILBOX_FULL, 30)])
        assert gateway.one(CommitUpload(1)) == Stored(1)
        assert gateway.refused(StoreMessage(alice, False, alice, 3, b"x")) is Reason.MAILBOX_FULL

    def test_once_with_its_token(self, office: Office, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        big = bytes(PAGE_BYTES)
        first = self.upload(gateway, alice, bob, big, b"x", token=TOKEN, proven=True)
        assert self.upload(gateway, alice, bob, b"\0", big[1:], b"x", token=TOKEN, number=2, proven=True) == first
        assert self.upload(gateway, alice, bob, big, b"y", token=TOKEN, number=3, proven=True) == Refused(
            Reason.TOKEN_REUSED
        )
        assert gateway.one(StoreMessage(alice, True, bob, 4, big + b"x", TOKEN)) == first
        assert files(office) == 1


class TestFetchWaiting:
    def test_empty(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert fetch(gateway, alice) == Pulled(0, 0, 0, 0, NO_MAIL)

    def test_a_mailbox_without_mail_is_known_without_the_database(
        self, office: Office, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, bob = gateway.register("alice", "bob")
        [sequence] = gateway.store(alice, bob, b"x")
        office.flush()
        leased = fetch(gateway, bob)
        assert leased.count == 1
        gateway.ask(Settle(1, bob, False, sequence, sequence))
        monkeypatch.setattr(MailPages, "overlapping", None)
        for nobody in (alice, bob):
            assert fetch(gateway, nobody) == Pulled(0, 0, 0, 0, NO_MAIL)
            outcome = gateway.one(Fetch(nobody, True, 0, 100, 54, 100, False))
            assert isinstance(outcome, Fetched)
            assert outcome.count == 0

    def test_order(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.ask(*[StoreMessage(alice, False, bob, 3, bytes([n])) for n in range(50)])
        assert contents(fetch(gateway, bob).page) == [bytes([n]) for n in range(50)]

    def test_max_bytes_counts_envelopes_and_gives_at_least_one(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[bytes(10)] * 5)
        assert fetch(gateway, alice, max_bytes=69, envelope_bytes=25).count == 1
        assert fetch(gateway, alice, max_bytes=70, envelope_bytes=25).count == 2
        assert fetch(gateway, alice, max_bytes=0).count == 1
        assert fetch(gateway, alice).count == 1
        assert fetch(gateway, alice).count == 0

    def test_a_lease_hides_its_interval_and_no_more(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"a", b"b")
        first = fetch(gateway, bob, 1)
        gateway.store(alice, bob, b"c")
        assert contents(fetch(gateway, bob, 2).page) == [b"c"]
        gateway.store(alice, alice, b"other mailbox")
        assert contents(fetch(gateway, alice, 3).page) == [b"other mailbox"]
        assert gateway.one(Release(1)) == Done()
        gateway.store(alice, bob, b"d")
        assert contents(fetch(gateway, bob, 4).page) == [b"a", b"b"], "it ends before what is leased"
        assert contents(fetch(gateway, bob, 5).page) == [b"d"]
        assert gateway.one(Settle(4, bob, False, first.first, first.last)) == Done()
        gateway.ask(Release(2), Release(5))
        assert contents(fetch(gateway, bob, 6).page) == [b"c", b"d"]

    def test_a_release_in_the_middle(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[bytes([n]) for n in range(6)])
        for lease in (1, 2, 3):
            assert fetch(gateway, alice, lease, max_bytes=52).count == 2
        gateway.ask(Release(2))
        assert contents(fetch(gateway, alice, 4).page) == [b"\2", b"\3"]
        assert fetch(gateway, alice, 5).count == 0

    def test_a_repeat_gives_the_same_interval(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        first = fetch(gateway, alice, 1)
        gateway.store(alice, alice, b"b")
        assert fetch(gateway, alice, 1) == first

    def test_a_lease_is_its_users_own(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, alice, b"a")
        fetch(gateway, alice, 1)
        assert gateway.refused(Pull(1, bob, False, 100, 25, 100)) is Reason.MALFORMED

    def test_leases_of_two_slots(self, office: Office, gateway: Gateway) -> None:
        other = Gateway(office, slot=1)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        fetch(gateway, alice, 1)
        assert fetch(other, alice, 1).count == 0
        gateway.store(alice, alice, b"b")
        assert contents(fetch(other, alice, 1).page) == [b"b"]
        successor = Gateway(office)
        assert contents(fetch(successor, alice, 1).page) == [b"a"]
        assert fetch(other, alice, 2).count == 0, "the other slot's lease stands"

    def test_settle_takes_only_the_interval(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, alice, b"a", b"b")
        gateway.store(bob, bob, b"x")
        gateway.store(alice, alice, b"c")
        leased = fetch(gateway, alice, 1, max_bytes=52)
        gateway.ask(Settle(1, alice, False, leased.first, leased.last))
        assert contents(fetch(gateway, alice).page) == [b"c"]
        assert contents(fetch(gateway, bob).page) == [b"x"]

    def test_settle_after_a_restart(self, open_office: Callable[..., Office]) -> None:
        office = open_office()
        gateway = Gateway(office)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a", b"b")
        leased = fetch(gateway, alice, 1)
        office.kill()
        gateway.office = open_office()
        gateway.store(alice, alice, b"c")
        assert gateway.one(Settle(1, alice, False, leased.first, leased.last)) == Done()
        assert contents(fetch(gateway, alice, 2).page) == [b"c"]

    def test_settle_of_what_is_gone_or_nobodys_changes_nothing(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        assert (
            gateway.ask(Settle(9, alice, False, 7, 9), Settle(9, NOBODY, True, 1, 1), Settle(9, alice, False, 2, 1))
            == [Done()] * 3
        )
        assert fetch(gateway, alice).count == 1


def test_past_its_leases_a_mailbox_looks_empty_until_one_ends(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LEASES_OF_MAILBOX", 2)
    [alice] = gateway.register("alice")
    for number in (1, 2):
        gateway.store(alice, alice, b"x")
        leased = gateway.one(Pull(number, alice, False, 2**40, 25, 100))
        assert isinstance(leased, Pulled)
        assert leased.count == 1
    gateway.store(alice, alice, b"y")
    assert gateway.one(Pull(3, alice, False, 2**40, 25, 100)) == Pulled(0, 0, 0, 0, NO_MAIL)
    gateway.ask(Release(1))
    again = gateway.one(Pull(4, alice, False, 2**40, 25, 100))
    assert isinstance(again, Pulled)
    assert again.first == 1


def test_a_small_fetch_looks_at_few_messages(gateway: Gateway, office: Office) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, *[b""] * 1000)
    gateway.ask(MarkProven(alice), Fetch(alice, True, 0, 60, 54, 100, False))
    seen: list[int] = []
    office.database._connection.trace_v2(
        apsw.SQLITE_TRACE_PROFILE, lambda event: seen.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
    )
    fetched = gateway.one(Fetch(alice, True, 0, 60, 54, 100, False))
    office.database._connection.trace_v2(0, None)
    assert isinstance(fetched, Fetched)
    assert fetched.count == 1
    assert sum(seen) < 1000


class TestPages:
    def pages(self, gateway: Gateway, user: bytes, page_bytes: int) -> tuple[Pulled, list[list[Piece]]]:
        """All pages of a fetch, asked for as a gateway would."""
        leased = fetch(gateway, user, page_bytes=page_bytes)
        pages = [pieces(leased.page)]
        while True:
            piece = pages[-1][-1]
            end = piece.offset + len(piece.content)
            at = (piece.sequence, end) if end < piece.size else (piece.sequence + 1, 0)
            outcome = gateway.one(PullPage(user, False, *at, leased.last, page_bytes))
            assert isinstance(outcome, Page)
            if not outcome.page:
                return leased, pages
            pages.append(pieces(outcome.page))

    @pytest.mark.parametrize("page_bytes", [0, 1, 99, 100, 250, 1000, 100_000, 2**30])
    def test_all_comes_whole_and_in_order(self, gateway: Gateway, page_bytes: int) -> None:
        [alice] = gateway.register("alice")
        wholes = [b"a" * 100, b"", b"b" * 99, b"c" * 500, b"", b"d" * 101]
        if page_bytes >= 1000:
            wholes.append(bytes(range(256)) * 1200)
        sequences = gateway.store(alice, alice, *wholes)
        leased, pages = self.pages(gateway, alice, page_bytes)
        assert (leased.first, leased.last, leased.count) == (sequences[0], sequences[-1], len(wholes))
        assert leased.content_bytes == sum(map(len, wholes))
        found = dict.fromkeys(sequences, b"")
        for page in pages:
            assert 0 < sum(len(piece.content) for piece in page) <= max(page_bytes, 1) or not page[0].size
            for piece in page:
                assert piece.offset == len(found[piece.sequence])
                assert piece.offset == 0 or piece.size > page_bytes, "small messages come whole"
                found[piece.sequence] += piece.content
        assert list(found.values()) == wholes

    def test_a_page_of_empty_messages_ends(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[b""] * 100)
        assert len(pieces(fetch(gateway, alice, page_bytes=640).page)) == 10

    def test_gone_messages_leave_an_empty_page(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a" * 100)
        leased = fetch(gateway, alice, page_bytes=50)
        gateway.ask(MarkProven(alice))
        after(gateway, alice, leased.last)
        assert gateway.one(PullPage(alice, True, leased.last, 50, leased.last, 50)) == Page(NO_MAIL)

    def test_from_the_end_of_a_message(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"abc", b"def")
        page = gateway.one(PullPage(alice, False, 1, 3, 2, 100))
        assert isinstance(page, Page)
        assert contents(page.page) == [b"def"]


class TestFetchAfter:
    def test_needs_a_proven_connection(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(Fetch(alice, False, 0, 100, 54, 100, False)) is Reason.PROOF_NEEDED

    def test_deletes_what_is_acknowledged_and_reads_on(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"a", b"b", b"c")
        gateway.store(alice, alice, b"not his")
        everything = after(gateway, bob, 0)
        assert contents(everything.page) == [b"a", b"b", b"c"]
        assert (everything.last, everything.count, everything.content_bytes, everything.committed) == (3, 3, 3, 4)
        assert contents(after(gateway, bob, 0).page) == [b"a", b"b", b"c"]
        assert contents(after(gateway, bob, 2).page) == [b"c"]
        assert contents(after(gateway, bob, 0).page) == [b"c"], "the acknowledged ones are gone"
        assert after(gateway, bob, 4) == Fetched(0, 0, 0, 4, NO_MAIL)
        assert contents(after(gateway, alice, 0).page) == [b"not his"]

    def test_max_bytes(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, *[bytes(10)] * 3)
        assert after(gateway, alice, 0, max_bytes=0).count == 1
        assert after(gateway, alice, 0, max_bytes=128).count == 2
        assert after(gateway, alice, 1, max_bytes=127).last == 2

    def test_an_acknowledgement_of_what_never_was(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        assert gateway.refused(Fetch(alice, True, 2, 100, 54, 100, False)) is Reason.MALFORMED
        assert after(gateway, alice, 0).count == 1

    def test_leases_hide_nothing(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        fetch(gateway, alice)
        assert after(gateway, alice, 0).count == 1


class TestWatches:
    def test_one_hint_then_silence(self, gateway: Gateway) -> None:
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        for user in (alice, bob):
            after(gateway, user, 0, watch=True)
        gateway.store(carol, carol, b"nobody waits")
        assert gateway.hints == []
        gateway.ask(*[StoreMessage(carol, False, user, 3, b"x") for user in (alice, alice, carol)])
        [hint] = gateway.hints
        assert (hint.slot, hint.epoch, hint.sequence, hint.recipients) == (0, 1, 4, [alice])
        gateway.store(carol, alice, b"used up")
        assert len(gateway.hints) == 1
        gateway.store(carol, bob, b"x")
        assert gateway.hints[1].recipients == [bob]

    def test_no_watch_where_mail_waits_or_none_was_asked_for(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        after(gateway, alice, 0, watch=False)
        gateway.store(alice, alice, b"a")
        after(gateway, alice, 0, watch=True)
        gateway.store(alice, alice, b"b")
        assert gateway.hints == []

    def test_mail_in_the_same_batch(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        watch = Fetch(alice, True, 0, 100, 54, 100, True)
        gateway.ask(watch, watch, StoreMessage(alice, True, alice, 3, b"x"))
        assert [hint.recipients for hint in gateway.hints] == [[alice]]

    def test_every_slot_hears_and_a_greeting_ends_its_watches(self, office: Office, gateway: Gateway) -> None:
        others = [Gateway(office, slot, peer=b"peer%d" % slot) for slot in (1, 2)]
        [alice] = gateway.register("alice")
        for each in (gateway, *others):
            after(each, alice, 0, watch=True)
        Gateway(office, slot=1)
        gateway.store(alice, alice, b"x")
        assert sorted(hint.slot for hint in gateway.hints) == [0, 2]


class TestMarkProven:
    def test_ends_what_others_leased(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a", b"b")
        first = fetch(gateway, alice, 1, max_bytes=0)
        fetch(gateway, alice, 2, max_bytes=0, proven=True)
        gateway.ask(MarkProven(alice))
        assert contents(fetch(gateway, alice, 3, proven=True).page) == [b"a"], "the proven lease stands"
        gateway.ask(Release(3))
        assert gateway.one(Settle(1, alice, False, first.first, first.last)) == Done()
        assert contents(fetch(gateway, alice, 4, proven=True).page) == [b"a"], "the settle is void"

    def test_voids_a_settle_after_a_restart(self, open_office: Callable[..., Office]) -> None:
        office = open_office()
        gateway = Gateway(office)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        leased = fetch(gateway, alice, 1)
        gateway.ask(MarkProven(alice))
        office.kill()
        gateway.office = open_office()
        gateway.ask(Settle(1, alice, False, leased.first, leased.last))
        assert fetch(gateway, alice, 2, proven=True).count == 1
        gateway.ask(Settle(2, alice, True, leased.first, leased.last))
        assert fetch(gateway, alice, 3, proven=True).count == 0
