"""The outer layer: X-Wing, and HPKE in mode base over it, by hand.

X-Wing is ML-KEM-768 and X25519, joined by SHA3-256. HPKE's key schedule is that of RFC 9180, 5.1.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.suite1_second.primitives import Refused, ZeroSecret, dh, expand, mac, public_of

SUITE = b"HPKE" + bytes.fromhex("647a00010003")
LABEL = bytes.fromhex("5c2e2f2f5e5c")
Q = 3329


@dataclass(frozen=True)
class OuterKey:
    """A private outer key: its number, its seed of 96 bytes, and when it is over."""

    number: int
    seed: bytes
    valid_until: int = 0

    @property
    def public(self) -> bytes:
        ml_kem = MLKEM768PrivateKey.from_seed_bytes(self.seed[:64])
        return ml_kem.public_key().public_bytes_raw() + public_of(self.seed[64:])


def is_usable(public: bytes) -> bool:
    """Every coefficient of ML-KEM's key is below q, and X25519 gives no zero secret."""
    packed = int.from_bytes(public[:1152], "little")
    if any((packed >> 12 * i) & 0xFFF >= Q for i in range(768)):
        return False
    try:
        dh(bytes(range(32)), public[1184:])
    except ZeroSecret:
        return False
    return True


def joined(secret_m: bytes, secret_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return hashlib.sha3_256(secret_m + secret_x + ct_x + pk_x + LABEL).digest()


def key_and_nonce(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """HPKE's key schedule in mode base: no psk, no psk id."""

    def extract(salt: bytes, label: bytes, data: bytes) -> bytes:
        return mac(salt or bytes(32), b"HPKE-v1" + SUITE + label + data)

    def derived(secret: bytes, label: bytes, data: bytes, size: int) -> bytes:
        return expand(secret, size.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + data, size)

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared_secret, b"secret", b"")
    return derived(secret, b"key", context, 32), derived(secret, b"base_nonce", context, 12)


def info_of(sender: bytes, recipient: bytes) -> bytes:
    return b"MessageU 5/1\0" + sender + recipient


def seal(plain: bytes, public: bytes, info: bytes) -> bytes:
    secret_m, ct_m = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    own = os.urandom(32)
    ct_x, pk_x = public_of(own), public[1184:]
    key, nonce = key_and_nonce(joined(secret_m, dh(own, pk_x), ct_x, pk_x), info)
    return ct_m + ct_x + ChaCha20Poly1305(key).encrypt(nonce, plain, b"")


def opened(sealed: bytes, private: OuterKey, info: bytes) -> bytes:
    """The plain text; raises Refused("outer-damaged")."""
    try:
        if len(sealed) < 1136:
            raise InvalidTag
        ct_m, ct_x = sealed[:1088], sealed[1088:1120]
        secret_m = MLKEM768PrivateKey.from_seed_bytes(private.seed[:64]).decapsulate(ct_m)
        secret_x = dh(private.seed[64:], ct_x)
        key, nonce = key_and_nonce(joined(secret_m, secret_x, ct_x, public_of(private.seed[64:])), info)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed[1120:], b"")
    except (InvalidTag, ZeroSecret) as error:
        raise Refused("outer-damaged") from error
