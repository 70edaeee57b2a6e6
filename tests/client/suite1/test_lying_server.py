"""A lying server against suite 1: of a thousand attacks of each kind none goes through in silence.

An attack goes through if a message is opened that nobody sealed so, twice, or in another place than
it was sealed for without being named; or if a claim is believed that its owner did not make.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from client.suite1 import bundles, layout, messages, payloads, peers
from client.suite1.messages import Opened, Order
from client.suite1.payloads import Text
from client.suite1.values import BundleRefused, Pair
from tests.client.suite1.two_homes import ALICE, BOB, CAROL, Home, World, days, talking

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.suite1.own_keys import OwnKeys
    from client.suite1.peers import Peer

ATTACKS = 1000
RUN = 6


class Stage:
    """Bob after a talk with Alice; six of her messages are on their way, and one of Carol's."""

    def __init__(self) -> None:
        self.world, self.alice, self.bob = talking()
        self.carol = Home(self.world, CAROL)
        self.bob.read(CAROL, self.carol.seal(BOB, "carol's first"))
        self.carol.read(BOB, self.bob.seal(CAROL))
        self.sent = [self.alice.seal(BOB, str(number)) for number in range(RUN)]
        self.others = self.carol.seal(BOB, "carol's")
        self.to_carol = self.alice.seal(CAROL, "for carol")
        self.to_alice = self.bob.seal(ALICE, "for alice")
        self.keys, self.peer = self.bob.keys, self.bob.peer(ALICE)

    def went_through(self, given: list[bytes]) -> bool:
        """Whether Bob, who is given these as Alice's, takes anything for what it is not."""
        keys: OwnKeys = self.keys
        peer: Peer = self.peer
        expected, shown = 0, set()
        for content in given:
            result = messages.open_message(keys, peer, Pair(ALICE, BOB), content)
            keys, peer = result.keys, result.peer
            if not isinstance(result, Opened):
                continue
            payload = payloads.decoded(result.payload)
            assert isinstance(payload, Text)
            number = int(payload.text)
            if content != self.sent[number] or number in shown:
                return True
            shown.add(number)
            named = {Order.NEXT: number == expected, Order.GAP: number > expected, Order.LATE: number < expected}
            if not named[result.order] or (result.order is Order.GAP and result.missing != number - expected):
                return True
            expected = max(expected, number + 1)
        return False


STAGE = Stage()


def altered(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    at = dice.randrange(RUN)
    content = bytearray(sent[at])
    for _ in range(dice.randint(1, 3)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return [*sent[:at], bytes(content), *sent[at + 1 :]]


def cut(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    at = dice.randrange(RUN)
    left = sent[at][: dice.randrange(len(sent[at]))]
    if dice.random() < 0.5 and len(left) > layout.ENVELOPE.size:
        left = layout.enveloped(int.from_bytes(left[1:5], "little"), left[layout.ENVELOPE.size :])
    return [*sent[:at], left, *sent[at + 1 :]]


def longer(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    return [content + dice.randbytes(dice.randint(1, 20)) for content in sent]


def repeated(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    given = list(sent)
    for _ in range(dice.randint(1, 5)):
        given.insert(dice.randrange(len(given) + 1), dice.choice(sent))
    return given


def reordered(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    return dice.sample(sent, RUN)


def withheld(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    return [content for content in sent if dice.random() < 0.7]


def spliced(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    one, other = dice.sample(sent, 2)
    at = dice.randrange(1, len(one))
    return [one[:at] + other[at:], *sent]


def of_others(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    given = list(sent)
    for _ in range(dice.randint(1, 4)):
        strange = dice.choice((STAGE.others, STAGE.to_carol, STAGE.to_alice))
        given.insert(dice.randrange(len(given) + 1), strange)
    return given


def made_up(dice: random.Random, sent: list[bytes]) -> list[bytes]:
    size = dice.choice((0, 1, 9, 50, len(sent[0]) - layout.ENVELOPE.size))
    return [layout.enveloped(STAGE.keys.outer[-1].number, dice.randbytes(size)), *sent]


ATTACKS_ON_MESSAGES = (altered, cut, longer, repeated, reordered, withheld, spliced, of_others, made_up)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS_ON_MESSAGES, ids=lambda attack: attack.__name__)
def test_no_attack_on_messages_goes_through(attack: Callable[[random.Random, list[bytes]], list[bytes]]) -> None:
    dice = random.Random(attack.__name__)
    assert sum(STAGE.went_through(attack(dice, STAGE.sent)) for _ in range(ATTACKS)) == 0


def test_the_judge_sees_what_would_go_through() -> None:
    """Controls: messages in their order pass, and a text that was not sealed in this place does
    not.
    """
    assert not STAGE.went_through(STAGE.sent)
    stage = Stage()
    stage.sent = stage.sent[1:] + stage.sent[:1]
    assert stage.went_through(stage.sent)
    stage = Stage()
    # Somebody who has Alice's home can seal what she did not.
    assert stage.went_through([*stage.sent, stage.alice.seal(BOB, "1")])


def believed(raw: bytes, one_time_key: bytes, peer: Peer, now: int) -> bool:
    try:
        bundles.checked_claim(raw, one_time_key, ALICE, now, peer.identity, peer.outer)
    except BundleRefused:
        return False
    return True


@pytest.mark.parametrize("kind", ["altered", "cut", "of others", "old", "mixed"])
def test_no_attack_on_claims_goes_through(kind: str) -> None:
    dice = random.Random(kind)
    world = World()
    alice, bob, carol = Home(world, ALICE), Home(world, BOB), Home(world, CAROL)
    old, old_key = world.shelves[ALICE].hand_out()
    world.now += days(6)
    alice.publish()
    good, good_key = world.shelves[ALICE].hand_out()
    others, others_key = world.shelves[CAROL].hand_out()
    peer = bob.peer(ALICE)
    assert believed(good, good_key, peer, world.now)
    assert believed(good, b"", peer, world.now)
    assert carol.keys.identity != alice.keys.identity

    def attack() -> tuple[bytes, bytes]:
        raw, key = bytearray(good), bytearray(good_key)
        target = dice.choice((raw, key))
        if kind == "altered":
            target[dice.randrange(len(target))] ^= 1 << dice.randrange(8)
        elif kind == "cut":
            del target[dice.randint(1 if target is key else 0, len(target) - 1) :]
        elif kind == "old":
            return old, dice.choice((old_key, good_key, b""))
        elif kind == "of others":
            return dice.choice(((others, others_key), (others, b""), (good, others_key), (others, good_key)))
        else:
            at = dice.randrange(1, len(raw) - 64)
            raw[at:] = dice.choice((old, others))[at:]
            if bytes(raw) in {good, old}:
                return old, b""
        return bytes(raw), bytes(key)

    assert sum(believed(*attack(), peer, world.now) for _ in range(ATTACKS)) == 0


def test_an_exhausted_shelf_ends_in_the_fallback_key() -> None:
    world = World()
    alice, bob = Home(world, ALICE), Home(world, BOB)
    world.shelves[BOB].one_time_keys.clear()
    for _ in range(3):
        alice.keep(BOB, peers.restored(alice.peer(BOB)))
        assert bob.read(ALICE, alice.seal(BOB)) == "hello"
