"""This home's own keys of suite 1: the account of Olm, the outer keys, and their publication.

Owns: when keys are made, published, replaced and forgotten.
Promises: a private key that somebody may still seal to is kept until it is seven days beyond its
time and its successor was published; then it is gone. Every function returns a new value; the
caller saves it before what it made leaves the computer.
Exposure: none; it reads this home's state.

Source: docs/suite-1.md, "A home's own keys".
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from client.suite1 import bundles, olm, outer
from client.suite1.state_codec import packed, sized, unpacked, unusable
from client.suite1.values import (
    DAY,
    FARTHEST,
    KEPT_AFTER,
    KEY_SIZE,
    ONE_TIME_BATCH,
    ONE_TIME_LOW,
    REPLACE_AT_MOST,
    REPLACING,
    ROTATE_AFTER,
    VALID_FOR,
    Bundle,
    Identity,
    OpenFailure,
    OuterKey,
)

RandomBytes = Callable[[int], bytes]
"""Returns that many unpredictable bytes."""
_NAME: Final = "own keys"
FORGET: Final = 1
"""Bit 0 of 644's flags: the server drops the one-time keys that it keeps."""


class OuterSecret(NamedTuple):
    """One outer key with its private half, a seed of 96 bytes. Times in Unix milliseconds;
    `published_at`: when the server confirmed it, or None.
    """

    number: int
    made_at: int
    valid_until: int
    seed: bytes
    published_at: int | None

    @property
    def public(self) -> OuterKey:
        """The public half."""
        return OuterKey(self.number, self.valid_until, outer.public_of(self.seed))


class Publication(NamedTuple):
    """What a 644 carries for the user `client_id`."""

    client_id: bytes
    flags: int
    bundle: bytes
    one_time_keys: tuple[bytes, ...]


class OwnKeys(NamedTuple):
    """The state. `outer`: oldest first, never empty. `kept`: how many one-time keys the server has,
    as far as is known; None before the first publication. `forget`: the next publication tells the
    server to drop the one-time keys that it keeps. `pending`: what was sent and not answered yet.
    `suspect`: a message has named a key that this home does not have.
    """

    identity: Identity
    account: olm.Account
    outer: tuple[OuterSecret, ...]
    fallback: bytes
    fallback_made_at: int
    fallback_generation: int
    kept: int | None
    published_at: int
    forget: bool
    replaced_at: int
    pending: Publication | None = None
    suspect: bool = False

    def to_bytes(self) -> bytes:
        """Return the state as bytes; they are secret."""
        return packed(_NAME, (*self.identity, *self[1:]))

    @classmethod
    def from_bytes(cls, state: bytes) -> "OwnKeys":
        """Read a state. Raises `StoreUnusable`."""
        match unpacked(_NAME, state):
            case [
                bytes(ed25519), bytes(curve25519), str(account), list(secrets), bytes(fallback), int(fallback_made_at),
                int(generation), (int() | None) as kept, int(published_at), bool(forget), int(replaced_at),
                (list() | None) as pending, bool(suspect),
            ] if secrets:  # fmt: skip
                return cls(
                    Identity(sized(_NAME, ed25519, KEY_SIZE), sized(_NAME, curve25519, KEY_SIZE)), account,
                    tuple(_outer_secret(each) for each in secrets), sized(_NAME, fallback, KEY_SIZE), fallback_made_at,
                    generation, kept, published_at, forget, replaced_at, _pending(pending), suspect,
                )  # fmt: skip
        raise unusable(_NAME)

    def outer_seed(self, number: int) -> bytes | None:
        """Return the private half of an outer key; None if it is unknown or gone."""
        return next((secret.seed for secret in self.outer if secret.number == number), None)


def new_keys(now: int, random_bytes: RandomBytes) -> OwnKeys:
    """Make the keys of a home that has none. The identity keys are of the library's randomness.
    The server may keep one-time keys of an earlier home of this account: it is to forget them.
    """
    account, fallback = olm.with_fallback_key(olm.new_account())
    first = _new_outer((), now, random_bytes)
    return OwnKeys(olm.identity_of(account), account, (first,), fallback, now, 0, None, 0, forget=True, replaced_at=0)


def publication_due(keys: OwnKeys, now: int) -> bool:
    """Whether the home has something to publish: new keys, too few one-time keys at the server, or
    nothing heard of them for a day.
    """
    newest = keys.outer[-1]
    return (
        keys.pending is not None
        or newest.published_at is None
        or keys.forget
        or keys.kept is None
        or keys.kept < ONE_TIME_LOW
        or not keys.published_at <= now < keys.published_at + DAY
        or not newest.made_at <= now < newest.made_at + ROTATE_AFTER
    )


