"""client/suite1/messages.py: each check of "Opening" in docs/suite-1.md, in its order."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.suite1 import bundles, layout, messages, olm, outer, own_keys, payloads, peers
from client.suite1.layout import Inner
from client.suite1.messages import NoSession, NotOpened, Opened, Order
from client.suite1.payloads import About, Text
from client.suite1.values import HOUR, MAX_PAYLOAD, MAX_SEALED, MAX_SESSION_IDS, OpenFailure, Pair
from tests.client.suite1.two_homes import ALICE, BOB, CAROL, NOW, Home, World, days, talking, two_homes
from torture import olm_pickles as pickles

if TYPE_CHECKING:
    from collections.abc import Callable


def opened(home: Home, other: bytes, envelope: bytes) -> Opened:
    result = home.open(other, envelope)
    assert isinstance(result, Opened), result.failure
    return result


def test_texts_go_both_ways_and_the_state_goes_through_bytes() -> None:
    _, alice, bob = two_homes()
    for number in range(5):
        assert bob.read(ALICE, alice.seal(BOB, f"from alice {number}")) == f"from alice {number}"
        assert alice.read(BOB, bob.seal(ALICE, f"from bob {number}")) == f"from bob {number}"
    assert (alice.peer(BOB).sent, alice.peer(BOB).highest) == (5, 5)
    assert len(alice.peer(BOB).sessions) == len(bob.peer(ALICE).sessions) == 1


def test_nothing_is_sealed_before_a_claim() -> None:
    _, alice, _ = two_homes()
    with pytest.raises(NoSession):
        messages.seal(alice.keys, alice.peer(BOB), Pair(ALICE, BOB), b"")


def test_the_sizes_of_the_specification() -> None:
    _, alice, bob = two_homes()
    first = alice.seal(BOB, "x" * 256)
    assert len(first) == 1700
    bob.read(ALICE, first)
    assert len(bob.seal(ALICE, "x" * 256)) == 1594
    # A counter of 128 or more takes one byte more.
    sizes = [len(bob.seal(ALICE, "x" * 256)) for _ in range(128)]
    assert (sizes[:126], sizes[127]) == ([1594] * 126, 1595)


def test_sizes_tell_little() -> None:
    _, _, bob = talking()
    sizes = {length: len(bob.seal(ALICE, "x" * length)) for length in (0, 1, 50, 115, 116, 117, 256, 300)}
    # Up to 116 bytes of text all sizes are the same; then there are few steps.
    assert len({sizes[length] for length in (0, 1, 50, 115, 116)}) == 1
    assert sizes[116] < sizes[117] < sizes[256] < sizes[300]


def test_both_start_at_once() -> None:
    _, alice, bob = two_homes()
    from_alice, from_bob = alice.seal(BOB, "a"), bob.seal(ALICE, "b")
    assert bob.read(ALICE, from_alice) == "a"
    assert alice.read(BOB, from_bob) == "b"
    for text in ("1", "2", "3"):
        crossing = alice.seal(BOB, text), bob.seal(ALICE, text)
        assert (bob.read(ALICE, crossing[0]), alice.read(BOB, crossing[1])) == (text, text)
    assert len(alice.peer(BOB).sessions) == 2


class Notes:
    """A home that writes to itself."""

    def __init__(self) -> None:
        self.keys = Home(World(), ALICE).keys
        self.peer = peers.oneself(self.keys)

    def seal(self, text: str = "a note") -> bytes:
        self.keys, sealed = messages.seal_note(self.keys, self.peer, Pair(ALICE, ALICE), text.encode())
        self.peer = peers.Peer.from_bytes(sealed.peer.to_bytes())
        return sealed.envelope

    def open(self, envelope: bytes) -> Opened | NotOpened:
        result = messages.open_note(self.keys, self.peer, Pair(ALICE, ALICE), envelope)
        self.keys, self.peer = result.keys, peers.Peer.from_bytes(result.peer.to_bytes())
        return result

    def read(self, envelope: bytes) -> tuple[str, int, Order]:
        result = self.open(envelope)
        assert isinstance(result, Opened), result.failure
        return result.payload.decode(), result.number, result.order

    def refusal(self, envelope: bytes) -> OpenFailure:
        result = self.open(envelope)
        assert isinstance(result, NotOpened)
        return result.failure


def test_notes_to_oneself_are_opened_in_any_number_and_leave_no_session() -> None:
    home = Notes()
    kept = home.keys.kept
    first, second = home.seal("one"), home.seal("two")
    assert home.read(first) == ("one", 1, Order.NEXT)
    assert home.read(second) == ("two", 2, Order.NEXT)
    # More than a peer could start sessions.
    for number in range(3, MAX_SESSION_IDS + 4):
        assert home.read(home.seal())[1] == number
    assert (home.peer.sessions, home.peer.session_ids) == ((), ())
    # Those at the server are all there.
    assert home.keys.kept == kept


def test_notes_that_are_missing_or_late_are_noticed() -> None:
    home = Notes()
    first, second = home.seal(), home.seal()
    result = home.open(second)
    assert isinstance(result, Opened)
    assert (result.order, result.missing) == (Order.GAP, 1)
    assert home.read(first)[2] is Order.LATE


def test_a_copy_of_a_home_opens_no_note_that_was_opened_and_none_that_is_sealed_later() -> None:
    home, thief = Notes(), Notes()
    opened_before = home.seal()
    home.read(opened_before)
    thief.keys, thief.peer = home.keys, home.peer._replace(digests=())
    assert thief.refusal(opened_before) is OpenFailure.ONE_TIME_KEY_UNKNOWN
    assert thief.refusal(home.seal()) is OpenFailure.ONE_TIME_KEY_UNKNOWN


def test_a_note_that_can_not_be_opened_changes_nothing() -> None:
    home = Notes()
    note = home.seal()
    home.read(note)
    assert home.refusal(note) is OpenFailure.REPEATED
    home.peer = home.peer._replace(digests=())
    before = home.keys, home.peer
    assert home.refusal(note) is OpenFailure.ONE_TIME_KEY_UNKNOWN
    altered = bytearray(home.seal())
    altered[-1] ^= 1
    after_sealing = home.keys
    assert home.refusal(bytes(altered)) is OpenFailure.OUTER_DAMAGED
    assert (home.keys, home.peer) == (after_sealing, before[1]._replace(sent=home.peer.sent))
    assert not home.keys.suspect


def test_nobody_else_writes_a_note() -> None:
    """Who knows what is published has all that the outer layer needs."""
    home, mallory = Notes(), Notes()
    mallory.peer = mallory.peer._replace(identity=home.keys.identity)
    mallory.keys = mallory.keys._replace(outer=home.keys.outer, identity=home.keys.identity)
    assert home.refusal(mallory.seal()) is OpenFailure.OTHER_IDENTITY


def test_a_fallback_key_starts_a_session_if_no_one_time_key_is_left() -> None:
    world, alice, bob = two_homes()
    world.shelves[BOB].one_time_keys.clear()
    assert bob.read(ALICE, alice.seal(BOB)) == "hello"


def test_a_repeat_is_named_also_if_its_digest_is_forgotten() -> None:
    _, alice, bob = talking()
    envelope = alice.seal(BOB)
    bob.read(ALICE, envelope)
    assert bob.refusal(ALICE, envelope) is OpenFailure.REPEATED
    assert not bob.peer(ALICE).renew
    # What is not known by its bytes any more may be of a home that was put back.
    bob.keep(ALICE, bob.peer(ALICE)._replace(digests=()))
    assert bob.refusal(ALICE, envelope) is OpenFailure.USED_KEY
    assert bob.peer(ALICE).renew


@pytest.mark.parametrize("with_one_time_key", [True, False])
def test_a_repeated_first_message_starts_no_second_session(with_one_time_key: bool) -> None:
    world, alice, bob = two_homes()
    if not with_one_time_key:
        world.shelves[BOB].one_time_keys.clear()
    first = alice.seal(BOB)
    bob.read(ALICE, first)
    # The server hopes that Bob has forgotten it.
    bob.keep(ALICE, bob.peer(ALICE)._replace(digests=(), sessions=()))
    assert bob.refusal(ALICE, first) is OpenFailure.USED_KEY
    assert bob.peer(ALICE).sessions == ()


def test_ids_of_sessions_are_remembered_as_long_as_their_fallback_key_works() -> None:
    world, alice, bob = two_homes()
    world.shelves[BOB].one_time_keys.clear()
    first = alice.seal(BOB)
    bob.read(ALICE, first)
    for generation in (1, 2):
        world.now += days(6)
        bob.publish()
        assert bob.keys.fallback_generation == generation
        bob.keep(ALICE, bob.peer(ALICE)._replace(digests=(), sessions=(), renew=False))
        expected = OpenFailure.USED_KEY if generation < 2 else OpenFailure.ONE_TIME_KEY_UNKNOWN
        assert bob.refusal(ALICE, first) is expected
    # The next session that starts drops the id.
    alice.keep(BOB, peers.restored(alice.peer(BOB)))
    bob.read(ALICE, alice.seal(BOB))
    assert [generation for _, generation in bob.peer(ALICE).session_ids] == [2]


def test_sessions_without_end_are_refused() -> None:
    _, alice, bob = two_homes()
    many = tuple((number.to_bytes(16, "big"), 0) for number in range(512))
    bob.keep(ALICE, bob.peer(ALICE)._replace(session_ids=many))
    envelope = alice.seal(BOB)
    assert bob.refusal(ALICE, envelope) is OpenFailure.TOO_MANY_SESSIONS
    bob.keep(ALICE, bob.peer(ALICE)._replace(session_ids=many[1:]))
    assert bob.read(ALICE, envelope) == "hello"


@pytest.mark.parametrize("kind", ["first", "later"])
def test_a_flipped_bit_in_any_byte_is_refused(kind: str) -> None:
    _, alice, bob = two_homes() if kind == "first" else talking()
    envelope = alice.seal(BOB)
    keys, peer, pair = bob.keys, bob.peer(ALICE), Pair(ALICE, BOB)
    failures = []
    for at in range(len(envelope)):
        altered = bytearray(envelope)
        altered[at] ^= 1 << at % 8
        result = messages.open_message(keys, peer, pair, bytes(altered))
        assert not isinstance(result, Opened)
        failures.append(result.failure)
    assert failures == [
        OpenFailure.VERSION,
        *[OpenFailure.OUTER_KEY_UNKNOWN] * 4,
        *[OpenFailure.MALFORMED] * 4,
        *[OpenFailure.OUTER_DAMAGED] * (len(envelope) - 9),
    ]
    assert bob.read(ALICE, envelope) == "hello"


def test_a_cut_at_any_length_is_refused() -> None:
    _, alice, bob = talking()
    envelope = alice.seal(BOB)
    keys, peer = bob.keys, bob.peer(ALICE)
    for size in range(len(envelope)):
        result = messages.open_message(keys, peer, Pair(ALICE, BOB), envelope[:size])
        assert not isinstance(result, Opened)
        assert result.failure is OpenFailure.MALFORMED
        # The same, with a header that says so.
        if size >= layout.ENVELOPE.size:
            number = bob.keys.outer[-1].number
            shorter = layout.enveloped(number, envelope[layout.ENVELOPE.size : size])
            result = messages.open_message(keys, peer, Pair(ALICE, BOB), shorter)
            assert not isinstance(result, Opened)
            assert result.failure is OpenFailure.OUTER_DAMAGED
    longer = messages.open_message(keys, peer, Pair(ALICE, BOB), envelope + b"\0")
    assert not isinstance(longer, Opened)


def test_the_longest_payload_fits_and_a_longer_sealed_part_is_malformed() -> None:
    _, alice, bob = two_homes()
    text = "x" * (MAX_PAYLOAD - 50)
    envelope = alice.seal(BOB, text)
    head = layout.envelope(envelope)
    assert head is not None
    assert not head.is_too_long
    assert bob.read(ALICE, envelope) == text
    too_long = layout.enveloped(head.outer_number, bytes(MAX_SEALED + 1))
    assert bob.refusal(ALICE, too_long) is OpenFailure.MALFORMED


@pytest.mark.parametrize("kind", ["first", "later"])
def test_a_flipped_bit_behind_the_outer_layer_is_refused(kind: str) -> None:
    """Who has Bob's outer key, and not his sessions."""
    _, alice, bob = two_homes() if kind == "first" else talking()
    envelope = alice.seal(BOB)
    seed = bob.keys.outer[-1].seed
    pair = Pair(ALICE, BOB)
    unsealed = outer.open_sealed(seed, pair, envelope[layout.ENVELOPE.size :])
    assert unsealed is not None
    keys, peer = bob.keys, bob.peer(ALICE)
    failures = set()
    for at in range(len(unsealed)):
        altered = bytearray(unsealed)
        altered[at] ^= 1
        sealed = outer.seal(keys.outer[-1].public.public, pair, bytes(altered))
        result = messages.open_message(keys, peer, pair, layout.enveloped(keys.outer[-1].number, sealed))
        assert not isinstance(result, Opened), at
        failures.add(result.failure)
    assert failures <= {
        OpenFailure.INNER_MALFORMED,
        OpenFailure.NO_SESSION,
        OpenFailure.ONE_TIME_KEY_UNKNOWN,
        OpenFailure.OTHER_IDENTITY,
        OpenFailure.USED_KEY,
    }
    assert bob.read(ALICE, envelope) == "hello"


