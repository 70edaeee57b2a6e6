"""What the parts share: failures, X25519 over bytes, HKDF, and padding."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey


class Refused(Exception):
    """Not accepted; `failure` is the name that the text has for it."""

    def __init__(self, failure: str) -> None:
        super().__init__(failure)
        self.failure = failure


class ZeroSecret(Exception):
    """X25519 gave 32 zeros: the public key is one of a small order."""


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def dh(private: bytes, public: bytes) -> bytes:
    """X25519 (RFC 7748); raises ZeroSecret."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise ZeroSecret from error


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def expand(key: bytes, info: bytes, size: int, digest: str = "sha256") -> bytes:
    """HKDF-Expand (RFC 5869)."""
    out, block, count = b"", b"", 0
    while len(out) < size:
        count += 1
        block = hmac.digest(key, block + info + bytes([count]), digest)
        out += block
    return out[:size]


def hkdf(salt: bytes, secret: bytes, info: bytes, size: int) -> bytes:
    """HKDF with SHA-256; an empty salt is 32 zeros."""
    return expand(mac(salt or bytes(32), secret), info, size)


def u(size: int, value: int) -> bytes:
    return value.to_bytes(size, "little")


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def padme(length: int) -> int:
    if length <= 256:
        return 256
    e = length.bit_length() - 1
    s = e.bit_length()  # floor(log2 e) + 1
    step = 1 << (e - s)
    return (length + step - 1) // step * step
