"""Checking that a connection speaks for the user it names.

Owns: nonces, attempts and the one string that is signed; the only module of the gateway that
imports Crypto.
Promises: one attempt per nonce, a nonce is good for `Settings.nonce_age` seconds; a bogus proof
costs the storage worker no write. Time and random bytes are passed in.
Exposure: strangers choose the signature, and the key that it is checked with was registered by a
stranger.

Source: docs/client-protocol.md, "Proof".
"""

from typing import Final

from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from common.rsa_key_form import numbers_of_der

_CONTEXT: Final = b"MessageU prove 1\0"
_SALT_SIZE: Final = 32


def signed_string(server_id: bytes, nonce: bytes, client_id: bytes, binding: bytes) -> bytes:
    """What a client signs to authenticate: 113 bytes. `binding`: the connection's channel
    binding.
    """
    return _CONTEXT + server_id + nonce + client_id + binding


def signature_is_valid(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """RSASSA-PSS (RFC 8017) with SHA-256, MGF1-SHA256 and a salt of 32 bytes, under a key in DER.

    If the key is not the SubjectPublicKeyInfo of an RSA key of 1024 bits, no signature is valid.
    """
    numbers = numbers_of_der(public_key)
    if numbers is None:
        return False
    try:
        # No parser and no check of the library's own: there is nothing left to be found out.
        key = RSA.construct(tuple(numbers), consistency_check=False)
        pss.new(key, salt_bytes=_SALT_SIZE).verify(SHA256.new(message), signature)
    except ValueError:
        return False
    return True


class Challenge:
    """The nonce of one connection and the attempts that were made."""

    __slots__ = ("_issued_at", "_nonce", "attempts")

    def __init__(self) -> None:
        self._nonce: bytes | None = None
        self._issued_at = 0.0
        self.attempts = 0

    def issue(self, nonce: bytes, now: float) -> None:
        """A new 640 came: `nonce` (32 bytes) replaces any older one."""
        self._nonce = nonce
        self._issued_at = now

    def take(self, now: float, longest_age: float) -> bytes | None:
        """Take the nonce for one attempt; it can't be used again. None if there is none, or it is
        too old.
        """
        self.attempts += 1
        nonce, self._nonce = self._nonce, None
        return nonce if now - self._issued_at <= longest_age else None