def resealed(bob: Home, pair: Pair, unsealed: bytes) -> bytes:
    key = bob.keys.outer[-1]
    return layout.enveloped(key.number, outer.seal(key.public.public, pair, unsealed))


@pytest.mark.parametrize(
    "unsealed", [b"", b"\x02", b"\x00", b"\x01", b"\x00\x03", b"\x01\x03\x0a", b"\xff" * 100, bytes(200)]
)
def test_what_is_no_olm_message_is_malformed(unsealed: bytes) -> None:
    _, _, bob = talking()
    assert bob.refusal(ALICE, resealed(bob, Pair(ALICE, BOB), unsealed)) is OpenFailure.INNER_MALFORMED
    assert bob.peer(ALICE).renew


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_inside_the_outer_layer_end_in_a_value(unsealed: bytes) -> None:
    _, _, bob = PAIR_TALKING
    result = messages.open_message(
        bob.keys, bob.peer(ALICE), Pair(ALICE, BOB), resealed(bob, Pair(ALICE, BOB), unsealed)
    )
    assert not isinstance(result, Opened)


PAIR_TALKING = talking()


@settings(max_examples=200)
@given(st.binary(max_size=64))
def test_any_bytes_outside_end_in_a_value(content: bytes) -> None:
    _, _, bob = PAIR_TALKING
    result = messages.open_message(bob.keys, bob.peer(ALICE), Pair(ALICE, BOB), content)
    assert not isinstance(result, Opened)