def prepare_publication(
    keys: OwnKeys, client_id: bytes, now: int, random_bytes: RandomBytes
) -> tuple[OwnKeys, Publication]:
    """Make a publication, with a new outer key and a new fallback key if theirs are old.

    Save the new state before the publication leaves. Until it is `published`, the same one comes
    back, byte for byte, unless it was for another user, or the server has to forget keys now.
    """
    pending = keys.pending
    if pending is not None and pending.client_id == client_id and bool(pending.flags & FORGET) == keys.forget:
        return keys, pending
    newest = keys.outer[-1]
    if not newest.made_at <= now < newest.made_at + ROTATE_AFTER:
        keys = keys._replace(outer=(*keys.outer, _new_outer(keys.outer, now, random_bytes)))
    if not keys.fallback_made_at <= now < keys.fallback_made_at + ROTATE_AFTER:
        keys = _with_new_fallback(keys, now)
    one_time_keys: tuple[bytes, ...] = ()
    if keys.forget or keys.kept is None or keys.kept < ONE_TIME_LOW:
        account, one_time_keys = olm.with_one_time_keys(keys.account, ONE_TIME_BATCH)
        keys = keys._replace(account=account)
    sign = olm.signer(keys.account)
    bundle = bundles.made_bundle(client_id, Bundle(keys.identity, keys.outer[-1].public, keys.fallback), sign)
    signed = tuple(bundles.made_one_time_key(client_id, key, sign) for key in one_time_keys)
    publication = Publication(client_id, FORGET if keys.forget else 0, bundle, signed)
    return keys._replace(pending=publication), publication


def published(keys: OwnKeys, kept: int, now: int) -> OwnKeys:
    """Note that the server confirmed the newest publication, and keeps that many one-time keys."""
    newest = keys.outer[-1]
    if newest.published_at is None:
        newest = newest._replace(published_at=now)
    return keys._replace(outer=(*keys.outer[:-1], newest), kept=kept, published_at=now, forget=False, pending=None)


def without_expired(keys: OwnKeys, now: int) -> OwnKeys:
    """Drop the private halves whose time is over. Call it after the mailbox was fetched until it
    was empty: until then, mail that was sealed to them may be in it.
    """
    kept = [keys.outer[-1]]
    for secret, successor in zip(keys.outer[-2::-1], keys.outer[:0:-1], strict=True):
        since = None if successor.published_at is None else max(secret.valid_until, successor.published_at)
        if since is None or now < since + KEPT_AFTER:
            kept.insert(0, secret)
    return keys._replace(outer=tuple(kept))


def replacement_due(keys: OwnKeys, failure: OpenFailure, now: int) -> bool:
    """Whether a message that was not opened shows that the published keys are to be `replaced`."""
    return failure in REPLACING and keys.suspect and not keys.replaced_at <= now < keys.replaced_at + REPLACE_AT_MOST


def replaced(keys: OwnKeys, now: int, random_bytes: RandomBytes) -> OwnKeys:
    """Replace everything that is published, and let the server forget the one-time keys that it
    keeps: after a home was restored from an old copy, some of their private halves are lost.
    """
    keys = _with_new_fallback(keys, now)
    fresh = _new_outer(keys.outer, now, random_bytes)
    return keys._replace(
        outer=(*keys.outer, fresh), kept=None, forget=True, replaced_at=now, pending=None, suspect=False
    )


def _with_new_fallback(keys: OwnKeys, now: int) -> OwnKeys:
    account, fallback = olm.with_fallback_key(keys.account)
    return keys._replace(
        account=account, fallback=fallback, fallback_made_at=now, fallback_generation=keys.fallback_generation + 1
    )


def _new_outer(others: tuple[OuterSecret, ...], now: int, random_bytes: RandomBytes) -> OuterSecret:
    """Random numbers, so that a home that was restored never gives one of them a second meaning."""
    taken = {0, *(secret.number for secret in others)}
    number = 0
    while number in taken:
        number = int.from_bytes(random_bytes(4), "little")
    # Peers refuse a bundle that ends before the one they know: a clock that was ahead holds nobody
    # up.
    known = max((secret.valid_until for secret in others if secret.valid_until <= now + FARTHEST), default=0)
    return OuterSecret(number, now, max(now + VALID_FOR, known), random_bytes(outer.SEED_SIZE), None)


def _outer_secret(fields: object) -> OuterSecret:
    match fields:
        case [int(number), int(made_at), int(valid_until), bytes(seed), (int() | None) as published_at]:
            if 0 < number < 2**32:
                seed = sized(_NAME, seed, outer.SEED_SIZE)
                return OuterSecret(number, made_at, valid_until, seed, published_at)
    raise unusable(_NAME)


def _pending(fields: object) -> Publication | None:
    match fields:
        case None:
            return None
        case [bytes(client_id), int(flags), bytes(bundle), list(one_time_keys)]:
            return Publication(client_id, flags, bundle, tuple(_bytes(key) for key in one_time_keys))
    raise unusable(_NAME)


def _bytes(field: object) -> bytes:
    if isinstance(field, bytes):
        return field
    raise unusable(_NAME)
