"""Which key sealed what: a message key that sealed two envelopes is named, a repeat is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.suite1 import outer
from client.suite1.values import Pair
from tests.client.suite1.two_homes import ALICE, BOB, two_homes
from torture.olm_messages import Envelope, KeyUses, NotOlm, parse

if TYPE_CHECKING:
    from tests.client.suite1.two_homes import Home

THERE, BACK = Pair(ALICE, BOB), Pair(BOB, ALICE)


def seeds(*homes: Home) -> dict[int, bytes]:
    return {secret.number: secret.seed for home in homes for secret in home.keys.outer}


def test_each_message_has_a_key_of_its_own() -> None:
    _, alice, bob = two_homes()
    sent = []
    for number in range(6):
        for one, other, pair in ((alice, bob, THERE), (bob, alice, BACK)):
            for _ in range(1 + number % 3):
                content = one.seal(other.client_id)
                other.read(one.client_id, content)
                sent.append(Envelope(pair, content))
    uses = KeyUses(seeds(alice, bob))
    uses.add(sent)
    uses.add(sent[:5])
    assert (uses.keys, uses.chains, uses.twice, uses.unread) == (len(sent), 12, [], [])


def test_a_state_that_goes_back_uses_keys_twice() -> None:
    _, alice, bob = two_homes()
    bob.read(ALICE, alice.seal(BOB))
    alice.read(BOB, bob.seal(ALICE))
    first = alice.seal(BOB)
    copy = alice.copy()
    second = alice.seal(BOB, "one thing")
    alice.put_back(copy)
    third = alice.seal(BOB, "another thing")
    uses = KeyUses(seeds(alice, bob))
    uses.add(Envelope(THERE, content) for content in (first, second, third))
    assert uses.keys == 2
    assert len(uses.twice) == 1


def test_what_no_key_opens_is_kept_apart() -> None:
    _, alice, bob = two_homes()
    content = alice.seal(BOB)
    wrong, unknown = KeyUses(seeds(bob)), KeyUses(seeds(alice))
    wrong.add([Envelope(BACK, content)])
    unknown.add([Envelope(THERE, content)])
    assert [len(uses.unread) for uses in (wrong, unknown)] == [1, 1]
    assert wrong.keys == unknown.keys == 0


def test_an_envelope_is_a_line() -> None:
    one = Envelope(THERE, bytes(range(256)))
    assert Envelope.parsed(str(one)) == one


def test_the_fields_of_both_forms() -> None:
    _, alice, bob = two_homes()
    first = Envelope(THERE, alice.seal(BOB))
    (seed,) = (secret.seed for secret in bob.keys.outer)
    plain = outer.open_sealed(seed, THERE, first.sealed)
    assert plain is not None
    message = parse(plain)
    assert message.starter is not None
    assert message.starter.identity == alice.keys.identity.curve25519
    assert message.place == 0
    for cut in (1, 40, 100, len(plain) - 20):
        with pytest.raises(NotOlm):
            parse(plain[:cut])