def test_another_sender_or_recipient_does_not_fit_the_outer_layer() -> None:
    world, alice, bob = talking()
    carol = Home(world, CAROL)
    envelope = alice.seal(BOB)
    carol.seal(BOB)
    assert bob.refusal(CAROL, envelope) is OpenFailure.OUTER_DAMAGED
    assert carol.refusal(ALICE, envelope) is OpenFailure.OUTER_KEY_UNKNOWN
    assert bob.read(ALICE, envelope) == "hello"


def test_another_identity_under_a_known_id_is_named() -> None:
    """The server lets somebody else write as Alice: their keys are not the pinned ones."""
    world, alice, bob = talking()
    impostor = Home(world, ALICE)
    assert bob.refusal(ALICE, impostor.seal(BOB)) is OpenFailure.OTHER_IDENTITY
    assert not bob.peer(ALICE).renew
    assert bob.read(ALICE, alice.seal(BOB)) == "hello"


def forged(alice: Home, change: Callable[[Inner], Inner]) -> bytes:
    """What an Alice sends whose program does not keep to the rules."""
    peer = alice.peer(BOB)
    session = peer.sending
    assert session is not None
    inner = Inner(
        layout.PAYLOAD,
        peer.sent + 1,
        Pair(ALICE, BOB),
        alice.keys.identity.ed25519,
        peer.identity.ed25519,
        payloads.encoded(Text(About(bytes(16), NOW), "forged")),
    )
    return sealed_plain(alice, layout.packed(change(inner)))


