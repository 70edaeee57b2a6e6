"""Encryption at rest under a passphrase: the data key that seals the store's secrets, and exported
homes.

Owns: how a secret of store.db is sealed, how the data key is wrapped, how an exported home is
encrypted.
Promises: data that was altered, or is in another place than it was sealed for, does not open.
Randomness is passed in.
Exposure: opens data that anybody who can write to the home, or who hands over an export, may have
altered; the cost parameters of a wrapped key are checked against a bound before use.

    a sealed secret     nonce [12], AES-256-GCM ciphertext, tag [16]; the place is authenticated with it
    a wrapped data key  1 [1], log2 N [1], r [1], p [1], salt [16], nonce [12], ciphertext [32], tag
    [16]; AES-256-GCM
                        under scrypt(passphrase), with the first 20 bytes authenticated too

Source: docs/security.md, "A passphrase at rest".
"""

import re
from typing import BinaryIO, Final, Self

from Crypto.Cipher import AES
from Crypto.Cipher._mode_gcm import GcmMode

from client.crypto.ciphers import SCRYPT_COST, RandomBytes, passphrase_bytes
from client.errors import CipherError

_KEY_SIZE: Final = 32
_NONCE: Final = 12
_TAG: Final = 16
_SALT: Final = 16
_VERSION: Final = 1
_R, _P = 8, 1
_HEAD: Final = 4 + _SALT
_WRAPPED: Final = _HEAD + _NONCE + _KEY_SIZE + _TAG
_LARGEST_LOG_COST: Final = 20
"""1 GiB of memory; a key that needs more was not written by this program."""


class DataKey:
    """Seals and opens the store's secrets, under one random data key."""

    def __init__(self, data_key: bytes, random_bytes: RandomBytes) -> None:
        self._key = data_key
        self._random_bytes = random_bytes

    @classmethod
    def new(cls, random_bytes: RandomBytes) -> Self:
        """Make one with a new data key."""
        return cls(random_bytes(_KEY_SIZE), random_bytes)

    @classmethod
    def unwrap(cls, wrapped: bytes, passphrase: str, random_bytes: RandomBytes) -> Self | None:
        """Unwrap the data key; None for a wrong passphrase or an altered key."""
        if len(wrapped) != _WRAPPED:
            return None
        version, log_cost, r, p = wrapped[:4]
        if version != _VERSION or not 1 <= log_cost <= _LARGEST_LOG_COST or (r, p) != (_R, _P):
            return None
        head, sealed = wrapped[:_HEAD], wrapped[_HEAD:]
        try:
            return cls(_open(_derived(passphrase, head[4:], 1 << log_cost), head, sealed), random_bytes)
        except CipherError:
            return None

    def wrap(self, passphrase: str) -> bytes:
        """Return the data key, wrapped under a passphrase."""
        salt = self._random_bytes(_SALT)
        head = bytes([_VERSION, SCRYPT_COST.bit_length() - 1, _R, _P]) + salt
        return head + _seal(_derived(passphrase, salt, SCRYPT_COST), head, self._key, self._random_bytes)

    def seal(self, place: bytes, secret: bytes) -> bytes:
        """Encrypt and authenticate a secret for its place."""
        return _seal(self._key, place, secret, self._random_bytes)

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """Return the secret of a place. Raises `CipherError` if it was altered or is from another
        place.
        """
        return _open(self._key, place, sealed)


def _seal(key: bytes, place: bytes, secret: bytes, random_bytes: RandomBytes) -> bytes:
    nonce = random_bytes(_NONCE)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG)
    cipher.update(place)
    content, tag = cipher.encrypt_and_digest(secret)
    return nonce + content + tag


def _open(key: bytes, place: bytes, sealed: bytes) -> bytes:
    if len(sealed) < _NONCE + _TAG:
        raise CipherError("it was altered or is damaged")
    cipher = AES.new(key, AES.MODE_GCM, nonce=sealed[:_NONCE], mac_len=_TAG)
    cipher.update(place)
    try:
        return cipher.decrypt_and_verify(sealed[_NONCE:-_TAG], sealed[-_TAG:])
    except ValueError as error:
        raise CipherError("it was altered or is damaged") from error


