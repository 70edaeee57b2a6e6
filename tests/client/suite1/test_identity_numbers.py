"""client/suite1/identity_numbers.py: what people compare."""

from __future__ import annotations

import hashlib

from client.suite1.identity_numbers import fingerprint, safety_number
from client.suite1.values import Identity
from tests.client.suite1.two_homes import ALICE, BOB

ONE, OTHER = Identity(b"e" * 32, b"c" * 32), Identity(b"E" * 32, b"C" * 32)


def test_both_sides_see_the_same_number() -> None:
    number = safety_number((ALICE, ONE), (BOB, OTHER))
    assert number == safety_number((BOB, OTHER), (ALICE, ONE))
    assert len(number) == 60
    assert number.isdigit()
    assert number[:30] <= number[30:]


def test_every_part_counts() -> None:
    numbers = {
        safety_number((ALICE, ONE), whom)
        for whom in (
            (BOB, OTHER),
            (ALICE, OTHER),
            (BOB, OTHER._replace(ed25519=bytes(32))),
            (BOB, OTHER._replace(curve25519=bytes(32))),
            (BOB, Identity(OTHER.curve25519, OTHER.ed25519)),
        )
    }
    assert len(numbers) == 5


def test_a_half_by_the_specification() -> None:
    whom = ALICE + ONE.ed25519 + ONE.curve25519
    digest = hashlib.sha512(b"MessageU safety number 2\0" + whom).digest()
    for _ in range(5199):
        digest = hashlib.sha512(digest + whom).digest()
    half = "".join(f"{int.from_bytes(digest[5 * i : 5 * i + 5], 'big') % 100_000:05}" for i in range(6))
    assert half in {(number := safety_number((ALICE, ONE), (BOB, OTHER)))[:30], number[30:]}


def test_a_fingerprint() -> None:
    expected = hashlib.sha256(b"MessageU fingerprint 1\0" + ALICE + b"e" * 32 + b"c" * 32).digest()
    assert fingerprint(ALICE, ONE) == expected