def sealed_plain(alice: Home, plain: bytes) -> bytes:
    peer = alice.peer(BOB)
    session = peer.sending
    assert session is not None
    advanced, message = olm.encrypt(session.olm, plain)
    alice.keep(BOB, peer._replace(sessions=(session._replace(olm=advanced), *peer.sessions[1:])))
    sealed = outer.seal(peer.outer.public, Pair(ALICE, BOB), bytes([message.kind]) + message.data)
    return layout.enveloped(peer.outer.number, sealed)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        (lambda inner: inner._replace(pair=Pair(CAROL, BOB)), OpenFailure.WRONG_IDS),
        (lambda inner: inner._replace(pair=Pair(ALICE, CAROL)), OpenFailure.WRONG_IDS),
        (lambda inner: inner._replace(pair=Pair(BOB, ALICE)), OpenFailure.WRONG_IDS),
        (lambda inner: inner._replace(sender_key=bytes(32)), OpenFailure.WRONG_KEYS),
        (lambda inner: inner._replace(recipient_key=bytes(32)), OpenFailure.WRONG_KEYS),
        (
            lambda inner: inner._replace(sender_key=inner.recipient_key, recipient_key=inner.sender_key),
            OpenFailure.WRONG_KEYS,
        ),
    ],
)
def test_a_peer_that_names_others_inside_is_refused(change: Callable[[Inner], Inner], failure: OpenFailure) -> None:
    _, alice, bob = talking()
    envelope = forged(alice, change)
    assert bob.refusal(ALICE, envelope) is failure
    # Its key is used up all the same.
    assert bob.refusal(ALICE, envelope) is OpenFailure.REPEATED
    assert bob.read(ALICE, alice.seal(BOB)) == "hello"


