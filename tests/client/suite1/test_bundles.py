"""client/suite1/bundles.py: each check of a claim in docs/suite-1.md, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.suite1 import bundles, olm
from client.suite1.values import DAY, Bundle, BundleFailure, BundleRefused, OuterKey
from tests.client.suite1.two_homes import ALICE, BOB, NOW, Home, World

if TYPE_CHECKING:
    from client.suite1.values import Identity

WORLD = World()
HOME = Home(WORLD, ALICE)
BUNDLE, ONE_TIME = WORLD.shelves[ALICE].hand_out()


def failure_of(
    raw: bytes = BUNDLE,
    one_time: bytes = ONE_TIME,
    client_id: bytes = ALICE,
    now: int = NOW,
    known: Identity | None = None,
    newest: OuterKey | None = None,
) -> BundleFailure | None:
    try:
        bundles.checked_claim(raw, one_time, client_id, now, known, newest)
    except BundleRefused as refused:
        return refused.failure
    return None


def signed(*, valid_until: int = NOW, public: bytes | None = None) -> bytes:
    """A bundle that its owner signed, whatever is in it."""
    keys = HOME.keys
    outer_key = OuterKey(1, valid_until, keys.outer[-1].public.public if public is None else public)
    bundle = Bundle(keys.identity, outer_key, keys.fallback)
    return bundles.made_bundle(ALICE, bundle, olm.signer(keys.account))


def test_a_claim_has_what_was_published() -> None:
    claim = bundles.checked_claim(BUNDLE, ONE_TIME, ALICE, NOW, HOME.keys.identity, HOME.keys.outer[-1].public)
    assert claim.bundle == Bundle(HOME.keys.identity, HOME.keys.outer[-1].public, HOME.keys.fallback)
    assert claim.one_time_key == ONE_TIME[:32]
    assert bundles.checked_claim(BUNDLE, b"", ALICE, NOW).one_time_key is None


@pytest.mark.parametrize("size", [0, 1, 1388, 1390])
def test_another_size_is_malformed(size: int) -> None:
    assert failure_of((BUNDLE + b"\0")[:size]) is BundleFailure.MALFORMED


def test_a_flipped_bit_in_any_byte_is_refused() -> None:
    for at in range(len(BUNDLE)):
        altered = bytearray(BUNDLE)
        altered[at] ^= 1 << at % 8
        assert failure_of(bytes(altered)) is (BundleFailure.SIGNATURE if at else BundleFailure.VERSION)
    for at in range(len(ONE_TIME)):
        altered = bytearray(ONE_TIME)
        altered[at] ^= 1 << at % 8
        assert failure_of(one_time=bytes(altered)) is BundleFailure.ONE_TIME_SIGNATURE


@pytest.mark.parametrize("size", [1, 32, 95, 97])
def test_a_one_time_key_of_another_size_is_malformed(size: int) -> None:
    assert failure_of(one_time=(ONE_TIME + b"\0")[:size]) is BundleFailure.MALFORMED


def test_somebody_elses_bundle_or_one_time_key_is_refused() -> None:
    other = Home(WORLD, BOB)
    raw, one_time = WORLD.shelves[BOB].hand_out()
    assert failure_of(raw, one_time) is BundleFailure.SIGNATURE
    assert failure_of(client_id=BOB) is BundleFailure.SIGNATURE
    assert failure_of(one_time=one_time) is BundleFailure.ONE_TIME_SIGNATURE
    assert failure_of(known=other.keys.identity) is BundleFailure.IDENTITY_CHANGED
    assert failure_of(known=HOME.keys.identity._replace(curve25519=bytes(32))) is BundleFailure.IDENTITY_CHANGED


def test_a_bundle_beyond_its_time_is_of_somebody_who_is_away() -> None:
    assert failure_of(now=NOW + 1000 * DAY) is None


def test_how_far_ahead_a_bundle_may_be() -> None:
    assert failure_of(signed(valid_until=NOW + 14 * DAY), b"") is None
    assert failure_of(signed(valid_until=NOW + 14 * DAY + 1), b"") is BundleFailure.TOO_FAR
    assert failure_of(signed(valid_until=2**64 - 1), b"") is BundleFailure.TOO_FAR


def test_an_older_bundle_than_the_known_one_is_refused() -> None:
    newest = OuterKey(1, NOW + 100, b"")
    assert failure_of(signed(valid_until=NOW + 99), b"", newest=newest) is BundleFailure.OLDER
    assert failure_of(signed(valid_until=NOW + 100), b"", newest=newest) is None
    # What was believed by a wrong clock holds nobody up.
    assert failure_of(signed(valid_until=NOW), b"", newest=OuterKey(1, NOW + 14 * DAY + 1, b"")) is None


def test_an_outer_key_that_can_not_be_used_is_refused() -> None:
    good = HOME.keys.outer[-1].public.public
    for public in (b"\xff" * 1216, b"\xff" * 3 + good[3:], good[:1184] + bytes(32), good[:1184] + b"\1" + bytes(31)):
        assert failure_of(signed(public=public), b"") is BundleFailure.OUTER_KEY


@settings(max_examples=200)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes_end_in_a_failure(raw: bytes, one_time: bytes) -> None:
    assert failure_of(raw, one_time) in {BundleFailure.MALFORMED, BundleFailure.VERSION}
