"""The lies about suite 1 are lies, each refused by a check; the liar reads what is sealed to it."""

from __future__ import annotations

import random

import pytest

from client.suite1 import bundles, messages, peers
from client.suite1.messages import Opened
from client.suite1.values import BundleRefused, Claim, Pair
from common.values import ClientId, MessageKind
from tests.client.suite1.two_homes import ALICE, BOB, Home, World, talking, two_homes
from torture import lies
from torture.lies import Mallory
from torture.middleman import Claimed, Overheard

TRIES = 200


@pytest.fixture(scope="module")
def content() -> bytes:
    _, alice, _ = talking()
    return alice.seal(BOB, "x" * 500)


def test_what_is_spoiled_differs_and_is_about_as_long(content: bytes) -> None:
    dice = random.Random(1)
    seen = set()
    for _ in range(TRIES):
        changed = lies.altered(dice, content)
        (at,) = (at for at in range(len(content)) if changed[at] != content[at])
        assert len(changed) == len(content)
        seen.add(min(at, 9) if at < len(content) - 16 else -1)
        assert len(lies.cut(dice, content)) < len(content)
    # Every part is met: version, number, size, what is sealed, tag.
    assert {-1, 0, 9} < seen
    assert seen & {1, 2, 3, 4}
    assert seen & {5, 6, 7, 8}


def test_a_bit_within_the_outer_layer_is_noticed_or_changes_nothing() -> None:
    """Olm's authenticator is over what a message says: the same in another encoding is the same."""
    _, alice, bob = talking()
    sealed = alice.seal(BOB)
    pair = Pair(ALICE, BOB)
    true = messages.open_message(bob.keys, bob.peer(ALICE), pair, sealed)
    assert isinstance(true, Opened)
    failures = set()
    for number in range(TRIES):
        changed = lies.altered_inside(random.Random(number), sealed, bob.keys, pair)
        assert changed != sealed
        result = messages.open_message(bob.keys, bob.peer(ALICE), pair, changed)
        if isinstance(result, Opened):
            assert (result.payload, result.number) == (true.payload, true.number)
        else:
            failures.add(result.failure)
    assert failures <= {"inner-malformed", "no-session", "used-key"}
    assert len(failures) > 1


def claim_of(home: Home, world: World) -> Claimed:
    return Claimed(*world.shelves[home.client_id].hand_out())


def test_no_lie_about_keys_passes_the_checks() -> None:
    world, alice, bob = two_homes()
    mallory = Mallory(random.Random("mallory"), lambda: world.now)
    said = claim_of(alice, world)
    known = bob.peer(ALICE).identity
    bundles.checked_claim(*said, ALICE, world.now, known)
    for _ in range(TRIES):
        for lie in (mallory.other_identity(ALICE, said), mallory.other_keys(ALICE, said)):
            assert lie != said
            with pytest.raises(BundleRefused):
                bundles.checked_claim(*lie, ALICE, world.now, known)


def test_who_knows_no_identity_believes_mallory_who_reads_it() -> None:
    world, alice, bob = two_homes()
    mallory = Mallory(random.Random("mallory"), lambda: world.now)
    lie = Claimed(mallory.bundle(ALICE), mallory.one_time_key(ALICE))

    def overheard(claim: Claim) -> Overheard:
        peer = peers.claimed(bob.keys, peers.met(claim.bundle), claim, world.now)
        sealed = messages.seal(bob.keys, peer, Pair(BOB, ALICE), b"secret")
        return Overheard(MessageKind.SEALED, sealed.envelope, ClientId(BOB), ClientId(ALICE))

    believed = bundles.checked_claim(*lie, ALICE, world.now)
    assert mallory.reads(overheard(believed), bob.keys.identity)
    true = bundles.checked_claim(*claim_of(alice, world), ALICE, world.now)
    to_alice = overheard(true)
    assert not mallory.reads(to_alice, bob.keys.identity)
    assert not mallory.reads(to_alice._replace(content=b""), bob.keys.identity)
    # Who has stolen her outer key gets so far as the inner layer.
    mallory.stolen += alice.keys.outer
    assert mallory.reads(to_alice, bob.keys.identity)


def test_a_session_with_a_key_of_mallorys_is_seen_behind_the_right_outer_key() -> None:
    """As if no signature was checked: the outer layer alone keeps Mallory out, and with it open the
    inner one does not.
    """
    world, alice, bob = two_homes()
    mallory = Mallory(random.Random("mallory"), lambda: world.now)
    true = bundles.checked_claim(*claim_of(alice, world), ALICE, world.now)
    wrong = Claim(true.bundle, mallory.one_time_key(ALICE)[:32])
    peer = peers.claimed(bob.keys, peers.met(true.bundle), wrong, world.now)
    sealed = messages.seal(bob.keys, peer, Pair(BOB, ALICE), b"secret")
    result = messages.open_message(alice.keys, alice.peer(BOB), Pair(BOB, ALICE), sealed.envelope)
    assert not isinstance(result, Opened)
    assert result.failure == "one-time-key-unknown"