def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    from Crypto.Protocol.KDF import scrypt  # noqa: PLC0415 - heavy, and only needed with a passphrase

    # Not hashlib's: whether it has scrypt depends on how OpenSSL was built.
    key = scrypt(passphrase_bytes(passphrase), salt, _KEY_SIZE, N=cost, r=_R, p=_P)
    assert isinstance(key, bytes)
    return key


# --- exported homes
# ---------------------------------------------------------------------------------------------

_ARCHIVE_VERSION: Final = 2
_ARCHIVE: Final = b"MessageU export %d\n" % _ARCHIVE_VERSION
_ANY_ARCHIVE: Final = re.compile(rb"MessageU export ([0-9]{1,9})\n")
CHUNK: Final = 64 * 1024
"""Bytes of an archive that are encrypted, and authenticated, at a time."""


class LaterExport(CipherError):
    """The archive's format is of a later version."""


class ArchiveSealer:
    """Encrypts an archive on its way into a file, chunk by chunk.

    A chunk's nonce is its number [11] and whether it is the last one [1]: none can be left out,
    moved, or added, and the end can't be cut off. The key is used for this one archive.
    """

    def __init__(self, sink: BinaryIO, passphrase: str, random_bytes: RandomBytes) -> None:
        salt = random_bytes(_SALT)
        self._sink = sink
        self._key = _derived(passphrase, salt, SCRYPT_COST)
        self._number = 0
        self._rest = bytearray()
        sink.write(_ARCHIVE + salt)

    def write(self, data: bytes) -> int:
        """Encrypt the next bytes of the archive."""
        self._rest += data
        while len(self._rest) > CHUNK:
            self._put(bytes(self._rest[:CHUNK]), last=False)
            del self._rest[:CHUNK]
        return len(data)

    def finish(self) -> None:
        """Write the rest as the last chunk."""
        self._put(bytes(self._rest), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        content, tag = _chunk_cipher(self._key, self._number, last=last).encrypt_and_digest(chunk)
        self._number += 1
        self._sink.write(content + tag)


class ArchiveOpener:
    """Decrypts an archive while it is read from a file; all bytes that it returns were
    authenticated.

    Raises `LaterExport`. `read` raises `CipherError` for a damaged archive, and the first one for
    another passphrase too.
    """

    def __init__(self, source: BinaryIO, passphrase: str) -> None:
        self._source = source
        head = source.read(len(_ARCHIVE) + _SALT)
        made = _ANY_ARCHIVE.match(head)
        if made is not None and int(made[1]) > _ARCHIVE_VERSION:
            raise LaterExport("it was made by a later version of MessageU")
        if len(head) != len(_ARCHIVE) + _SALT or not head.startswith(_ARCHIVE):
            raise CipherError("it is no export")
        self._key = _derived(passphrase, head[len(_ARCHIVE) :], SCRYPT_COST)
        self._number = 0
        self._next = self._sealed_chunk()
        if not self._next:
            raise CipherError("it is cut off")
        self._plain = b""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while len(self._plain) < size and self._next:
            self._plain += self._chunk()
        given, self._plain = self._plain[:size], self._plain[size:]
        return given

    def _sealed_chunk(self) -> bytes:
        return self._source.read(CHUNK + _TAG)

    def _chunk(self) -> bytes:
        sealed, self._next = self._next, self._sealed_chunk()
        try:
            cipher = _chunk_cipher(self._key, self._number, last=not self._next)
            plain = cipher.decrypt_and_verify(sealed[:-_TAG], sealed[-_TAG:])
        except ValueError as error:
            self._next = b""
            raise CipherError(f"it is damaged or cut off, {self._number * CHUNK} bytes in") from error
        self._number += 1
        return plain


def _chunk_cipher(key: bytes, number: int, *, last: bool) -> GcmMode:
    cipher = AES.new(key, AES.MODE_GCM, nonce=number.to_bytes(11, "big") + bytes([last]), mac_len=_TAG)
    cipher.update(_ARCHIVE)
    return cipher