@pytest.mark.parametrize("plain", [b"", bytes(104), bytes(105), bytes(271), b"\x01" * 271, bytes(255) + b"\x01"])
def test_a_plain_text_of_another_layout_is_refused(plain: bytes) -> None:
    _, alice, bob = talking()
    assert bob.refusal(ALICE, sealed_plain(alice, plain)) is OpenFailure.INNER_MALFORMED
    assert bob.peer(ALICE).renew


def test_a_form_of_a_later_version_is_kept() -> None:
    _, alice, bob = talking()
    result = opened(bob, ALICE, forged(alice, lambda inner: inner._replace(form=9, payload=b"later")))
    assert (result.form, result.payload) == (9, b"later")


def test_gaps_and_late_messages_are_named() -> None:
    _, alice, bob = talking()
    contents = [alice.seal(BOB, str(number)) for number in range(6)]
    results = [opened(bob, ALICE, contents[number]) for number in (0, 3, 1, 2, 4, 5)]
    assert [(result.order, result.missing) for result in results] == [
        (Order.NEXT, 0), (Order.GAP, 2), (Order.LATE, 0), (Order.LATE, 0), (Order.NEXT, 0), (Order.NEXT, 0),
    ]  # fmt: skip


def test_a_skipped_key_is_kept_and_one_beyond_forty_is_gone() -> None:
    _, alice, bob = talking()
    contents = [alice.seal(BOB, str(number)) for number in range(50)]
    assert bob.read(ALICE, contents[49]) == "49"
    assert bob.read(ALICE, contents[20]) == "20"
    assert bob.refusal(ALICE, contents[5]) is OpenFailure.USED_KEY


