"""What rests on disk under a passphrase: the data key that seals the store's secrets, and exported homes.

Owns: how a secret of store.db is sealed, how the data key is wrapped, how an exported home is encrypted.
Promises: what was altered, or stands in another place than it was sealed for, does not open. Randomness is passed in.
Exposure: opens what somebody who can write to the home, or hands over an export, may have altered; the cost that a
wrapped key asks for is bounded before it is paid.

    a sealed secret     nonce [12], AES-256-GCM ciphertext, tag [16]; the place is authenticated with it
    a wrapped data key  1 [1], log2 N [1], r [1], p [1], salt [16], nonce [12], ciphertext [32], tag [16]; AES-256-GCM
                        under scrypt(passphrase), with the first 20 bytes authenticated too

Source: docs/security.md, "A passphrase at rest".
"""

from typing import Final, Self

from Crypto.Cipher import AES

from client.ciphers import SCRYPT_COST, RandomBytes, passphrase_bytes
from common.errors import CipherError

_KEY_SIZE: Final = 32
_NONCE: Final = 12
_TAG: Final = 16
_SALT: Final = 16
_VERSION: Final = 1
_R, _P = 8, 1
_HEAD: Final = 4 + _SALT
_WRAPPED: Final = _HEAD + _NONCE + _KEY_SIZE + _TAG
_LARGEST_LOG_COST: Final = 20
"""1 GiB of memory; what asks for more was not written here."""


class Vault:
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
        """Get the data key back; None for another passphrase, or an altered one."""
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
        """Give the data key, wrapped under a passphrase."""
        salt = self._random_bytes(_SALT)
        head = bytes([_VERSION, SCRYPT_COST.bit_length() - 1, _R, _P]) + salt
        return head + _seal(_derived(passphrase, salt, SCRYPT_COST), head, self._key, self._random_bytes)

    def seal(self, place: bytes, secret: bytes) -> bytes:
        """Encrypt and authenticate a secret for its place."""
        return _seal(self._key, place, secret, self._random_bytes)

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """Give the secret of a place. Raises `CipherError`: altered, or from another place."""
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
    from Crypto.Protocol.KDF import scrypt  # noqa: PLC0415 - heavy, and for those with a passphrase alone

    # Not hashlib's: whether that one is there depends on how OpenSSL was built.
    key = scrypt(passphrase_bytes(passphrase), salt, _KEY_SIZE, N=cost, r=_R, p=_P)
    assert isinstance(key, bytes)
    return key


# --- exported homes ---------------------------------------------------------------------------------------------

_ARCHIVE: Final = b"MessageU export 1\n"
_ARCHIVE_SALT: Final = 16
_ARCHIVE_NONCE: Final = 12
_ARCHIVE_TAG: Final = 16


def seal_archive(plain: bytes, passphrase: str, random_bytes: RandomBytes) -> bytes:
    """Encrypt and authenticate a whole archive under a passphrase: scrypt, AES-256-GCM."""
    salt, nonce = random_bytes(_ARCHIVE_SALT), random_bytes(_ARCHIVE_NONCE)
    cipher = AES.new(_derived(passphrase, salt, SCRYPT_COST), AES.MODE_GCM, nonce=nonce, mac_len=_ARCHIVE_TAG)
    cipher.update(_ARCHIVE)
    content, tag = cipher.encrypt_and_digest(plain)
    return _ARCHIVE + salt + nonce + content + tag


def open_archive(sealed: bytes, passphrase: str) -> bytes | None:
    """Decrypt an archive; None for another passphrase, a damaged archive, or something else."""
    rest = sealed.removeprefix(_ARCHIVE)
    if len(rest) == len(sealed) or len(rest) < _ARCHIVE_SALT + _ARCHIVE_NONCE + _ARCHIVE_TAG:
        return None
    salt, rest = rest[:_ARCHIVE_SALT], rest[_ARCHIVE_SALT:]
    nonce, content, tag = rest[:_ARCHIVE_NONCE], rest[_ARCHIVE_NONCE:-_ARCHIVE_TAG], rest[-_ARCHIVE_TAG:]
    cipher = AES.new(_derived(passphrase, salt, SCRYPT_COST), AES.MODE_GCM, nonce=nonce, mac_len=_ARCHIVE_TAG)
    cipher.update(_ARCHIVE)
    try:
        return cipher.decrypt_and_verify(content, tag)
    except ValueError:
        return None
