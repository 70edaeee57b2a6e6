"""Two people of the second implementation, with keys of their own, who claim each other's."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.suite1_second import bundles, talk
from tests.suite1_second.outer import OuterKey
from tests.suite1_second.primitives import public_of

NOW = 1_800_000_000_000
WEEK = 7 * bundles.DAY


def new_home(owner: bytes, now: int = NOW) -> talk.Home:
    seed, private = os.urandom(32), os.urandom(32)
    one_time = [os.urandom(32) for _ in range(5)]
    return talk.Home(
        id=owner,
        ed25519_seed=seed,
        identity=bundles.Identity(
            Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw(), public_of(private)
        ),
        curve25519=private,
        one_time={public_of(key): key for key in one_time},
        fallback=[os.urandom(32)],
        outer=[OuterKey(int.from_bytes(os.urandom(3), "little") + 1, os.urandom(96), now + WEEK)],
    )


def bundle_of(home: talk.Home) -> bytes:
    key = home.outer[0]
    public = (key.number, key.valid_until, key.public)
    return bundles.bundle(home.ed25519_seed, home.id, home.identity, public, public_of(home.fallback[0]))


def one_time_of(home: talk.Home, place: int = 0) -> bytes:
    return bundles.one_time_key(home.ed25519_seed, home.id, list(home.one_time)[place])


def met(home: talk.Home, other: talk.Home) -> talk.Peer:
    """What a home knows of another one after a first contact, without a session."""
    claim = bundles.checked(bundle_of(other), b"", other.id, NOW)
    assert claim.identity == other.identity
    return talk.Peer(other.id, claim.identity, claim.outer_number, claim.outer)


def begin(home: talk.Home, peer: talk.Peer, other: talk.Home, one_time: bytes | None = None) -> None:
    """A claim, and the session that it starts; b"" is the fallback key."""
    given = one_time_of(other) if one_time is None else one_time
    talk.start(home, peer, bundles.checked(bundle_of(other), given, other.id, NOW, peer.identity))
