"""The drill's thief opens what a copy opens, and that is compared with what was sent."""

from __future__ import annotations

from client.suite1 import payloads
from client.suite1.file_stream import FileSealer
from client.suite1.payloads import About, File, Text
from client.suite1.values import Pair
from tests.client.suite1.two_homes import ALICE, BOB, Home, talking
from torture.drill_messages import DrillMessage
from torture.olm_messages import Envelope
from torture.stolen_home import Recorded, Thief, opened_with, says
from torture.stolen_states import State

THERE = Pair(ALICE, BOB)
ABOUT = About(bytes(16), 1)
MESSAGE = DrillMessage("alice", "bob", 1)


def state(home: Home, *files: File) -> State:
    return State(home.keys, {ALICE: home.peer(ALICE)}, files)


def recorded(content: bytes) -> Recorded:
    return Recorded(Envelope(THERE, content), b"", MESSAGE)


def test_a_thief_opens_from_the_copy_to_the_round_trip() -> None:
    _, alice, bob = talking()
    before = [recorded(alice.seal(BOB, str(number))) for number in range(3)]
    for one in before:
        bob.read(ALICE, one.envelope.content)
    thief = Thief([state(bob)])
    after = [recorded(alice.seal(BOB, str(number))) for number in range(3)]
    for one in after:
        bob.read(ALICE, one.envelope.content)
    alice.read(BOB, bob.seal(ALICE))
    healed = [recorded(alice.seal(BOB, str(number))) for number in range(3)]
    opened = [thief.payload(one) is not None for one in (*before, *after, *healed)]
    assert opened == [False] * 3 + [True] * 3 + [False] * 3


def test_with_an_earlier_state_too_he_opens_more() -> None:
    """What SQLite's log would give him."""
    _, alice, bob = talking()
    earlier = state(bob)
    one = recorded(alice.seal(BOB))
    bob.read(ALICE, one.envelope.content)
    assert Thief([state(bob)]).payload(one) is None
    assert Thief([state(bob), earlier]).payload(one) is not None


def test_a_state_opens_again_what_it_has_opened_if_it_is_put_back() -> None:
    _, alice, bob = talking()
    keys, peer = bob.keys, bob.peer(ALICE)
    envelope = Envelope(THERE, alice.seal(BOB))
    bob.read(ALICE, envelope.content)
    assert opened_with(keys, peer, envelope) is not None
    assert opened_with(bob.keys, bob.peer(ALICE), envelope) is None


def test_what_was_opened_is_compared_with_what_was_sent() -> None:
    text = payloads.encoded(Text(ABOUT, MESSAGE.content(50).decode("latin-1")))
    file = payloads.encoded(File(ABOUT, "alice-1", "", 1, bytes(32), bytes(32), ""))
    assert says(text, MESSAGE)
    assert says(file, MESSAGE)
    other = MESSAGE._replace(number=2)
    assert not any(says(payload, other) for payload in (text, file, None, b"none"))
    assert not says(text, None)


def test_a_key_in_the_history_opens_a_file() -> None:
    _, _, bob = talking()
    content, key = MESSAGE.content(5_000), b"k" * 32
    sealer = FileSealer(key, THERE)
    stream = b"".join([sealer.update(content), *sealer.finish()])
    file = File(ABOUT, "alice-1", "", len(content), sealer.digest, key, "")
    one = Recorded(Envelope(THERE, b""), stream, MESSAGE)
    assert Thief([state(bob, file)]).opens_stream(one)
    assert not Thief([state(bob, file._replace(key=bytes(32)))]).opens_stream(one)
    assert not Thief([state(bob)]).opens_stream(one)
