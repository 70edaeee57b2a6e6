"""What every engine has to do, told through the interface alone.

`turn` is one turn that decides some records; what it did is then looked at through the engine's
reads, in the same life and after a restart.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from common.errors import FrameUndecodable
from common.storage_protocol.message_format import ENTRY_HEAD, pack_frame, pack_frame_once
from common.storage_protocol.operations import (
    Fetch,
    Fetched,
    MessagesStored,
    Refused,
    Register,
    Registered,
    RepeatedFrame,
    StoreMessages,
    StoreMessagesOnce,
    UserEntry,
)
from common.values import RefusalReason
from storage_worker.engine.errors import StoreFull
from storage_worker.engine.interface import Engine
from storage_worker.engine.memory import DAY_MS
from storage_worker.engine.records import (
    BatchApplied,
    Decided,
    InvitationChange,
    InvitationMade,
    InvitationRevoked,
    InvitationUsed,
    KeysPublished,
    MailRemoved,
    MessageAccepted,
    OneTimeKeyClaimed,
    RunningNoted,
    SenderBlocked,
    SequenceUsed,
    SlotTaken,
    TokenUsed,
    UserAuthenticated,
    UserDeleted,
    UserDisabled,
    UserRegistered,
    UserSeen,
)
from storage_worker.engine.values import (
    Admission,
    Deletion,
    Invitation,
    KeyState,
    MailPlace,
    PublishedKeys,
    Slot,
    Span,
    User,
)
from tests.engine_conformance.conftest import Store
from tests.storage_worker.worker_under_test import KEY, Gateway, pieces

END = 2**63 - 1
ALICE, BOB = b"a" * 16, b"b" * 16
NOW = 1_000_000
WEEK = 7 * 24 * 3600 * 1000


class Undone(Exception):
    """What makes a turn fail."""


@contextmanager
def turn(engine: Engine, *, messages: int = 0, registers: bool = False, now_ms: int = NOW) -> Iterator[None]:
    """One turn, as the worker makes it."""
    room = engine.prepare(now_ms, messages, 0)
    assert room.level is Admission.OPEN
    try:
        with engine.turn(now_ms, room.level, registers=registers):
            yield
    except (Undone, StoreFull, FrameUndecodable):
        engine.roll_back()
        raise
    engine.take_received()
    engine.maintain(now_ms)


def decide(engine: Engine, *decided: Decided, now_ms: int = NOW) -> None:
    """One turn with these records."""
    messages = sum(isinstance(one, MessageAccepted) for one in decided)
    registers = any(isinstance(one, UserRegistered | InvitationChange | RunningNoted) for one in decided)
    with turn(engine, messages=messages, registers=registers, now_ms=now_ms):
        for one in decided:
            engine.apply(one)


def found(engine: Engine, client_id: bytes) -> User:
    user = engine.users.find(client_id)
    assert user is not None
    return user


def register(engine: Engine) -> tuple[int, int]:
    """Two users; their rows."""
    decide(
        engine, UserRegistered(ALICE, "alice", KEY, ("alice", "allce")), UserRegistered(BOB, "bøb", KEY[::-1], ("bob",))
    )
    return found(engine, ALICE).row, found(engine, BOB).row


def message(engine: Engine, recipient: int, content: bytes, ahead: int = 1, blob_id: int = 0) -> MessageAccepted:
    """A message `ahead` of the highest sequence; with a `blob_id` the blob has the content."""
    sequence = engine.mailboxes.sequence + ahead
    head = ENTRY_HEAD.pack(ALICE, bytes(16), sequence, NOW, 0, 3, len(content))
    return MessageAccepted(recipient, sequence, head if blob_id else head + content, blob_id)


def put(engine: Engine, recipient: int, *contents: bytes) -> list[int]:
    """One turn with these messages; their sequences."""
    records = [message(engine, recipient, content, ahead) for ahead, content in enumerate(contents, 1)]
    decide(engine, *records)
    return [record.sequence for record in records]


def contents(engine: Engine, user: int, first: int = 0, last: int = END) -> list[tuple[int, bytes]]:
    """What is pending: sequences and contents."""
    mail = engine.mailboxes.read(user, first, 0, last, 2**30)
    return [(piece.sequence, piece.content) for piece in pieces(mail)]


RESTARTS = pytest.mark.parametrize("restart", [None, True, False], ids=["same life", "orderly end", "kill"])


def maybe_restart(store: Store, restart: bool | None) -> None:
    if restart is not None:
        store.restart(orderly=restart)


class TestUsers:
    @RESTARTS
    def test_they_are_found(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        assert alice < bob
        maybe_restart(store, restart)
        users = store.engine.users
        assert found(store.engine, BOB).row == bob
        assert users.find(b"c" * 16) is None
        assert users.find_name("alice") == (ALICE, KEY)
        assert users.find_name("Alice") is None
        assert users.public_key(found(store.engine, BOB)) == KEY[::-1]
        assert users.last_row() == bob
        assert (users.count(alice), users.count(bob)) == (1, 2)
        assert users.page(0, bob, found(store.engine, ALICE)) == (bob, [UserEntry(BOB, "bøb")])
        assert users.page(alice, bob, found(store.engine, ALICE))[1] == [UserEntry(BOB, "bøb")]

    @RESTARTS
    def test_what_names_look_like(self, store: Store, restart: bool | None) -> None:
        register(store.engine)
        maybe_restart(store, restart)
        has_look = store.engine.users.has_look
        assert has_look(["allce"], beyond_ascii=False)
        assert has_look(["x", "alice"], beyond_ascii=False)
        assert not has_look(["alice", "allce"], beyond_ascii=True)
        assert has_look(["bob"], beyond_ascii=True)
        assert has_look(["bob"], beyond_ascii=False)
        assert not has_look(["bøb"], beyond_ascii=False)
        assert not has_look([], beyond_ascii=False)

    @RESTARTS
    def test_a_proof_stays(self, store: Store, restart: bool | None) -> None:
        alice, _ = register(store.engine)
        assert not found(store.engine, ALICE).must_authenticate
        with turn(store.engine):
            store.engine.apply(UserAuthenticated(alice))
            assert found(store.engine, ALICE).must_authenticate, "the same turn sees it"
        maybe_restart(store, restart)
        assert found(store.engine, ALICE).must_authenticate
        assert not found(store.engine, BOB).must_authenticate


class TestInactive:
    @RESTARTS
    def test_who_was_seen_last_before_a_day(self, store: Store, restart: bool | None) -> None:
        ids = [bytes([number]) * 16 for number in range(7)]
        days = [None, 10, 10, 12, 10, 10, 10]
        for number, (client_id, day) in enumerate(zip(ids, days, strict=True)):
            decide(store.engine, UserRegistered(client_id, f"user {number}", KEY, (f"user {number}",), day))
        rows = [found(store.engine, client_id).row for client_id in ids]
        decide(store.engine, UserSeen(rows[2], 11), UserDisabled(rows[4], True), UserDeleted(rows[5]))
        maybe_restart(store, restart)
        users = store.engine.users

        def unseen(day: int, after: int = 0, until: int = rows[-1]) -> list[bytes]:
            return [user.client_id for user in users.unseen_since(day, after, until)]

        assert unseen(10) == []
        assert unseen(11) == [ids[1], ids[6]]
        assert unseen(12) == [ids[1], ids[2], ids[6]]
        assert unseen(13) == [ids[1], ids[2], ids[3], ids[6]]
        assert unseen(13, rows[1], rows[3]) == [ids[2], ids[3]]

    @RESTARTS
    def test_hours_only_grow(self, store: Store, restart: bool | None) -> None:
        assert store.engine.running_time.hours() == 0
        assert store.engine.running_time.first_day_after(-1) is None
        for day, hours in ((10, 0), (10, 3), (300, 2), (11, 0), (5, 1), (11, 1)):
            decide(store.engine, RunningNoted(day, hours))
        with pytest.raises(Undone), turn(store.engine, registers=True):
            store.engine.apply(RunningNoted(12, 5))
            raise Undone
        maybe_restart(store, restart)
        running = store.engine.running_time
        assert running.hours() == 7
        # Day 10 was seen last after 3 hours, 300 after 5, 5 after 6, 11 after 7.
        assert [running.first_day_after(hours) for hours in (-1, 2, 3, 5, 6, 7)] == [5, 5, 5, 5, 11, None]


class TestDeletedUsers:
    @staticmethod
    def gone(store: Store, client_id: bytes) -> None:
        for _ in range(10):
            if store.engine.users.deletion(client_id) is Deletion.DONE:
                return
            store.engine.maintain(NOW)
        raise AssertionError("the deletion never ended")

    @RESTARTS
    def test_nobody_finds_them_and_their_mail_is_gone(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        put(store.engine, bob, b"goes", b"goes")
        decide(store.engine, UserAuthenticated(bob))
        [kept] = put(store.engine, alice, b"stays")
        decide(store.engine, TokenUsed(kept, bob, b"t" * 16, alice, 3, b"d" * 32, NOW))
        with turn(store.engine):
            store.engine.apply(UserDeleted(bob))
            assert store.engine.users.find(BOB) is None, "the same turn sees it"
            assert store.engine.users.find_name("bøb") is None
            assert store.engine.users.name_is_kept("bøb")
            assert [account.name for account in store.engine.users.accounts(0, 1)] == ["alice"]
            assert (store.engine.totals().users, store.engine.totals().authenticated) == (1, 0)
        maybe_restart(store, restart)
        self.gone(store, BOB)
        maybe_restart(store, restart)
        users = store.engine.users
        assert users.find(BOB) is None
        assert users.deletion(BOB) is Deletion.DONE
        assert users.deletion(ALICE) is None
        assert users.deletion(b"c" * 16) is None
        assert users.name_is_kept("bøb")
        assert not users.name_is_kept("alice")
        assert users.count(bob) == 1
        assert users.page(0, bob, found(store.engine, ALICE))[1] == []
        assert [account.name for account in users.accounts(0, 9)] == ["alice"]
        assert (store.engine.totals().users, store.engine.totals().authenticated) == (1, 0)
        assert contents(store.engine, bob) == []
        assert contents(store.engine, alice) == [(kept, b"stays")]
        assert store.engine.tokens.find(bob, b"t" * 16, NOW) is None

    @RESTARTS
    def test_their_row_is_given_to_nobody(self, store: Store, restart: bool | None) -> None:
        _, bob = register(store.engine)
        decide(store.engine, UserDeleted(bob))
        self.gone(store, BOB)
        maybe_restart(store, restart)
        decide(store.engine, UserRegistered(b"c" * 16, "carol", KEY, ("carol",)))
        assert found(store.engine, b"c" * 16).row > bob

    @RESTARTS
    def test_a_turn_that_fails_deletes_nobody(self, store: Store, restart: bool | None) -> None:
        _, bob = register(store.engine)
        [sequence] = put(store.engine, bob, b"stays")
        with pytest.raises(Undone), turn(store.engine):
            store.engine.apply(UserDeleted(bob))
            raise Undone
        maybe_restart(store, restart)
        assert store.engine.users.deletion(BOB) is None
        assert found(store.engine, BOB).row == bob
        assert contents(store.engine, bob) == [(sequence, b"stays")]


class TestInvitations:
    @RESTARTS
    def test_they_are_made_used_and_revoked(self, store: Store, restart: bool | None) -> None:
        one, other = b"1" * 32, b"2" * 32
        decide(store.engine, InvitationMade(one, 2, NOW + 9), InvitationMade(other, 1, NOW + 5))
        maybe_restart(store, restart)
        kept = store.engine.invitations
        assert kept.all() == [Invitation(other, 1, NOW + 5), Invitation(one, 2, NOW + 9)]
        decide(store.engine, InvitationUsed(one), InvitationUsed(other))
        maybe_restart(store, restart)
        kept = store.engine.invitations
        assert kept.find(one) == Invitation(one, 1, NOW + 9)
        assert kept.find(other) is None
        with pytest.raises(Undone), turn(store.engine, registers=True):
            store.engine.apply(InvitationUsed(one))
            assert kept.find(one) is None, "the same turn sees it"
            raise Undone
        assert store.engine.invitations.find(one) == Invitation(one, 1, NOW + 9)
        decide(store.engine, InvitationRevoked(one))
        maybe_restart(store, restart)
        assert store.engine.invitations.all() == []


class TestBlocks:
    @RESTARTS
    def test_they_stay(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        assert not found(store.engine, ALICE).blocks
        decide(store.engine, SenderBlocked(alice, bob, True), SenderBlocked(alice, bob, True))
        maybe_restart(store, restart)
        blocks = store.engine.blocks
        assert (blocks.holds(alice, bob), blocks.holds(bob, alice)) == (True, False)
        assert (blocks.count(alice), blocks.count(bob)) == (1, 0)
        assert (found(store.engine, ALICE).blocks, found(store.engine, BOB).blocks) == (True, False)
        decide(store.engine, SenderBlocked(alice, bob, False))
        assert not store.engine.blocks.holds(alice, bob)
        maybe_restart(store, restart)
        assert not store.engine.blocks.holds(alice, bob)
        assert store.engine.blocks.count(alice) == 0

    @RESTARTS
    def test_of_who_is_deleted_nothing_stays(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        decide(store.engine, SenderBlocked(alice, bob, True), SenderBlocked(bob, alice, True))
        decide(store.engine, UserDeleted(bob))
        TestDeletedUsers.gone(store, BOB)
        maybe_restart(store, restart)
        assert store.engine.blocks.count(alice) == store.engine.blocks.count(bob) == 0

    def test_a_turn_that_fails_leaves_none(self, store: Store) -> None:
        alice, bob = register(store.engine)
        with pytest.raises(Undone), turn(store.engine):
            store.engine.apply(SenderBlocked(alice, bob, True))
            assert store.engine.blocks.holds(alice, bob), "the same turn sees it"
            raise Undone
        assert not store.engine.blocks.holds(alice, bob)
        assert not found(store.engine, ALICE).blocks

    @RESTARTS
    def test_a_sequence_that_nobody_gets_is_used(self, store: Store, restart: bool | None) -> None:
        _, bob = register(store.engine)
        used = store.engine.mailboxes.sequence + 1
        decide(store.engine, SequenceUsed(used))
        maybe_restart(store, restart)
        assert store.engine.mailboxes.sequence >= used
        assert contents(store.engine, bob) == []
        assert put(store.engine, bob, b"next")[0] > used


def one_time(*numbers: int) -> bytes:
    """One-time keys, one behind the other."""
    return b"".join(bytes([number]) * 96 for number in numbers)


class TestKeys:
    @RESTARTS
    def test_they_are_kept_and_given_out_in_order(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        generation = store.engine.identity.generation
        assert store.engine.keys.find(alice) is None
        assert found(store.engine, ALICE).keys is KeyState.NEVER
        decide(store.engine, KeysPublished(alice, generation, b"first", b"d" * 32, 0, one_time(1, 2, 3), b""))
        assert found(store.engine, ALICE).keys is KeyState.KEPT
        decide(store.engine, OneTimeKeyClaimed(alice))
        maybe_restart(store, restart)
        assert store.engine.keys.find(alice) == PublishedKeys(b"first", b"d" * 32, generation, one_time(2, 3))
        assert found(store.engine, ALICE).keys is KeyState.KEPT
        assert found(store.engine, BOB).keys is KeyState.NEVER
        decide(
            store.engine,
            KeysPublished(alice, generation, b"second", b"e" * 32, 1, one_time(4, 5), b"d" * 32),
            OneTimeKeyClaimed(alice),
            KeysPublished(bob, generation, b"bob's", b"f" * 32, 0, b"", b""),
        )
        maybe_restart(store, restart)
        assert store.engine.keys.find(alice) == PublishedKeys(b"second", b"e" * 32, generation, one_time(4, 5))
        decide(store.engine, OneTimeKeyClaimed(alice), OneTimeKeyClaimed(alice))
        maybe_restart(store, restart)
        assert store.engine.keys.find(alice) == PublishedKeys(b"second", b"e" * 32, generation, b"")
        assert store.engine.keys.find(bob) == PublishedKeys(b"bob's", b"f" * 32, generation, b"")

    @RESTARTS
    def test_they_are_counted(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        generation = store.engine.identity.generation
        decide(
            store.engine,
            KeysPublished(alice, generation, b"first", b"d" * 32, 0, one_time(1, 2, 3), b""),
            KeysPublished(bob, generation - 1, b"old", b"d" * 32, 0, one_time(1, 2), b""),
            OneTimeKeyClaimed(alice),
        )

        def counted() -> tuple[int, int, list[int | None]]:
            with store.engine.reading():
                totals, accounts = store.engine.totals(), store.engine.users.accounts(0, 10)
            return totals.with_keys, totals.one_time_keys, [account.one_time_keys for account in accounts]

        # Of another generation none is given out.
        assert counted() == (2, 2, [2, 0])
        maybe_restart(store, restart)
        assert counted() == (2, 2, [2, 0])
        decide(store.engine, UserRegistered(b"c" * 16, "carol", KEY, ("carol",)))
        decide(store.engine, OneTimeKeyClaimed(alice), UserDeleted(bob))
        for step in range(5):
            store.engine.maintain(NOW + 10_000 * step)
        assert counted() == (1, 1, [1, None])

    @RESTARTS
    def test_of_who_is_deleted_nothing_stays(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        generation = store.engine.identity.generation
        for user in (alice, bob):
            decide(store.engine, KeysPublished(user, generation, b"bundle", b"d" * 32, 0, one_time(1), b""))
        decide(store.engine, UserDeleted(alice))
        for step in range(5):
            store.engine.maintain(NOW + 10_000 * step)
        maybe_restart(store, restart)
        assert store.engine.keys.find(alice) is None
        assert store.engine.keys.find(bob) is not None

    def test_a_turn_that_fails_leaves_none(self, store: Store) -> None:
        alice, bob = register(store.engine)
        generation = store.engine.identity.generation
        decide(store.engine, KeysPublished(alice, generation, b"bundle", b"d" * 32, 0, one_time(1, 2), b""))
        before = store.engine.keys.find(alice)
        with pytest.raises(Undone), turn(store.engine):
            store.engine.apply(OneTimeKeyClaimed(alice))
            store.engine.apply(KeysPublished(bob, generation, b"bundle", b"d" * 32, 0, one_time(1, 2), b""))
            raise Undone
        assert store.engine.keys.find(alice) == before
        assert store.engine.keys.find(bob) is None
        assert found(store.engine, BOB).keys is KeyState.NEVER


class TestTurns:
    @RESTARTS
    def test_what_was_committed_stays_once(self, store: Store, restart: bool | None) -> None:
        _, bob = register(store.engine)
        sequences = put(store.engine, bob, b"one", b"", b"three")
        maybe_restart(store, restart)
        assert contents(store.engine, bob) == list(zip(sequences, [b"one", b"", b"three"], strict=True))
        maybe_restart(store, restart)
        assert len(contents(store.engine, bob)) == 3

    @RESTARTS
    def test_a_turn_that_fails_leaves_nothing(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        [first] = put(store.engine, bob, b"stays")
        highest = store.engine.mailboxes.sequence
        with pytest.raises(Undone), turn(store.engine, messages=1, registers=True):
            store.engine.apply(UserRegistered(b"c" * 16, "carol", KEY, ("carol",)))
            store.engine.apply(message(store.engine, bob, b"goes"))
            store.engine.apply(MailRemoved(bob, first, first))
            store.engine.apply(UserAuthenticated(alice))
            store.engine.apply(TokenUsed(first, alice, b"t" * 16, bob, 3, b"", NOW))
            store.engine.apply(SlotTaken(0, 1, b"i" * 16, b""))
            raise Undone
        maybe_restart(store, restart)
        engine = store.engine
        assert engine.users.find(b"c" * 16) is None
        assert not engine.users.has_look(["carol"], beyond_ascii=False)
        assert contents(engine, bob) == [(first, b"stays")]
        assert not found(engine, ALICE).must_authenticate
        assert engine.tokens.find(alice, b"t" * 16, NOW) is None
        assert engine.slots.find(0) is None
        assert engine.mailboxes.sequence >= highest
        assert put(engine, bob, b"next")[0] > first

    def test_the_same_turn_reads_what_it_wrote(self, store: Store) -> None:
        _, bob = register(store.engine)
        with turn(store.engine, messages=2):
            for content in (b"one", b"two"):
                store.engine.apply(message(store.engine, bob, content))
            (first, _), (second, _) = contents(store.engine, bob)
            assert second == first + 1
            store.engine.apply(MailRemoved(bob, first, first))
            assert contents(store.engine, bob) == [(second, b"two")]
            box = store.engine.mailboxes.mailbox(bob)
            assert (box.messages, box.content_bytes) == (1, 3)

    def test_who_received_is_said_once(self, store: Store) -> None:
        _, bob = register(store.engine)
        engine = store.engine
        room = engine.prepare(NOW, 1, 0)
        with engine.turn(NOW, room.level, registers=False):
            engine.apply(message(engine, bob, b"x"))
        assert list(engine.take_received()) == [bob]
        assert list(engine.take_received()) == []
        with pytest.raises(Undone), turn(engine, messages=1):
            engine.apply(message(engine, bob, b"x"))
            raise Undone
        assert list(engine.take_received()) == []

    def test_a_turn_without_room_leaves_nothing(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        store.worker.limit_room(0)
        frames = b"".join(pack_frame(alice, bob, 3, bytes(200_000)) for _ in range(10))
        [outcome] = gateway.ask(StoreMessages(False, frames))
        store.worker.limit_room(None)
        assert isinstance(outcome, MessagesStored)
        assert [refused.reason for refused in outcome.refused] == [RefusalReason.STORAGE_FULL] * 10
        assert contents(store.engine, found(store.engine, bob).row) == []


class TestSequences:
    @pytest.mark.parametrize("orderly", [True, False])
    def test_none_is_given_twice(self, store: Store, orderly: bool) -> None:
        _, bob = register(store.engine)
        given: list[int] = []
        for _ in range(4):
            given += put(store.engine, bob, b"x", b"y")
            decide(store.engine, MailRemoved(bob, 0, given[-1]))
            store.restart(orderly=orderly)
        assert given == sorted(set(given))
        assert store.engine.mailboxes.sequence >= given[-1]


class TestDeletes:
    @RESTARTS
    def test_the_interval_and_nothing_else(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        sequences = put(store.engine, bob, *[b"%d" % number for number in range(10)])
        [other] = put(store.engine, alice, b"hers")
        maybe_restart(store, restart)
        decide(store.engine, MailRemoved(bob, sequences[2], sequences[4]))
        decide(store.engine, MailRemoved(bob, sequences[3], sequences[5]))
        decide(store.engine, MailRemoved(bob, other, END))
        maybe_restart(store, restart)
        assert [sequence for sequence, _ in contents(store.engine, bob)] == sequences[:2] + sequences[6:]
        assert contents(store.engine, alice) == [(other, b"hers")]
        mailboxes = store.engine.mailboxes
        assert mailboxes.oldest(bob, sequences[1], END) == sequences[6]
        assert mailboxes.oldest(bob, sequences[1], sequences[6]) is None
        assert mailboxes.span(bob, 0, END, END, 0) == Span(sequences[0], sequences[9], 6, 6)
        assert mailboxes.span(bob, sequences[2], sequences[5], END, 0) is None
        assert (mailboxes.mailbox(bob).messages, mailboxes.mailbox(bob).content_bytes) == (6, 6)


class TestOldMail:
    @pytest.mark.parametrize("restart", [None, True, False])
    def test_days_and_what_is_older(self, store: Store, restart: bool | None) -> None:
        user, other = register(store.engine)
        day = NOW // DAY_MS
        put(store.engine, other, b"1")
        put(store.engine, user, b"2", b"3")
        assert store.engine.mailboxes.accepted_before(day) <= 3
        decide(store.engine, SlotTaken(1, 1, bytes(16), b""), now_ms=NOW + 60_000)
        store.engine.maintain(NOW + 120_000)
        decide(store.engine, SlotTaken(1, 2, bytes(16), b""), now_ms=NOW + 2 * DAY_MS)
        store.engine.maintain(NOW + 2 * DAY_MS + 60_000)
        maybe_restart(store, restart)
        mailboxes = store.engine.mailboxes
        assert mailboxes.accepted_before(day - 1) == 0, "nothing is known of it"
        assert mailboxes.accepted_before(day + 1) == mailboxes.accepted_before(day + 2) == 3
        assert mailboxes.accepted_before(day + 3) >= 3
        removed: list[MailRemoved] = []
        place: MailPlace | None = MailPlace(0, 0)
        while place is not None and len(removed) < 10:
            found = mailboxes.old_mail(place, 2, 1)
            removed += found.removed
            place = found.behind
        decide(store.engine, *removed)
        assert contents(store.engine, user) == [(3, b"3")]
        assert contents(store.engine, other) == []
        assert mailboxes.pending(user) == (1, 1)


class TestReads:
    def test_spans_end_where_the_bytes_do(self, store: Store) -> None:
        _, bob = register(store.engine)
        sequences = put(store.engine, bob, bytes(100), bytes(50), bytes(10))
        span = store.engine.mailboxes.span
        assert span(bob, 0, END, 170, 10) == Span(sequences[0], sequences[1], 2, 150)
        assert span(bob, 0, END, 169, 10) == Span(sequences[0], sequences[0], 1, 100)
        assert span(bob, 0, END, 0, 10) == Span(sequences[0], sequences[0], 1, 100), "at least one"

    @pytest.mark.parametrize("restart", [None, True, False])
    def test_the_first_page_is_what_the_span_has_at_its_beginning(self, store: Store, restart: bool | None) -> None:
        """In pages, with something removed, beside the pages, and as blobs."""
        _, bob = register(store.engine)
        sizes = [100, 0, 50, 300, 0, 10, 70, 0]
        sequences = put(store.engine, bob, *[bytes(size) for size in sizes[:4]])
        maybe_restart(store, restart)
        sequences += put(store.engine, bob, *[bytes(size) for size in sizes[4:]])
        decide(store.engine, MailRemoved(bob, sequences[2], sequences[2]))
        mailboxes = store.engine.mailboxes
        for first in (0, sequences[0] + 1, sequences[3], sequences[-1] + 1):
            for max_bytes, page_bytes, envelope in itertools.product(
                (0, 100, 460, 2**30), (1, 99, 164, 700, 2**20), (0, 25)
            ):
                span = mailboxes.span(bob, first, END, max_bytes, envelope)
                found = mailboxes.first_page(bob, first, END, max_bytes, envelope, page_bytes)
                if span is None:
                    assert found is None
                else:
                    assert found == (span, mailboxes.read(bob, span.first, 0, span.last, page_bytes))

    def test_large_messages_come_in_parts(self, store: Store) -> None:
        _, bob = register(store.engine)
        content = bytes(range(250))
        [sequence] = put(store.engine, bob, content)
        whole, offset = b"", 0
        while offset < len(content):
            [piece] = pieces(store.engine.mailboxes.read(bob, sequence, offset, END, 60))
            assert (piece.sequence, piece.size, piece.offset) == (sequence, 250, offset)
            whole += piece.content
            offset += len(piece.content)
        assert whole == content


class TestRuns:
    def test_they_are_decided_in_order(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        frames = [(bob, 3, b"one"), (b"?" * 16, 3, b"two"), (bob, 9, b"three"), (bob, 3, b""), (alice, 3, b"five")]
        [outcome] = gateway.ask(
            StoreMessages(False, b"".join(pack_frame(alice, to, kind, content) for to, kind, content in frames))
        )
        assert isinstance(outcome, MessagesStored)
        first = outcome.first
        assert [(refused.index, refused.reason) for refused in outcome.refused] == [
            (1, RefusalReason.RECIPIENT_UNKNOWN),
            (2, RefusalReason.MALFORMED),
        ]
        for orderly in (True, False):
            engine = store.engine
            assert contents(engine, found(engine, bob).row) == [(first, b"one"), (first + 1, b"")]
            assert contents(engine, found(engine, alice).row) == [(first + 2, b"five")]
            store.restart(orderly=orderly)

    def test_senders_are_asked_about_one_by_one(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        frames = [(alice, b"one"), (b"?" * 16, b"two"), (bob, b"three")]
        [outcome] = gateway.ask(
            StoreMessages(False, b"".join(pack_frame(sender, bob, 3, content) for sender, content in frames))
        )
        assert isinstance(outcome, MessagesStored)
        assert [(refused.index, refused.reason) for refused in outcome.refused] == [
            (1, RefusalReason.REQUESTER_UNKNOWN),
        ]
        first = outcome.first
        assert contents(store.engine, found(store.engine, bob).row) == [(first, b"one"), (first + 1, b"three")]

    @RESTARTS
    def test_what_is_blocked_has_a_sequence_and_no_place(self, store: Store, restart: bool | None) -> None:
        gateway = Gateway(store.worker)
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        bobs = found(store.engine, bob).row
        decide(store.engine, SenderBlocked(bobs, found(store.engine, alice).row, True))
        frames = [(alice, bob, b"one"), (carol, bob, b"two"), (alice, carol, b"three"), (alice, bob, b"four")]
        [outcome] = gateway.ask(
            StoreMessages(False, b"".join(pack_frame(sender, to, 3, content) for sender, to, content in frames))
        )
        assert isinstance(outcome, MessagesStored)
        assert outcome.refused == []
        first = outcome.first
        maybe_restart(store, restart)
        assert contents(store.engine, bobs) == [(first + 1, b"two")]
        assert contents(store.engine, found(store.engine, carol).row) == [(first + 2, b"three")]
        assert store.engine.mailboxes.sequence >= first + 3
        box = store.engine.mailboxes.mailbox(bobs)
        assert (box.messages, box.content_bytes) == (1, 3)

    def test_a_mailbox_that_gets_full_meanwhile(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        run = StoreMessages(False, pack_frame(alice, bob, 3, b"x") * 1100)
        [outcome] = gateway.ask(run)
        assert isinstance(outcome, MessagesStored)
        reasons = {refused.reason for refused in outcome.refused}
        assert reasons == {RefusalReason.SENDER_SHARE}
        assert [refused.index for refused in outcome.refused] == list(range(500, 1100)), "half of it, then a share"

    def test_one_that_is_cut_off_leaves_nothing(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        frames = pack_frame(alice, bob, 3, b"one") + pack_frame(alice, bob, 3, b"two")[:-1]
        with pytest.raises(AssertionError):
            gateway.ask(StoreMessages(False, frames))
        assert contents(store.engine, found(store.engine, bob).row) == []


class TestRunsOnce:
    """Runs of messages with tokens."""

    @RESTARTS
    def test_what_was_sent_before_is_answered_again(self, store: Store, restart: bool | None) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        frames = [
            (alice, b"1", bob, 3, b"one"), (b"?" * 16, b"1", bob, 3, b"two"), (alice, b"2", b"?" * 16, 3, b"three"),
            (bob, b"1", bob, 3, b"four"), (alice, b"1", bob, 3, b"one"), (alice, b"1", bob, 4, b"one"),
            (alice, b"3", alice, 2, b""), (alice, b"4", alice, 9, b"x"),
        ]  # fmt: skip
        run = StoreMessagesOnce(
            True, b"".join(pack_frame_once(who, token * 16, whom, kind, it) for who, token, whom, kind, it in frames)
        )
        [outcome] = gateway.ask(run)
        assert isinstance(outcome, MessagesStored)
        first = outcome.first
        refused = [
            (1, RefusalReason.REQUESTER_UNKNOWN), (2, RefusalReason.RECIPIENT_UNKNOWN),
            (5, RefusalReason.TOKEN_REUSED), (7, RefusalReason.MALFORMED),
        ]  # fmt: skip
        assert [(one.index, one.reason) for one in outcome.refused] == refused
        assert outcome.repeated == [RepeatedFrame(4, first)]
        maybe_restart(store, restart)
        bobs, alices = (found(store.engine, user).row for user in (bob, alice))
        for _ in range(2):
            assert contents(store.engine, bobs) == [(first, b"one"), (first + 1, b"four")]
            assert contents(store.engine, alices) == [(first + 2, b"")]
            gateway = Gateway(store.worker, incarnation=os.urandom(16))
            [again] = gateway.ask(run)
            assert isinstance(again, MessagesStored)
            assert [(one.index, one.reason) for one in again.refused] == refused
            assert again.repeated == [
                RepeatedFrame(0, first), RepeatedFrame(3, first + 1), RepeatedFrame(4, first),
                RepeatedFrame(6, first + 2),
            ]  # fmt: skip
        sent = store.engine.tokens.find(alices, b"3" * 16, store.worker.now_ms)
        assert sent is not None
        assert (sent.sequence, sent.recipient, sent.kind) == (first + 2, alices, 2)

    @RESTARTS
    def test_what_is_blocked_has_a_sequence_and_a_token(self, store: Store, restart: bool | None) -> None:
        gateway = Gateway(store.worker)
        alice, bob = gateway.register("alice", "bob")
        bobs = found(store.engine, bob).row
        decide(store.engine, SenderBlocked(bobs, found(store.engine, alice).row, True))
        frames = [(alice, b"1", b"one"), (bob, b"2", b"two")]
        run = StoreMessagesOnce(
            True, b"".join(pack_frame_once(who, token * 16, bob, 3, content) for who, token, content in frames)
        )
        [outcome] = gateway.ask(run)
        assert isinstance(outcome, MessagesStored)
        maybe_restart(store, restart)
        first = outcome.first
        assert contents(store.engine, bobs) == [(first + 1, b"two")]
        [again] = Gateway(store.worker, incarnation=os.urandom(16)).ask(run)
        assert isinstance(again, MessagesStored)
        assert again.repeated == [RepeatedFrame(0, first), RepeatedFrame(1, first + 1)]

    def test_it_needs_an_authenticated_connection(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        [alice] = gateway.register("alice")
        [outcome] = gateway.ask(StoreMessagesOnce(False, pack_frame_once(alice, b"t" * 16, alice, 3, b"x")))
        assert isinstance(outcome, MessagesStored)
        assert [one.reason for one in outcome.refused] == [RefusalReason.PROOF_NEEDED]

    @RESTARTS
    def test_the_newest_1024_of_a_sender_are_known(self, store: Store, restart: bool | None) -> None:
        gateway = Gateway(store.worker)
        users = list(gateway.register("alice", "bob", "carol", "dave"))
        alice = users[0]
        frames = [pack_frame_once(alice, n.to_bytes(16, "big"), users[n % 4], 3, b"x") for n in range(1025)]
        outcomes = [
            gateway.ask(StoreMessagesOnce(True, b"".join(frames[at : at + 25])))[0] for at in range(0, 1025, 25)
        ]
        assert isinstance(outcomes[0], MessagesStored)
        first = outcomes[0].first
        maybe_restart(store, restart)
        row, now = found(store.engine, alice).row, store.worker.now_ms
        assert store.engine.tokens.find(row, (0).to_bytes(16, "big"), now) is None
        [second, last] = [store.engine.tokens.find(row, n.to_bytes(16, "big"), now) for n in (1, 1024)]
        assert second is not None
        assert last is not None
        assert (second.sequence, last.sequence) == (first + 1, first + 1024)

    def test_one_that_is_cut_off_leaves_nothing(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        [alice] = gateway.register("alice")
        frame = pack_frame_once(alice, b"t" * 16, alice, 3, b"one")
        with pytest.raises(AssertionError):
            gateway.ask(StoreMessagesOnce(True, frame + frame[:-1]))
        row = found(store.engine, alice).row
        assert contents(store.engine, row) == []
        assert store.engine.tokens.find(row, b"t" * 16, store.worker.now_ms) is None

    def test_without_room_nothing_new_is_accepted(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        [alice] = gateway.register("alice")
        known = pack_frame_once(alice, b"t" * 16, alice, 3, b"one")
        [outcome] = gateway.ask(StoreMessagesOnce(True, known))
        assert isinstance(outcome, MessagesStored)
        store.worker.limit_room(0)
        new = [pack_frame_once(alice, bytes([n]) * 16, alice, 3, bytes(200_000)) for n in range(10)]
        [full] = gateway.ask(StoreMessagesOnce(True, b"".join([known, *new])))
        store.worker.limit_room(None)
        assert isinstance(full, MessagesStored)
        assert [one.reason for one in full.refused] == [RefusalReason.STORAGE_FULL] * 10
        assert full.repeated == [RepeatedFrame(0, outcome.first)]
        assert contents(store.engine, found(store.engine, alice).row) == [(outcome.first, b"one")]


class TestTokens:
    @RESTARTS
    def test_they_are_known_for_a_week(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        used = TokenUsed(1, alice, b"t" * 16, bob, 3, b"d" * 32, NOW)
        decide(store.engine, message(store.engine, bob, b"x"), used)
        maybe_restart(store, restart)
        find = store.engine.tokens.find
        assert find(alice, b"t" * 16, NOW) == used
        assert find(bob, b"t" * 16, NOW) is None, "another sender's"
        assert find(alice, b"t" * 16, NOW + WEEK) == used
        assert find(alice, b"t" * 16, NOW + WEEK + 1) is None

    @RESTARTS
    def test_the_newest_1024_of_a_sender(self, store: Store, restart: bool | None) -> None:
        alice, bob = register(store.engine)
        tokens = [number.to_bytes(16, "big") for number in range(1025)]
        decide(
            store.engine,
            *[TokenUsed(number + 1, alice, token, bob, 3, b"", NOW) for number, token in enumerate(tokens)],
        )
        maybe_restart(store, restart)
        find = store.engine.tokens.find
        assert find(alice, tokens[0], NOW) is None
        assert find(alice, tokens[1], NOW) is not None


class TestSlots:
    @RESTARTS
    def test_the_last_two_batches_are_kept(self, store: Store, restart: bool | None) -> None:
        decide(store.engine, SlotTaken(3, 7, b"i" * 16, b"e" * 16))
        assert store.engine.slots.find(3) == Slot(7, b"i" * 16, b"e" * 16, 0, None, None)
        decide(store.engine, BatchApplied(3, 1, b"one"), BatchApplied(3, 2, b"two"))
        decide(store.engine, BatchApplied(3, 3, None))
        maybe_restart(store, restart)
        slot = store.engine.slots.find(3)
        assert slot == Slot(7, b"i" * 16, b"e" * 16, 3, None, b"two")
        assert store.engine.slots.find(4) is None
        decide(store.engine, SlotTaken(3, 8, b"j" * 16, b""))
        maybe_restart(store, restart)
        assert store.engine.slots.find(3) == Slot(8, b"j" * 16, b"", 0, None, None)

    @RESTARTS
    def test_a_batch_that_comes_again_is_applied_once(self, store: Store, restart: bool | None) -> None:
        gateway = Gateway(store.worker)
        [alice] = gateway.register("alice")
        [stored] = gateway.ask(StoreMessages(False, pack_frame(alice, alice, 3, b"x")))
        maybe_restart(store, restart)
        gateway.worker = store.worker
        assert gateway.resend() == [stored]
        assert len(contents(store.engine, found(store.engine, alice).row)) == 1


class TestBlobs:
    @RESTARTS
    def test_a_message_of_a_blob(self, store: Store, restart: bool | None) -> None:
        _, bob = register(store.engine)
        engine = store.engine
        blob_id = engine.mailboxes.new_blob_id()
        content = bytes(range(256)) * 700
        engine.blobs.append(blob_id, content[:100_000])
        engine.blobs.append(blob_id, content[100_000:])
        while engine.blobs.finish(blob_id):
            pass
        record = message(engine, bob, content, blob_id=blob_id)
        decide(engine, record)
        maybe_restart(store, restart)
        assert contents(store.engine, bob) == [(record.sequence, content)]
        [piece] = pieces(store.engine.mailboxes.read(bob, record.sequence, 70_000, END, 1000))
        assert (piece.offset, piece.content) == (70_000, content[70_000:71_000])
        assert store.engine.mailboxes.new_blob_id() > blob_id
        decide(store.engine, MailRemoved(bob, record.sequence, record.sequence))
        maybe_restart(store, restart)
        assert contents(store.engine, bob) == []

    def test_one_that_was_removed_or_never_existed(self, store: Store) -> None:
        blob_id = store.engine.mailboxes.new_blob_id()
        store.engine.blobs.append(blob_id, b"x")
        for _ in range(2):
            store.engine.blobs.remove(blob_id)
        assert store.engine.blobs.unsynced(blob_id) == 0

    def test_uploads_take_room(self, store: Store) -> None:
        _, bob = register(store.engine)
        put(store.engine, bob, b"123")
        mailboxes = store.engine.mailboxes
        mailboxes.charge(bob, 1, 0)
        mailboxes.charge(bob, 0, 50)
        assert (mailboxes.mailbox(bob).messages, mailboxes.mailbox(bob).content_bytes) == (2, 53)
        mailboxes.charge(bob, -1, -50)
        assert (mailboxes.mailbox(bob).messages, mailboxes.mailbox(bob).content_bytes) == (1, 3)


class TestRules:
    """What the rules promise holds over every engine."""

    def test_a_life(self, store: Store) -> None:
        gateway = Gateway(store.worker)
        outcomes: Sequence[object] = gateway.ask(Register("alice", KEY), Register("alice", KEY))
        registered, refused = outcomes
        assert isinstance(registered, Registered)
        assert isinstance(refused, Refused)
        alice = registered.client_id
        sequences = gateway.store(alice, alice, b"one", b"two")
        fetched = gateway.one(Fetch(alice, True, 0, END, 54, 2**20, False))
        assert isinstance(fetched, Fetched)
        assert [piece.sequence for piece in pieces(fetched.page)] == sequences
        again = gateway.one(Fetch(alice, True, sequences[0], END, 54, 2**20, False))
        assert isinstance(again, Fetched)
        assert (again.count, again.last) == (1, sequences[1])

    def test_damage_and_failure_are_told_apart_from_bugs(self, store: Store) -> None:
        error = ZeroDivisionError()
        assert store.engine.damage(error) is None
        assert not store.engine.is_failure(error)
        assert store.engine.is_failure(StoreFull())
