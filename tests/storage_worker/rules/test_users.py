"""Registration, the list, public keys, and what a first proof changes, one operation at a time."""

from collections.abc import Callable
from hashlib import sha256

import pytest

from common.name_rule import looks
from common.storage_protocol.operations import (
    Done,
    GetProofKey,
    GetPublicKey,
    KeyFound,
    ListUsers,
    MarkAuthenticated,
    Refused,
    Register,
    Registered,
    Release,
    Settle,
    UserEntry,
    UsersPage,
)
from common.values import RefusalReason as Reason
from common.values import Registration
from storage_worker.engine.records import InvitationMade, UserRegistered
from storage_worker.engine.sqlite import users
from storage_worker.engine.sqlite.invitations import Invitations
from storage_worker.rules.accounts import AccountSettings
from tests.storage_worker.rules.asking import NOBODY, contents, fetch
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker, pieces


class TestRegister:
    def test_new_user_gets_an_id_of_his_own(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert len(alice) == len(bob) == 16
        assert alice != bob

    def test_the_audit_log_has_who_was_registered_and_nobody_twice(
        self, gateway: Gateway, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "messageu.audit")
        alice, bob = gateway.register("alice", "bob")
        gateway.one(Register("alice", KEY, greeted=True))
        gateway.refused(Register("bob", KEY))
        assert [vars(record)["fields"] for record in caplog.records] == [
            {"event": "registered", "user": alice.hex()},
            {"event": "registered", "user": bob.hex()},
        ]

    def test_id_is_a_random_uuid(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert alice[6] >> 4 == 4
        assert alice[8] >> 6 == 2

    def test_a_name_is_given_once(self, gateway: Gateway) -> None:
        assert len(list(gateway.register("alice", "Alice"))) == 2
        assert gateway.refused(Register("alice", KEY)) is Reason.NAME_TAKEN

    def test_again_with_the_same_key_gives_the_same_id(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.one(Register("alice", KEY, greeted=True)) == Registered(alice)
        assert gateway.refused(Register("alice", bytes(160), greeted=True)) is Reason.NAME_TAKEN

    def test_again_is_no_condition(self, gateway: Gateway) -> None:
        assert isinstance(gateway.one(Register("alice", KEY, greeted=True)), Registered)

    def test_a_wanted_id_is_given_where_it_is_free(self, gateway: Gateway) -> None:
        """Who was registered after the backup that was put back is the same user again."""
        [alice] = gateway.register("alice")
        lost = bytes.fromhex("0123456789ab4def8123456789abcdef")
        assert gateway.one(Register("bob", KEY, greeted=True, wanted=lost)) == Registered(lost)
        assert gateway.one(Register("bob", KEY, greeted=True, wanted=alice)) == Registered(lost)
        taken = gateway.one(Register("carol", KEY, greeted=True, wanted=alice))
        assert isinstance(taken, Registered)
        assert taken.client_id not in {alice, lost}

    @pytest.mark.parametrize("wanted", [bytes(15) + b"\1", b"\xff" * 16, b"A" * 16])
    def test_no_id_is_given_that_is_none_of_ours(self, gateway: Gateway, wanted: bytes) -> None:
        given = gateway.one(Register("bob", KEY, greeted=True, wanted=wanted))
        assert isinstance(given, Registered)
        assert given.client_id != wanted

    @pytest.mark.parametrize("name", [" alice", "alice ", "al\nice", "ålice", "\x00"])
    def test_a_name_that_breaks_the_rules_is_malformed(self, gateway: Gateway, name: str) -> None:
        assert gateway.refused(Register(name, KEY)) is Reason.MALFORMED

    @pytest.mark.parametrize("name", ["ålice", "山田太郎", "Юлия", "Zoë Smith", "名" * 40])
    def test_a_name_beyond_ascii_is_given_on_a_connection_of_the_extension(self, gateway: Gateway, name: str) -> None:
        given = gateway.one(Register(name, KEY, greeted=True))
        assert isinstance(given, Registered)
        assert gateway.one(Register(name, KEY, greeted=True)) == given
        assert gateway.refused(Register(name, bytes(160), greeted=True)) is Reason.NAME_TAKEN
        [alice] = gateway.register("alice")
        assert gateway.one(ListUsers(alice, False)) == UsersPage(1, 2, 2, [UserEntry(given.client_id, name)])

    @pytest.mark.parametrize("name", ["Zoe\u0308", "Юлиa", "zo\u00eb\u202e", "😀", " ë", "ë  ë", "名" * 90])
    def test_a_name_beyond_ascii_that_breaks_the_rule(self, gateway: Gateway, name: str) -> None:
        assert gateway.refused(Register(name, KEY, greeted=True)) is Reason.MALFORMED

    @pytest.mark.parametrize(
        ("known", "name"),
        [
            ("alice", "Alice"),
            ("alice", "a1ice"),
            ("IVAN", "ivan"),
            ("ivan", "IVAN"),
            ("lvan", "IVAN"),
            ("paypal", "paypaI"),
            ("paypaI", "paypal"),
            ("Zoë", "zoë"),
            ("poca", "роса"),
            ("роса", "poca"),
        ],
    )
    def test_a_name_that_looks_like_another_one_is_taken_for_the_extension(
        self, gateway: Gateway, known: str, name: str
    ) -> None:
        assert isinstance(gateway.one(Register(known, KEY, greeted=True)), Registered)
        assert gateway.refused(Register(name, KEY, greeted=True)) is Reason.NAME_TAKEN

    def test_to_the_published_protocol_names_are_alike_only_where_one_is_beyond_ascii(self, gateway: Gateway) -> None:
        assert len(list(gateway.register("alice", "Alice", "a1ice", "poca"))) == 4
        assert gateway.refused(Register("роса", KEY, greeted=True)) is Reason.NAME_TAKEN
        assert isinstance(gateway.one(Register("сосо", KEY, greeted=True)), Registered)
        assert gateway.refused(Register("coco", KEY)) is Reason.NAME_TAKEN
        assert gateway.refused(Register("Coco", KEY, greeted=True)) is Reason.NAME_TAKEN

    def test_nobody_is_known_to_published_clients_under_the_name_of_another_one(self, gateway: Gateway) -> None:
        assert isinstance(gateway.one(Register("Zoë", KEY, greeted=True)), Registered)
        assert gateway.refused(Register("xn--Zo-ija", KEY)) is Reason.NAME_TAKEN
        assert isinstance(gateway.one(Register("xn--wgv71a119e", KEY)), Registered)
        assert gateway.refused(Register("日本語", KEY, greeted=True)) is Reason.NAME_TAKEN
        assert isinstance(gateway.one(Register("xn--Zo", KEY)), Registered)

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

    def test_the_count_is_right_however_it_comes_about(self, worker: SqliteWorker, gateway: Gateway) -> None:
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
        registry = worker.engine.users
        assert [registry.count(until) for until in (3, 7, 1, 100)] == [3, 7, 1, 7]
        # A turn that is undone takes its users along, and their rows are given again.
        with pytest.raises(ZeroDivisionError), worker.database.transaction():
            registry.register(UserRegistered(b"x" * 16, "x", KEY, looks("x")))
            assert registry.count(100) == 8
            raise ZeroDivisionError
        worker.rules.roll_back()
        assert registry.count(100) == 7

    def test_public_key(self, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        assert gateway.one(GetPublicKey(alice, False, bob)) == KeyFound(bob, KEY)
        assert gateway.one(GetPublicKey(alice, False, alice)) == KeyFound(alice, KEY)
        assert gateway.refused(GetPublicKey(alice, False, NOBODY)) is Reason.RECIPIENT_UNKNOWN

    def test_proof_key_needs_no_proof(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(MarkAuthenticated(alice))
        assert gateway.one(GetProofKey(alice)) == KeyFound(alice, KEY)

    @pytest.mark.parametrize("remembered", [1, 2])
    def test_more_users_than_are_remembered(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, remembered: int
    ) -> None:
        monkeypatch.setattr(users, "REMEMBERED", remembered)
        ids = list(gateway.register("a", "b", "c"))
        for sender in ids:
            for recipient in ids:
                gateway.store(sender, recipient, b"x")
        for user in ids:
            assert [piece.sender for piece in pieces(fetch(gateway, user).page)] == ids


class TestMarkAuthenticated:
    def test_ends_what_others_leased(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a", b"b")
        first = fetch(gateway, alice, 1, max_bytes=0)
        fetch(gateway, alice, 2, max_bytes=0, authenticated=True)
        gateway.ask(MarkAuthenticated(alice))
        assert contents(fetch(gateway, alice, 3, authenticated=True).page) == [b"a"], "the authenticated lease stands"
        gateway.ask(Release(3))
        assert gateway.one(Settle(1, alice, False, first.first, first.last)) == Done()
        assert contents(fetch(gateway, alice, 4, authenticated=True).page) == [b"a"], "the settle is void"

    def test_voids_a_settle_after_a_restart(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.store(alice, alice, b"a")
        leased = fetch(gateway, alice, 1)
        gateway.ask(MarkAuthenticated(alice))
        worker.kill()
        gateway.worker = open_worker()
        gateway.ask(Settle(1, alice, False, leased.first, leased.last))
        assert fetch(gateway, alice, 2, authenticated=True).count == 1
        gateway.ask(Settle(2, alice, True, leased.first, leased.last))
        assert fetch(gateway, alice, 3, authenticated=True).count == 0


INVITATION = bytes(range(16))


class TestRegistrationModes:
    @pytest.fixture
    def invited(self, open_worker: Callable[..., SqliteWorker]) -> Gateway:
        """A server with one invitation for two."""
        worker = open_worker(accounts=AccountSettings(Registration.INVITED))
        self.invite(worker, uses=2)
        return Gateway(worker)

    @staticmethod
    def invite(worker: SqliteWorker, *, uses: int, until: int = 1_000_001) -> None:
        Invitations(worker.database).apply(InvitationMade(sha256(INVITATION).digest(), uses, until))

    def test_one_registers_with_an_invitation_as_often_as_it_says(self, invited: Gateway) -> None:
        alice = invited.one(Register("alice", KEY, True, None, INVITATION))
        assert isinstance(alice, Registered)
        # The answer was lost: nothing is used up.
        assert invited.one(Register("alice", KEY, True, None, INVITATION)) == alice
        assert invited.one(Register("alice", KEY, True)) == alice
        assert isinstance(invited.one(Register("bob", KEY, True, None, INVITATION)), Registered)
        assert invited.refused(Register("carol", KEY, True, None, INVITATION)) is Reason.INVITATION

    def test_two_in_one_turn_use_two(self, invited: Gateway) -> None:
        outcomes = invited.ask(*[Register(name, KEY, True, None, INVITATION) for name in ("alice", "bob", "carol")])
        assert [type(one).__name__ for one in outcomes] == ["Registered", "Registered", "Refused"]

    def test_without_or_with_another_one_nothing_is_told_of_names(self, invited: Gateway) -> None:
        assert isinstance(invited.one(Register("alice", KEY, True, None, INVITATION)), Registered)
        for name in ("alice", "nobody yet"):
            assert invited.refused(Register(name, KEY[::-1], True)) is Reason.INVITATION
            assert invited.refused(Register(name, KEY[::-1], True, None, INVITATION[::-1])) is Reason.INVITATION
        assert invited.refused(Register("alice", KEY[::-1], True, None, INVITATION)) is Reason.NAME_TAKEN
        assert isinstance(invited.one(Register("bob", KEY, True, None, INVITATION)), Registered), "not used up by that"

    def test_its_time_ends(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker(accounts=AccountSettings(Registration.INVITED))
        self.invite(worker, uses=9, until=worker.now_ms + 10)
        gateway = Gateway(worker)
        worker.now_ms += 9
        assert isinstance(gateway.one(Register("alice", KEY, True, None, INVITATION)), Registered)
        worker.now_ms += 1
        assert gateway.refused(Register("bob", KEY, True, None, INVITATION)) is Reason.INVITATION

    def test_closed(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        [alice] = Gateway(worker).register("alice")
        worker.close()
        worker = open_worker(accounts=AccountSettings(Registration.CLOSED))
        self.invite(worker, uses=1)
        gateway = Gateway(worker)
        for name in ("alice", "bob"):
            for invitation in (None, INVITATION):
                request = Register(name, KEY[::-1], True, None, invitation)
                assert gateway.refused(request) is Reason.REGISTRATION_CLOSED
        # Who is registered asks once more for the answer that was lost.
        assert gateway.one(Register("alice", KEY, True)) == Registered(alice)

    def test_open_needs_none_and_uses_none(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        self.invite(worker, uses=1)
        gateway = Gateway(worker)
        assert isinstance(gateway.one(Register("alice", KEY, True, None, INVITATION)), Registered)
        assert isinstance(gateway.one(Register("bob", KEY, True, None, INVITATION[::-1])), Registered)
        assert len(Invitations(worker.database).all()) == 1
