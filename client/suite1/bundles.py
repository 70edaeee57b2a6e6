"""Bundles and one-time keys: what somebody publishes, signed, and what a claim is checked for.

Owns: their layout to the byte, and every check of what the server answers to 645.
Promises: a `Bundle` and a `Claim` that come from here passed every check.
Exposure: reads what the server sent; any bytes end in a value or in `BundleRefused`.

    bundle          version u8 | ed25519 [32] | curve25519 [32] | outer number u32 |
                    valid until u64 | outer public [1216] | fallback [32] | signature [64]
    one-time key    curve25519 [32] | signature [64]

Source: docs/suite-1.md, "Bundles".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from client.suite1 import outer
from client.suite1.values import (
    BUNDLE_SIZE,
    FARTHEST,
    KEY_SIZE,
    ONE_TIME_SIZE,
    OUTER_PUBLIC_SIZE,
    SIGNATURE_SIZE,
    VERSION,
    Bundle,
    BundleFailure,
    BundleRefused,
    Claim,
    Identity,
    OuterKey,
)

Sign = Callable[[bytes], bytes]
"""Signs with the identity's ed25519 key: 64 bytes."""

_BUNDLE_CONTEXT: Final = b"MessageU keys 1\0"
_ONE_TIME_CONTEXT: Final = b"MessageU one-time key 1\0"
_LAYOUT: Final = struct.Struct(f"<B{KEY_SIZE}s{KEY_SIZE}sIQ{OUTER_PUBLIC_SIZE}s{KEY_SIZE}s")
assert _LAYOUT.size + SIGNATURE_SIZE == BUNDLE_SIZE


def made_bundle(client_id: bytes, bundle: Bundle, sign: Sign) -> bytes:
    """Return the 1,389 bytes of a bundle."""
    identity, key = bundle.identity, bundle.outer
    signed = _LAYOUT.pack(
        VERSION, identity.ed25519, identity.curve25519, key.number, key.valid_until, key.public, bundle.fallback
    )
    return signed + sign(_BUNDLE_CONTEXT + client_id + signed)


def made_one_time_key(client_id: bytes, key: bytes, sign: Sign) -> bytes:
    """Return the 96 bytes of a one-time key."""
    return key + sign(_ONE_TIME_CONTEXT + client_id + key)


def checked_bundle(
    raw: bytes, client_id: bytes, now: int, known: Identity | None = None, newest: OuterKey | None = None
) -> Bundle:
    """Check a bundle of `client_id`. `known`: the pinned identity, if there is one; `newest`: the
    newest outer key that was believed. Raises `BundleRefused`.

    A bundle that expired is accepted: its owner was away. `Bundle.outer.valid_until` says so.
    """
    if raw[:1] not in {b"", bytes([VERSION])}:
        raise BundleRefused(BundleFailure.VERSION)
    if len(raw) != BUNDLE_SIZE:
        raise BundleRefused(BundleFailure.MALFORMED)
    signed, signature = raw[:-SIGNATURE_SIZE], raw[-SIGNATURE_SIZE:]
    _, ed25519, curve25519, number, valid_until, public, fallback = _LAYOUT.unpack(signed)
    identity = Identity(ed25519, curve25519)
    if not _is_signed(ed25519, _BUNDLE_CONTEXT + client_id + signed, signature):
        raise BundleRefused(BundleFailure.SIGNATURE)
    if known is not None and identity != known:
        raise BundleRefused(BundleFailure.IDENTITY_CHANGED)
    if valid_until > now + FARTHEST:
        raise BundleRefused(BundleFailure.TOO_FAR)
    if newest is not None and valid_until < newest.valid_until <= now + FARTHEST:
        raise BundleRefused(BundleFailure.OLDER)
    if not outer.is_usable(public):
        raise BundleRefused(BundleFailure.OUTER_KEY)
    return Bundle(identity, OuterKey(number, valid_until, public), fallback)


def checked_claim(
    raw_bundle: bytes,
    raw_one_time_key: bytes,
    client_id: bytes,
    now: int,
    known: Identity | None = None,
    newest: OuterKey | None = None,
) -> Claim:
    """Check both parts of a 2145; `raw_one_time_key` is empty if the server gave none. Raises
    `BundleRefused`.
    """
    bundle = checked_bundle(raw_bundle, client_id, now, known, newest)
    if not raw_one_time_key:
        return Claim(bundle, None)
    if len(raw_one_time_key) != ONE_TIME_SIZE:
        raise BundleRefused(BundleFailure.MALFORMED)
    key, signature = raw_one_time_key[:KEY_SIZE], raw_one_time_key[KEY_SIZE:]
    if not _is_signed(bundle.identity.ed25519, _ONE_TIME_CONTEXT + client_id + key, signature):
        raise BundleRefused(BundleFailure.ONE_TIME_SIGNATURE)
    return Claim(bundle, key)


def _is_signed(ed25519: bytes, message: bytes, signature: bytes) -> bool:
    from cryptography import exceptions  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(ed25519).verify(signature, message)
    except (exceptions.InvalidSignature, ValueError):
        return False
    return True
