"""The outer layer: HPKE with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305, of `cryptography`.

Owns: outer keys as objects of the library, sealing and opening to one.
Promises: a sealed text opens only for the pair of ids that it was sealed for. Every sealing makes
its own ephemeral keys, from the library's randomness.
Exposure: opens what strangers sent; any input opens or returns None.

Source: docs/suite-1.md, "The outer layer".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from client.suite1.values import OUTER_PUBLIC_SIZE, Pair

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hpke

INFO: Final = b"MessageU 5/1\0"
SEED_SIZE: Final = 96
"""ML-KEM-768's seed of 64 bytes, then X25519's private key of 32."""
_MLKEM_SEED: Final = 64
_MLKEM_PUBLIC: Final = 1184


@lru_cache(maxsize=1)
def _suite() -> hpke.Suite:
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415

    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


@lru_cache(maxsize=8)
def _private(seed: bytes) -> hpke.MLKEM768X25519PrivateKey:
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import mlkem, x25519  # noqa: PLC0415

    return hpke.MLKEM768X25519PrivateKey(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED]),
        x25519.X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED:]),
    )


@lru_cache(maxsize=256)
def _public(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import mlkem, x25519  # noqa: PLC0415

    return hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]),
        x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]),
    )


def public_of(seed: bytes) -> bytes:
    """Return the 1,216 bytes of the public half of a seed of 96 bytes."""
    from cryptography.hazmat.primitives.asymmetric import mlkem, x25519  # noqa: PLC0415

    mlkem_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED])
    x25519_key = x25519.X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED:])
    return mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()


def is_usable(public: bytes) -> bool:
    """Whether 1,216 bytes are a public key to which something can be sealed."""
    if len(public) != OUTER_PUBLIC_SIZE:
        return False
    try:
        # A point of small order fails only when it is used.
        _suite().encrypt(b"", _public(public), info=INFO)
    except ValueError:
        return False
    return True


def seal(public: bytes, pair: Pair, plain: bytes) -> bytes:
    """Seal to a key that `is_usable`; the result is 1,136 bytes longer."""
    return _suite().encrypt(plain, _public(public), info=_info(pair))


def open_sealed(seed: bytes, pair: Pair, sealed: bytes) -> bytes | None:
    """Return the plain bytes; None if it was altered, or sealed to another key or for another
    pair.
    """
    from cryptography import exceptions  # noqa: PLC0415

    try:
        return _suite().decrypt(sealed, _private(seed), info=_info(pair))
    except (exceptions.InvalidTag, ValueError):
        return None


def _info(pair: Pair) -> bytes:
    return INFO + pair.sender + pair.recipient
