"""Somebody who has recorded everything and broken X25519: for every public key there is the private
one.

Owns: Olm as such a recorder computes it, from the messages alone and without a library for it.
Promises: what it gives back is what was sealed: the MAC of the message says so. It opens everything
whose outer layer is open, or a drill in which it opens nothing shows nothing.
Exposure: none.

Source: docs/suite-1.md, "Olm".
"""

import hmac
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.suite1 import layout, outer
from torture.olm_messages import Envelope, Sealed, Starter, parse

_X25519: Final = 32
_MAC: Final = 8


def without_mlkem(seed: bytes) -> bytes:
    """What who breaks X25519 has of an outer key: that half, and any key of ML-KEM."""
    return bytes(outer.SEED_SIZE - _X25519) + seed[-_X25519:]


def public_of(private: bytes) -> bytes:
    """Return the public key of X25519."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class _Step(NamedTuple):
    """A chain of a session: the root key and the ratchet key that it began with, and its first
    chain key.
    """

    root: bytes
    ratchet: bytes
    chain_key: bytes


class Breaker:
    """Opens recordings. `seeds`: the private halves of outer keys that it has, by number;
    `privates`: every private key of X25519, by its public one; `identities`: the public identity
    key of each user.
    """

    def __init__(
        self, seeds: Mapping[int, bytes], privates: Mapping[bytes, bytes], identities: Mapping[bytes, bytes]
    ) -> None:
        self._seeds = seeds
        self._privates = privates
        self._identities = identities
        self._steps: dict[bytes, _Step] = {}
        self._tips: list[_Step] = []
        self._places: dict[bytes, tuple[int, bytes]] = {}

    def payloads(self, recording: Iterable[Envelope]) -> list[bytes | None]:
        """Return the payload of each message of a recording, which is in the order of sending; None
        for those that stay closed.
        """
        return [self._payload(envelope) for envelope in recording]

    def _payload(self, envelope: Envelope) -> bytes | None:
        seed = self._seeds.get(envelope.outer_number)
        plain = None if seed is None else outer.open_sealed(seed, envelope.pair, envelope.sealed)
        if plain is None:
            return None
        message = parse(plain)
        step = self._steps.get(message.ratchet) or self._found(message, envelope)
        if step is None:
            return None
        inner = layout.unpacked(_decrypted(self._message_key(step, message.place), message))
        return None if inner is None else inner.payload

    def _found(self, message: Sealed, envelope: Envelope) -> _Step | None:
        """Find the chain of a message: the beginning of a session, or a step from what is known."""
        for step in self._candidates(message, envelope):
            key = self._message_key(step, message.place)
            if hmac.compare_digest(_mac(key, message), message.mac):
                self._steps[message.ratchet] = step
                self._tips.insert(0, step)
                return step
        return None

    def _candidates(self, message: Sealed, envelope: Envelope) -> Iterator[_Step]:
        if message.starter is not None:
            root, chain_key = _pair(b"", self._agreed(message.starter, envelope), b"OLM_ROOT")
            yield _Step(root, message.ratchet, chain_key)
        for tip in self._tips:
            yield self._stepped(tip, message.ratchet)
        # A step of the other side between, whose message stays closed.
        for tip in self._tips[:2]:
            for between in self._privates:
                yield self._stepped(self._stepped(tip, between), message.ratchet)

    def _agreed(self, starter: Starter, envelope: Envelope) -> bytes:
        recipient = self._identities[envelope.pair.recipient]
        return b"".join(
            self._secret(one, other)
            for one, other in (
                (starter.identity, starter.one_time),
                (recipient, starter.base),
                (starter.one_time, starter.base),
            )
        )

    def _stepped(self, tip: _Step, ratchet: bytes) -> _Step:
        root, chain_key = _pair(tip.root, self._secret(ratchet, tip.ratchet), b"OLM_RATCHET")
        return _Step(root, ratchet, chain_key)

    def _secret(self, one: bytes, other: bytes) -> bytes:
        private = X25519PrivateKey.from_private_bytes(self._privates[one])
        return private.exchange(X25519PublicKey.from_public_bytes(other))

    def _message_key(self, step: _Step, wanted: int) -> bytes:
        place, key = self._places.get(step.chain_key, (0, step.chain_key))
        if place > wanted:
            place, key = 0, step.chain_key
        while place < wanted:
            place, key = place + 1, hmac.digest(key, b"\x02", "sha256")
        self._places[step.chain_key] = place, key
        return _hkdf(b"", hmac.digest(key, b"\x01", "sha256"), b"OLM_KEYS", 80)


def _hkdf(salt: bytes, secret: bytes, info: bytes, size: int) -> bytes:
    return HKDF(hashes.SHA256(), size, salt or None, info).derive(secret)


def _pair(salt: bytes, secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    both = _hkdf(salt, secret, info, 64)
    return both[:32], both[32:]


def _mac(key: bytes, message: Sealed) -> bytes:
    return hmac.digest(key[32:64], message.authenticated, "sha256")[:_MAC]


def _decrypted(key: bytes, message: Sealed) -> bytes:
    decryptor = Cipher(algorithms.AES256(key[:32]), modes.CBC(key[64:])).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(message.ciphertext) + decryptor.finalize()) + unpadder.finalize()
