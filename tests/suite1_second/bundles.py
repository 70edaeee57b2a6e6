"""Bundles and one-time keys, the checks of a claim, and the numbers that people compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.suite1_second.outer import is_usable
from tests.suite1_second.primitives import Refused, ZeroSecret, dh, number, u

DAY = 24 * 60 * 60 * 1000
FARTHEST = 14 * DAY
BUNDLE = b"MessageU keys 1\0"
ONE_TIME = b"MessageU one-time key 1\0"


@dataclass(frozen=True)
class Identity:
    """The two public identity keys."""

    ed25519: bytes
    curve25519: bytes


@dataclass(frozen=True)
class Claim:
    """A claim that was believed."""

    identity: Identity
    outer_number: int
    valid_until: int
    outer: bytes
    fallback: bytes
    one_time: bytes | None


def signed(seed: bytes, data: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(data)


def is_signed(key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def bundle(seed: bytes, owner: bytes, identity: Identity, outer: tuple[int, int, bytes], fallback: bytes) -> bytes:
    """A bundle; `outer` is the key's number, its `valid until`, and the key."""
    outer_number, valid_until, key = outer
    body = b"\1" + identity.ed25519 + identity.curve25519 + u(4, outer_number) + u(8, valid_until) + key + fallback
    return body + signed(seed, BUNDLE + owner + body)


def one_time_key(seed: bytes, owner: bytes, key: bytes) -> bytes:
    return key + signed(seed, ONE_TIME + owner + key)


def has_zero_secret(*keys: bytes) -> bool:
    try:
        for key in keys:
            dh(bytes(range(32)), key)
    except ZeroSecret:
        return True
    return False


def checked(
    data: bytes,
    one_time: bytes,
    owner: bytes,
    now: int,
    known: Identity | None = None,
    newest: int | None = None,
    starts_session: bool = True,
) -> Claim:
    """The claim, or Refused with the first check that fails."""
    if data and data[0] != 1:
        raise Refused("later-version")
    if len(data) != 1389:
        raise Refused("malformed")
    identity = Identity(data[1:33], data[33:65])
    if not is_signed(identity.ed25519, data[1325:], BUNDLE + owner + data[:1325]):
        raise Refused("signature")
    if known is not None and known != identity:
        raise Refused("identity-changed")
    valid_until, outer, fallback = number(data[69:77]), data[77:1293], data[1293:1325]
    if valid_until > now + FARTHEST:
        raise Refused("too-far")
    if newest is not None and newest <= now + FARTHEST and valid_until < newest:
        raise Refused("older")
    if not is_usable(outer):
        raise Refused("outer-key")
    if len(one_time) not in {0, 96}:
        raise Refused("malformed")
    key = one_time[:32] or None
    if key is not None and not is_signed(identity.ed25519, one_time[32:], ONE_TIME + owner + key):
        raise Refused("one-time-signature")
    if starts_session and has_zero_secret(identity.curve25519, key or fallback):
        raise Refused("session-key")
    return Claim(identity, number(data[65:69]), valid_until, outer, fallback, key)


def digits(owner: bytes, identity: Identity) -> str:
    w = owner + identity.ed25519 + identity.curve25519
    d = hashlib.sha512(b"MessageU safety number 2\0" + w).digest()
    for _ in range(5199):
        d = hashlib.sha512(d + w).digest()
    return "".join(f"{int.from_bytes(d[5 * i : 5 * i + 5], 'big') % 100000:05}" for i in range(6))


def safety_number(one: tuple[bytes, Identity], other: tuple[bytes, Identity]) -> str:
    return "".join(sorted((digits(*one), digits(*other))))


def fingerprint(owner: bytes, identity: Identity) -> bytes:
    return hashlib.sha256(b"MessageU fingerprint 1\0" + owner + identity.ed25519 + identity.curve25519).digest()
