"""What people compare: safety number 2, and the fingerprint in a link or a QR code.

Owns: how both are computed from a client id and the two identity keys.
Promises: pure; both sides see the same safety number.
Exposure: none.

Source: docs/suite-1.md, "Safety number 2".
"""

import functools
import hashlib
from typing import Final

from client.suite1.values import Identity

_SAFETY: Final = b"MessageU safety number 2\0"
_FINGERPRINT: Final = b"MessageU fingerprint 1\0"
_ROUNDS: Final = 5200
_GROUPS: Final = 6


def safety_number(one: tuple[bytes, Identity], other: tuple[bytes, Identity]) -> str:
    """Return the 60 digits that both sides see, from client ids and identities."""
    return "".join(sorted((_half(*one), _half(*other))))


def fingerprint(client_id: bytes, identity: Identity) -> bytes:
    """Return the 32 bytes that name somebody's identity in a link."""
    return hashlib.sha256(_FINGERPRINT + client_id + identity.ed25519 + identity.curve25519).digest()


@functools.lru_cache(maxsize=64)
def _half(client_id: bytes, identity: Identity) -> str:
    whom = client_id + identity.ed25519 + identity.curve25519
    digest = hashlib.sha512(_SAFETY + whom).digest()
    for _ in range(_ROUNDS - 1):
        digest = hashlib.sha512(digest + whom).digest()
    numbers = [int.from_bytes(digest[at * 5 : at * 5 + 5], "big") for at in range(_GROUPS)]
    return "".join(f"{number % 100_000:05d}" for number in numbers)
