"""Rules of published keys: with what others begin a conversation, and who gets which one-time key.

Owns: which keys are kept, in which order they are given out. Promises: a one-time key is given out
once in the life of the store, and only in the generation in which it was published: another one may
have given it out. Where none is left there is the bundle. The same publication again changes
nothing.
Exposure: what is published is opaque; its size is bounded. Users claim whose keys they like: how
often is the gateway's to limit.

Source: docs/client-protocol.md, "644, publish keys" and "645, claim key".
"""

from hashlib import sha256
from typing import Final

from common.storage_protocol.operations import ClaimKey, KeyClaimed, KeysKept, Outcome, PublishKeys, Refused
from common.values import MOST_KEPT, ONE_TIME_KEY_SIZE
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import KeysPublished, OneTimeKeyClaimed
from storage_worker.engine.values import PublishedKeys
from storage_worker.rules.access import Access
from storage_worker.rules.admission import AdmissionControl
from storage_worker.rules.answers import NO_KEYS, PROOF_NEEDED, RECIPIENT_UNKNOWN
from storage_worker.rules.table import rules_of

_KEY: Final = 32
"""Bytes at the beginning of a one-time key that no other one has."""
_NOTHING: Final = PublishedKeys(b"", b"", -1, b"")


def _one_by_one(keys: bytes) -> list[bytes]:
    return [keys[at : at + ONE_TIME_KEY_SIZE] for at in range(0, len(keys), ONE_TIME_KEY_SIZE)]


def _digest(request: PublishKeys) -> bytes:
    """What names a publication."""
    return sha256(b"".join((bytes([request.forget]), sha256(request.bundle).digest(), request.one_time_keys))).digest()


class KeyRules:
    """Keeps what is published, and gives it out."""

    def __init__(self, engine: Engine, access: Access, admission: AdmissionControl) -> None:
        self._engine = engine
        self._users = engine.users
        self._keys = engine.keys
        self._access = access
        self._admission = admission

    def publish(self, _slot: int, request: PublishKeys) -> Outcome:
        """Keep a bundle and one-time keys; how many of these are kept now."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        if not request.authenticated:
            return PROOF_NEEDED
        generation = self._engine.identity.generation
        before = self._keys.find(user.row) or _NOTHING
        count = before.count(generation)
        digest = _digest(request)
        asks_alone = not request.forget and not request.one_time_keys and before.bundle == request.bundle
        if asks_alone or before.digest == digest:
            return KeysKept(count)
        if self._admission.level:
            return self._admission.refusal
        # Those of another generation go as well.
        dropped = _one_by_one(before.one_time_keys)
        kept: list[bytes] = []
        if count and not request.forget:
            dropped, kept = kept, dropped
        known = {key[:_KEY] for key in kept}
        added: list[bytes] = []
        for key in _one_by_one(request.one_time_keys):
            if key[:_KEY] not in known:
                known.add(key[:_KEY])
                added.append(key)
        most = max(0, len(kept) + len(added) - MOST_KEPT)
        self._engine.apply(
            KeysPublished(
                user.row, generation, request.bundle, digest, len(dropped) + most, b"".join(added), before.digest
            )
        )
        self._admission.accepted_bytes += len(request.bundle) + len(request.one_time_keys)
        return KeysKept(len(kept) + len(added) - most)

    def claim(self, _slot: int, request: ClaimKey) -> Outcome:
        """Give out a bundle and, where that is possible, a one-time key."""
        user = self._access.requester(request.requester, request.authenticated)
        if isinstance(user, Refused):
            return user
        if not request.authenticated:
            return PROOF_NEEDED
        subject = self._users.find(request.subject)
        if subject is None:
            return RECIPIENT_UNKNOWN
        found = self._keys.find(subject.row) if subject.takes_sealed else None
        if found is None or not found.bundle:
            return NO_KEYS
        # What makes the turn larger waits until there is room; the bundle alone changes nothing.
        if not request.one_time or self._admission.level or not found.count(self._engine.identity.generation):
            return KeyClaimed(found.bundle, b"")
        self._engine.apply(OneTimeKeyClaimed(subject.row))
        return KeyClaimed(found.bundle, found.one_time_keys[:ONE_TIME_KEY_SIZE])


KEYS: Final = rules_of(KeyRules).row(PublishKeys, KeyRules.publish).row(ClaimKey, KeyRules.claim)