def test_an_old_outer_key_opens_until_it_is_dropped() -> None:
    world, alice, bob = talking()
    early, late = alice.seal(BOB, "early"), alice.seal(BOB, "late")
    world.now += days(6)
    bob.publish()
    bob.keys = own_keys.without_expired(bob.keys, world.now)
    assert bob.read(ALICE, early) == "early"
    world.now += days(9)
    bob.publish()
    bob.keys = own_keys.without_expired(bob.keys, world.now)
    assert bob.refusal(ALICE, late) is OpenFailure.OUTER_KEY_UNKNOWN
    assert bob.peer(ALICE).renew


def test_a_home_that_was_put_back_heals_and_both_sides_are_told() -> None:
    world, alice, bob = talking()
    copy = alice.copy()
    for text in ("1", "2"):
        bob.read(ALICE, alice.seal(BOB, text))
        alice.read(BOB, bob.seal(ALICE, text))
    alice.put_back(copy)
    # Alice opens nothing that Bob sends now, and says so; Bob opens what she sends next.
    assert alice.refusal(BOB, bob.seal(ALICE)) is OpenFailure.NO_SESSION
    result = opened(bob, ALICE, alice.seal(BOB, "I am back"))
    assert result.renewed
    assert result.order is Order.NEXT
    answer = opened(alice, BOB, bob.seal(ALICE, "welcome"))
    assert not answer.renewed
    assert (answer.order, answer.missing) == (Order.GAP, 3)
    assert all(each.left for each in bob.peer(ALICE).sessions[1:])
    # The new session is no renewal any more once it was answered.
    world.now += HOUR
    assert not opened(bob, ALICE, alice.seal(BOB)).renewed


def test_a_home_that_was_put_back_and_writes_first_is_noticed() -> None:
    """Nobody knows that it was: its keys were used before, and its numbers come again."""
    _, alice, bob = talking()
    bob.read(ALICE, alice.seal(BOB, "1"))
    copy = alice.copy()
    bob.read(ALICE, alice.seal(BOB, "2"))
    bob.read(ALICE, alice.seal(BOB, "3"))
    alice.put_back(copy)
    assert bob.refusal(ALICE, alice.seal(BOB, "2, of the copy")) is OpenFailure.USED_KEY
    assert opened(alice, BOB, bob.seal(ALICE, "I could not open something")).renewed
    answer = opened(bob, ALICE, alice.seal(BOB, "4"))
    # Its number was used before, in the session that is given up.
    assert answer.order is Order.LATE
    assert alice.peer(BOB).sending is not None


def test_two_renewals_at_once_end_in_one_session() -> None:
    world, alice, bob = talking()
    for home, other in ((alice, BOB), (bob, ALICE)):
        number = home.keys.outer[-1].number
        assert home.refusal(other, layout.enveloped(number, bytes(1300))) is OpenFailure.OUTER_DAMAGED
    crossing = alice.seal(BOB, "a"), bob.seal(ALICE, "b")
    assert opened(bob, ALICE, crossing[0]).renewed
    assert opened(alice, BOB, crossing[1]).renewed
    ratchets = set()
    for _ in range(3):
        bob.read(ALICE, alice.seal(BOB))
        alice.read(BOB, bob.seal(ALICE))
        alices, bobs = alice.peer(BOB).sending, bob.peer(ALICE).sending
        assert alices is not None
        assert bobs is not None
        assert alices.olm.session_id == bobs.olm.session_id
        assert not alices.renewing
        ratchets.add(pickles.sending_secrets(bobs.olm.pickle)["ratchet_private"])
    # Each answer has made a step.
    assert len(ratchets) == 3
    # A later renewal is taken as any.
    world.now += 2 * HOUR
    alice.keep(BOB, alice.peer(BOB)._replace(renew=True))
    assert opened(bob, ALICE, alice.seal(BOB)).renewed


