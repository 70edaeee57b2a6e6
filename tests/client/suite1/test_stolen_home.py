"""What the copy of a home opens: nothing older, nothing after a round trip, and no recording once
the outer keys are gone. Each claim has its control, in which the copy opens the message.
"""

from __future__ import annotations

import pytest

from client.suite1 import layout, messages, olm, outer, own_keys
from client.suite1.messages import Opened
from client.suite1.values import Pair
from tests.client.suite1.test_deniability import forged_content
from tests.client.suite1.two_homes import ALICE, BOB, Home, days, talking, two_homes

THERE = Pair(ALICE, BOB)


def opens(thief: Home, content: bytes) -> bool:
    """Whether somebody with Bob's state reads a message to him, whatever our code would refuse."""
    keys, peer = thief.keys, thief.peer(ALICE)
    peer = peer._replace(digests=(), session_ids=())
    if isinstance(messages.open_message(keys, peer, THERE, content), Opened):
        return True
    # The thief may forget sessions and start them again, if the account still can.
    return isinstance(messages.open_message(keys, peer._replace(sessions=()), THERE, content), Opened)


def test_a_copy_opens_nothing_that_was_opened_before() -> None:
    _, alice, bob = talking()
    before = []
    for number in range(20):
        before.append(alice.seal(BOB, str(number)))
        assert opens(bob, before[-1])
        bob.read(ALICE, before[-1])
        if number % 3 == 0:
            alice.read(BOB, bob.seal(ALICE))
    assert [opens(bob, content) for content in before] == [False] * 20


def test_a_copy_opens_nothing_that_its_owner_sent() -> None:
    _, alice, bob = talking()
    sent = alice.seal(BOB)
    assert opens(bob, sent)
    # Alice's home has Alice's keys: neither Bob's outer key nor his session.
    result = messages.open_message(alice.keys, alice.peer(BOB), THERE, sent)
    assert not isinstance(result, Opened)


def test_a_first_message_by_a_one_time_key_is_gone_at_once() -> None:
    _, alice, bob = two_homes()
    first = alice.seal(BOB)
    bob.read(ALICE, first)
    assert not opens(bob, first)


def test_a_first_chain_by_the_fallback_key_is_gone_with_that_key() -> None:
    """The exception that docs/suite-1.md names."""
    world, alice, bob = two_homes()
    world.shelves[BOB].one_time_keys.clear()
    first = alice.seal(BOB)
    bob.read(ALICE, first)
    assert opens(bob, first)
    for _ in range(2):
        world.now += days(6)
        bob.publish()
    assert bob.keys.outer_seed(int.from_bytes(first[1:5], "little")) is not None
    assert not opens(bob, first)


def test_a_skipped_message_is_readable_until_it_comes() -> None:
    """The other exception: its key is kept for it."""
    _, alice, bob = talking()
    withheld, later = alice.seal(BOB, "withheld"), alice.seal(BOB, "later")
    bob.read(ALICE, later)
    assert opens(bob, withheld)
    bob.read(ALICE, withheld)
    assert not opens(bob, withheld)


def test_after_a_round_trip_a_copy_opens_nothing_newer() -> None:
    world, alice, bob = talking()
    thief = Home(world, b"a thief of homes")
    thief.put_back(bob.copy())
    next_one = alice.seal(BOB, "1")
    assert opens(thief, next_one)
    bob.read(ALICE, next_one)
    alice.read(BOB, bob.seal(ALICE, "2"))
    newer = [alice.seal(BOB, str(number)) for number in range(3)]
    assert [opens(thief, content) for content in newer] == [False] * 3
    assert [bob.read(ALICE, content) for content in newer] == ["0", "1", "2"]


def without_mlkem(seed: bytes) -> bytes:
    """What who breaks X25519 has of an outer key: its X25519 half, and any ML-KEM key."""
    return bytes(64) + seed[64:]


@pytest.mark.parametrize("has_all_of_bobs_olm", [False, True])
def test_who_breaks_x25519_opens_no_outer_layer(has_all_of_bobs_olm: bool) -> None:
    """A recorder has every private key of X25519 and Ed25519, and all of Olm's states."""
    _, alice, bob = talking()
    content = alice.seal(BOB, "for later")
    keys = bob.keys
    broken = keys._replace(
        outer=tuple(secret._replace(seed=without_mlkem(secret.seed)) for secret in keys.outer),
        account=keys.account if has_all_of_bobs_olm else olm.new_account(),
    )
    result = messages.open_message(broken, bob.peer(ALICE), THERE, content)
    assert not isinstance(result, Opened)
    assert outer.open_sealed(without_mlkem(keys.outer[-1].seed), THERE, content[layout.ENVELOPE.size :]) is None
    # The control has ML-KEM's key too.
    assert isinstance(messages.open_message(keys, bob.peer(ALICE), THERE, content), Opened)


def test_after_the_rotation_a_stolen_home_opens_no_recording() -> None:
    """Two weeks later the home is stolen, and X25519 is broken: the recorder has what Olm had at
    the time, from a copy of the home without its outer keys.
    """
    world, alice, bob = talking()
    recorded = alice.seal(BOB, "recorded")
    session_then, outer_then = bob.peer(ALICE), bob.keys.outer
    bob.read(ALICE, recorded)
    for _ in range(3):
        world.now += days(7)
        bob.publish()
        bob.keys = own_keys.without_expired(bob.keys, world.now)
    stolen = bob.keys
    assert not {secret.seed for secret in stolen.outer} & {secret.seed for secret in outer_then}
    assert not isinstance(messages.open_message(stolen, session_then, THERE, recorded), Opened)
    # The control: with the outer keys of that time it opens.
    then = stolen._replace(outer=outer_then)
    assert isinstance(messages.open_message(then, session_then, THERE, recorded), Opened)


def test_a_thief_writes_as_the_owner() -> None:
    """What suite 1 does not promise: the identity is the home's, and who has it has both."""
    world, alice, bob = talking()
    thief = Home(world, BOB)
    thief.put_back(bob.copy())
    assert alice.read(BOB, thief.seal(ALICE, "I am bob")) == "I am bob"
    # Bob's next message has a key that the thief has used: Alice is told.
    assert not isinstance(alice.open(BOB, bob.seal(ALICE, "no, I am")), Opened)


def test_a_thief_writes_to_the_owner_as_anybody() -> None:
    """A one-time key of the copy that nobody has used, and the identity, are enough."""
    _, alice, bob = talking()
    copy = bob.keys
    for number in range(3):
        bob.read(ALICE, alice.seal(BOB, str(number)))
    content = forged_content(copy, alice.keys.identity, Pair(ALICE, BOB), b"from the thief")
    result = bob.open(ALICE, content)
    assert isinstance(result, Opened)
    assert result.payload == b"from the thief"
