"""Somebody who has broken X25519 reads everything, and without ML-KEM's key nothing."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from client.suite1 import payloads
from client.suite1.payloads import Text
from client.suite1.values import Pair
from tests.client.suite1.two_homes import ALICE, BOB, two_homes
from torture import olm_pickles
from torture.olm_messages import Envelope
from torture.x25519_breaker import Breaker, public_of, without_mlkem

if TYPE_CHECKING:
    from tests.client.suite1.two_homes import Home


def learn(privates: dict[bytes, bytes], *homes: Home) -> None:
    for home, other in ((homes[0], homes[1]), (homes[1], homes[0])):
        secrets = olm_pickles.account_secrets(home.keys.account)
        found = [secrets["curve25519_private"], *secrets["one_time_private"], *secrets["fallback_private"]]
        sending = [
            each.olm.pickle for each in home.peer(other.client_id).sessions if olm_pickles.sends(each.olm.pickle)
        ]
        found += [olm_pickles.sending_secrets(pickle)["ratchet_private"] for pickle in sending]
        privates.update({public_of(raw): raw for raw in map(bytes.fromhex, found)})


def talk(rounds: int) -> tuple[Home, Home, dict[bytes, bytes], list[Envelope]]:
    """Bob begins; everybody writes one to three messages in a row."""
    _, alice, bob = two_homes()
    privates: dict[bytes, bytes] = {}
    recording: list[Envelope] = []
    learn(privates, alice, bob)
    for number in range(rounds):
        for one, other in ((bob, alice), (alice, bob)):
            for _ in range(1 + number % 3):
                content = one.seal(other.client_id, f"text {len(recording)}")
                learn(privates, alice, bob)
                other.read(one.client_id, content)
                recording.append(Envelope(Pair(one.client_id, other.client_id), content))
    return alice, bob, privates, recording


def breaker(alice: Home, bob: Home, privates: dict[bytes, bytes], seeds: dict[int, bytes]) -> Breaker:
    return Breaker(seeds, privates, {home.client_id: home.keys.identity.curve25519 for home in (alice, bob)})


def texts(found: list[bytes | None]) -> list[str | None]:
    decoded = [None if payload is None else payloads.decoded(payload) for payload in found]
    return [payload.text if isinstance(payload, Text) else None for payload in decoded]


def test_with_all_keys_everything_opens() -> None:
    alice, bob, privates, recording = talk(4)
    seeds = {secret.number: secret.seed for secret in chain(alice.keys.outer, bob.keys.outer)}
    found = breaker(alice, bob, privates, seeds).payloads(recording)
    assert texts(found) == [f"text {number}" for number in range(len(recording))]


def test_without_the_keys_of_mlkem_nothing_opens() -> None:
    alice, bob, privates, recording = talk(2)
    seeds = {secret.number: without_mlkem(secret.seed) for secret in chain(alice.keys.outer, bob.keys.outer)}
    assert set(breaker(alice, bob, privates, seeds).payloads(recording)) == {None}


def test_with_the_outer_keys_of_one_what_came_to_them_opens() -> None:
    """The other side's ratchet keys are not seen, and found all the same."""
    alice, bob, privates, recording = talk(4)
    found = breaker(alice, bob, privates, {secret.number: secret.seed for secret in alice.keys.outer}).payloads(
        recording
    )
    assert [payload is not None for payload in found] == [one.pair.recipient == ALICE for one in recording]
    assert {one.pair.recipient for one in recording} == {ALICE, BOB}