ORDERS = sorted(
    order
    for order in itertools.permutations(("alice writes", "bob writes", "alice reads", "bob reads"))
    if order.index("alice writes") < order.index("bob reads") and order.index("bob writes") < order.index("alice reads")
)


@pytest.mark.parametrize("first", ["alice", "bob"])
@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_two_renewals_in_any_order_end_in_one_session(order: tuple[str, ...], first: str) -> None:
    """Both sides have found something that does not open, and begin anew: at once, or one after the
    other. From the second message on that crosses no other one, both write in one session.
    """
    _, alice, bob = talking()
    sides = {"alice": (alice, BOB), "bob": (bob, ALICE)}
    for home, other in sides.values():
        home.keep(other, home.peer(other)._replace(renew=True))
    mail: dict[str, list[bytes]] = {"alice": [], "bob": []}
    partner = {"alice": "bob", "bob": "alice"}

    def writes(who: str) -> None:
        home, other = sides[who]
        mail[partner[who]].append(home.seal(other))

    def reads(who: str) -> None:
        home, other = sides[who]
        while mail[who]:
            assert home.read(other, mail[who].pop(0)) == "hello"

    for event in order:
        who, what = event.split()
        (writes if what == "writes" else reads)(who)
    ratchets = set()
    for turn in range(4):
        for who in (first, partner[first]):
            writes(who)
            reads(partner[who])
        alices, bobs = alice.peer(BOB).sending, bob.peer(ALICE).sending
        assert alices is not None
        assert bobs is not None
        assert alices.olm.session_id == bobs.olm.session_id, turn
        assert not (alices.renewing or bobs.renewing)
        wrote_last = bobs if first == "alice" else alices
        ratchets.add(pickles.sending_secrets(wrote_last.olm.pickle)["ratchet_private"])
    # Each answer makes a step: who copied a home is locked out.
    assert len(ratchets) == 4


def test_renewals_that_cross_again_and_again_go_on_and_make_steps() -> None:
    _, alice, bob = talking()
    for home, other in ((alice, BOB), (bob, ALICE)):
        home.keep(other, home.peer(other)._replace(renew=True))
    ratchets = set()
    for _ in range(6):
        crossing = alice.seal(BOB), bob.seal(ALICE)
        session = alice.peer(BOB).sending
        assert session is not None
        ratchets.add(pickles.sending_secrets(session.olm.pickle)["ratchet_private"])
        bob.read(ALICE, crossing[0])
        alice.read(BOB, crossing[1])
    assert len(ratchets) == 6


def test_a_session_that_was_not_meant_for_us_sends_nothing() -> None:
    """Mallory publishes Bob's keys as her own, and passes on what Alice seals to her."""
    world, alice, bob = two_homes()
    raw, one_time_key = world.shelves[BOB].hand_out()
    claim = bundles.checked_claim(raw, one_time_key, BOB, world.now)
    peer = peers.claimed(alice.keys, peers.met(claim.bundle), claim, world.now)
    session = peer.sending
    assert session is not None
    keys = bob.keys.identity.ed25519
    inner = Inner(1, 1, Pair(ALICE, CAROL), alice.keys.identity.ed25519, keys, b"for carol")
    _, message = olm.encrypt(session.olm, layout.packed(inner))
    content = resealed(bob, Pair(ALICE, BOB), bytes([message.kind]) + message.data)
    kept = bob.keys.account
    assert bob.refusal(ALICE, content) is OpenFailure.WRONG_IDS
    assert bob.peer(ALICE).sessions == ()
    assert bob.peer(ALICE).session_ids[0][0] == session.olm.session_id
    assert bob.keys.account != kept
    assert alice.read(BOB, bob.seal(ALICE)) == "hello"


