"""The stream of a file: C2SP chunked encryption v1 with HKDF-Expand of SHA-512 and AES-256-GCM."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.suite1_second.primitives import Refused, expand, padme

CHUNK = 16384
TAG = 16


def context_of(sender: bytes, recipient: bytes) -> bytes:
    return b"MessageU 5/1 file\0" + sender + recipient


def derived(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, int, bytes]:
    """The chunks' key, the base nonce as a number, and the commitment."""
    out = expand(key, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context, 76, "sha512")
    return out[:32], int.from_bytes(out[32:44], "big"), out[44:]


def nonce(base: int, chunk: int) -> bytes:
    return (base ^ chunk).to_bytes(12, "big")


def sealed_size(size: int) -> int:
    padded = padme(size)
    return 56 + padded + TAG * (padded // CHUNK + 1)


def seal(content: bytes, key: bytes, context: bytes) -> bytes:
    plain = content + bytes(padme(len(content)) - len(content))
    salt = os.urandom(24)
    chunk_key, base, commitment = derived(key, salt, context)
    chunks = [plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK)]
    if len(plain) % CHUNK == 0:
        chunks.append(b"")
    aead = AESGCM(chunk_key)
    return salt + commitment + b"".join(aead.encrypt(nonce(base, i), each, b"") for i, each in enumerate(chunks))


def opened(stream: bytes, key: bytes, context: bytes, size: int, digest: bytes) -> bytes:
    """The content; raises Refused("damaged")."""
    if len(stream) != sealed_size(size):
        raise Refused("damaged")
    chunk_key, base, commitment = derived(key, stream[:24], context)
    if not hmac.compare_digest(commitment, stream[24:56]):
        raise Refused("damaged")
    aead = AESGCM(chunk_key)
    plain = b""
    try:
        for i, at in enumerate(range(56, len(stream), CHUNK + TAG)):
            plain += aead.decrypt(nonce(base, i), stream[at : at + CHUNK + TAG], b"")
    except InvalidTag as error:
        raise Refused("damaged") from error
    content = plain[:size]
    if any(plain[size:]) or hashlib.sha256(content).digest() != digest:
        raise Refused("damaged")
    return content