def test_a_strangers_word_makes_nobody_replace_their_keys() -> None:
    world, alice, bob = two_homes()
    unknown = layout.enveloped(bob.keys.outer[-1].number ^ 1, bytes(1300))
    assert bob.refusal(ALICE, unknown) is OpenFailure.OUTER_KEY_UNKNOWN
    assert not own_keys.replacement_due(bob.keys, OpenFailure.OUTER_KEY_UNKNOWN, world.now)
    bob.read(ALICE, alice.seal(BOB))
    assert bob.refusal(ALICE, unknown) is OpenFailure.OUTER_KEY_UNKNOWN
    assert own_keys.replacement_due(bob.keys, OpenFailure.OUTER_KEY_UNKNOWN, world.now)


def test_a_restored_home_uses_no_key_twice() -> None:
    world, alice, bob = talking()
    copy = alice.copy()
    bob.read(ALICE, alice.seal(BOB, "before"))
    alice.put_back(copy)
    alice.keep(BOB, peers.restored(alice.peer(BOB)))
    alice.keys = own_keys.replaced(alice.keys, world.now + 1, world.random_bytes)
    world.now += 1
    alice.publish()
    # Bob has claimed Alice's keys less than an hour ago.
    bob.keep(ALICE, bob.peer(ALICE)._replace(claimed_at=world.now))
    result = opened(bob, ALICE, alice.seal(BOB, "after"))
    assert result.renewed
    # Bob asks for the new outer key before he answers.
    assert bob.peer(ALICE).doubted
    assert alice.read(BOB, bob.seal(ALICE, "welcome")) == "welcome"
    assert bob.peer(ALICE).outer.number == alice.keys.outer[-1].number


def test_forced_renewals_are_one_an_hour() -> None:
    world, alice, bob = talking()
    number = bob.keys.outer[-1].number
    started = 0
    for _ in range(90):
        world.now += 60_000
        assert bob.refusal(ALICE, layout.enveloped(number, os.urandom(1300))) is OpenFailure.OUTER_DAMAGED
        due = peers.claim_due(bob.peer(ALICE), world.now)
        started += due is peers.ClaimReason.RENEWAL
        assert alice.read(BOB, bob.seal(ALICE)) == "hello"
    assert started == 2


def test_a_failed_message_changes_no_session() -> None:
    _, alice, bob = talking()
    before = bob.peer(ALICE)
    bob.refusal(ALICE, resealed(bob, Pair(ALICE, BOB), b"\x01" + bytes(50)))
    assert bob.peer(ALICE)._replace(renew=False) == before
    assert bob.read(ALICE, alice.seal(BOB)) == "hello"


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["a sends", "b sends", "a fetches", "b fetches"]), max_size=25))
def test_whatever_crosses_arrives_once_and_in_order(steps: list[str]) -> None:
    _, alice, bob = two_homes()
    homes = {"a": (alice, BOB), "b": (bob, ALICE)}
    waiting: dict[str, list[tuple[str, bytes]]] = {"a": [], "b": []}
    for count, step in enumerate([*steps, "a fetches", "b fetches"]):
        who, _, what = step.partition(" ")
        home, other = homes[who]
        if what == "sends":
            waiting["b" if who == "a" else "a"].append((str(count), home.seal(other, str(count))))
            continue
        for text, envelope in waiting[who]:
            result = opened(home, other, envelope)
            assert result.order is Order.NEXT
            assert payloads.decoded(result.payload) == Text(payloads.decoded(result.payload).about, text)
        waiting[who].clear()
    assert len(alice.peer(BOB).sessions) <= 2
