"""RSA and AES as every MessageU program does them; with `client.crypto.sealed_storage` the only
module of the client that imports Crypto.

Owns: the private key, the sealing of symmetric keys, the encryption of contents.
Promises: content that does not decrypt to something plausible raises `CipherError`; a stream
returns its last block only after its padding was checked. Randomness is passed in.
Exposure: decrypts what strangers sent. The published suite is not authenticated: under CBC with a
zero IV only the padding shows whether a key fits, and about one wrong key in 256 passes.

Source: docs/client-protocol.md, "Cryptography" and "Proof".
"""

import math
import unicodedata
from collections.abc import Callable
from typing import Final, NewType, Self

from Crypto.Cipher import AES, PKCS1_OAEP
from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss
from Crypto.Util.asn1 import DerSequence

from client.errors import CipherError, PassphraseWrong
from common.rsa_key_form import numbers_of_der, numbers_of_raw
from common.values import PUBLIC_KEY_SIZE, ClientId, PublicKey

RSA_BITS: Final = 1024
_LONGEST_KEY: Final = 4096
"""Bytes of DER; a private key of ours takes 640, about 1,000 when it is encrypted."""
RSA_EXPONENT: Final = 17
"""With 17 the public key's DER is exactly the 160 bytes of the protocol's field; with
65537 it would be 162.
"""
SYMMETRIC_KEY_SIZE: Final = 16
BLOCK: Final = AES.block_size
SCRYPT_COST: Final = 2**16
"""N, with r = 8 and p = 1: 64 MiB, and about 0.2 s of CPU. A start in a home with a passphrase
takes it twice: for the private key and for the store."""
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
"""The DER of scrypt's object identifier, 1.3.6.1.4.1.11591.4.11."""
_MOST_SCRYPT: Final = 2**29
"""The largest N * r * p, 2 GiB, and the key length, if it is given (32)."""
_MOST_ITERATIONS: Final = 10_000_000
_ZERO_IV: Final = bytes(BLOCK)
_PROOF: Final = b"MessageU prove 1\0"
_SALT_SIZE: Final = 32

SymmetricKey = NewType("SymmetricKey", bytes)
"""16 bytes of AES-128 key."""

RandomBytes = Callable[[int], bytes]
"""Returns that many unpredictable bytes."""


def symmetric_key(raw: bytes) -> SymmetricKey:
    """Check 16 raw bytes. Raises `CipherError` for another length."""
    if len(raw) != SYMMETRIC_KEY_SIZE:
        raise CipherError(f"a symmetric key is {SYMMETRIC_KEY_SIZE} bytes, not {len(raw)}")
    return SymmetricKey(bytes(raw))


class PrivateKey:
    """A user's RSA key pair."""

    def __init__(self, key: RSA.RsaKey) -> None:
        self._key = key

    @classmethod
    def generate(cls, random_bytes: RandomBytes) -> Self:
        """Make a new pair whose public half fits the protocol's field."""
        return cls(RSA.generate(RSA_BITS, randfunc=random_bytes, e=RSA_EXPONENT))

    @classmethod
    def from_der(cls, der: bytes, passphrase: bytes | None = None) -> Self:
        """Read a pair from PKCS#8 (or PKCS#1) DER, which `passphrase` decrypts if it is encrypted.

        Raises `CipherError` for anything that can't be a key of ours, `PassphraseWrong` for another
        passphrase.
        """
        if is_encrypted(der):
            assert passphrase is not None
            try:
                der = _import(der, passphrase).export_key(format="DER", pkcs=8)
            except CipherError as error:
                raise PassphraseWrong(
                    "That is not the passphrase of the private key, or the key is damaged; nothing was changed.",
                    "Try again.",
                ) from error
        key = _import(der)
        if not key.has_private():
            raise CipherError("there is a public key where the private key should be")
        if min(key.p, key.q) < 3 or key.e < 3 or key.e % 2 == 0:
            raise CipherError("the private key's numbers are none of RSA")
        if key.p * key.q != key.n or (key.e * key.d) % (key.p - 1) != 1 or (key.e * key.d) % (key.q - 1) != 1:
            raise CipherError("the private key's numbers do not fit each other")
        return cls(key)

    def der(self) -> bytes:
        """Write the pair as PKCS#8 DER."""
        return self._key.export_key(format="DER", pkcs=8)

    def encrypted_der(self, passphrase: bytes, random_bytes: RandomBytes) -> bytes:
        """Write the pair as encrypted PKCS#8 DER: PBES2 with scrypt and AES-256-CBC."""
        return self._key.export_key(
            format="DER",
            pkcs=8,
            passphrase=passphrase,
            protection="scryptAndAES256-CBC",
            randfunc=random_bytes,
            prot_params={"iteration_count": SCRYPT_COST, "block_size": 8, "parallelization": 1},
        )

    def public_key(self) -> PublicKey:
        """Return the public half in the protocol's form. Raises `CipherError` if it does not fit
        the field.
        """
        der = self._key.public_key().export_key(format="DER")
        if len(der) != PUBLIC_KEY_SIZE:
            raise CipherError(f"the public key takes {len(der)} bytes, and the protocol has room for {PUBLIC_KEY_SIZE}")
        return PublicKey(der)

    def open_key(self, sealed: bytes) -> SymmetricKey:
        """Decrypt the content of a type 2. Raises `CipherError`."""
        try:
            raw = PKCS1_OAEP.new(self._key, hashAlgo=SHA1).decrypt(sealed)
        except (ValueError, TypeError) as error:
            raise CipherError("the key was not sealed to this account's public key") from error
        return symmetric_key(raw)

    def prove(self, server_id: bytes, nonce: bytes, client_id: ClientId, bind: bytes) -> bytes:
        """Sign that we are `client_id` and are connected to this server: the 128 bytes of a 641.

        This key signs nothing else. Every field has a fixed size, so that no choice of values can
        give the string another meaning.
        """
        assert (len(server_id), len(nonce), len(client_id), len(bind)) == (16, 32, 16, 32)
        digest = SHA256.new(_PROOF + server_id + nonce + client_id + bind)
        return pss.new(self._key, salt_bytes=_SALT_SIZE).sign(digest)


def is_encrypted(der: bytes) -> bool:
    """Whether a private key's DER is an EncryptedPrivateKeyInfo: the algorithm as a sequence, and
    the encrypted data as octets.
    """
    try:
        found = DerSequence().decode(der)
        parts = [found[at] for at in range(len(found))]
    except (ValueError, IndexError):
        return False
    return [part[:1] if isinstance(part, bytes) else b"" for part in parts] == [b"\x30", b"\x04"]


def _costs_too_much(encrypted: bytes) -> bool:
    """Whether the parameters in an EncryptedPrivateKeyInfo would take hours or all memory: whoever
    wrote the file chose them.

    For scrypt N * r * p counts, 128 bytes each (RFC 7914), for PBKDF2 the iterations (RFC 8018).
    """
    try:
        numbers = _numbers_in(DerSequence().decode(encrypted)[0])
    except (ValueError, IndexError, TypeError, RecursionError):
        return True
    if _SCRYPT not in encrypted:
        return max(numbers, default=0) > _MOST_ITERATIONS
    return math.prod(numbers) > _MOST_SCRYPT


def _numbers_in(der: object) -> list[int]:
    if isinstance(der, int):
        return [der]
    if not isinstance(der, bytes) or der[:1] != b"\x30":
        return []
    parts = DerSequence().decode(der)
    return [number for at in range(len(parts)) for number in _numbers_in(parts[at])]


def passphrase_bytes(passphrase: str) -> bytes:
    """Return a passphrase's bytes, the same on every keyboard: NFC, UTF-8."""
    return unicodedata.normalize("NFC", passphrase).encode("utf-8", errors="surrogateescape")


def check_public_key(key: PublicKey) -> None:
    """Raise `CipherError` if a key that somebody registered can't be used for sealing."""
    _public_key(key)


def _public_key(key: PublicKey) -> RSA.RsaKey:
    """Read a key that somebody registered, in the protocol's form or another client's.
    Raises `CipherError`.
    """
    numbers = numbers_of_der(key) or numbers_of_raw(key)
    if numbers is None:
        raise CipherError(f"these bytes are no public RSA key of {RSA_BITS} bits")
    # Checked above: the library's own parser and checks never see a stranger's made-up key.
    return RSA.construct(tuple(numbers), consistency_check=False)


def seal_key(key: SymmetricKey, to: PublicKey, random_bytes: RandomBytes) -> bytes:
    """Encrypt a symmetric key under a public key: the 128 bytes of a type 2. Raises
    `CipherError`.
    """
    return PKCS1_OAEP.new(_public_key(to), hashAlgo=SHA1, randfunc=random_bytes).encrypt(key)


def _import(der: bytes, passphrase: bytes | None = None) -> RSA.RsaKey:
    """Read a private key that a file holds. Raises `CipherError`."""
    if len(der) > _LONGEST_KEY:
        # Checked before the library is called: its checks of a large key take minutes.
        raise CipherError(f"the private key takes {len(der)} bytes, more than any of {RSA_BITS} bits")
    if passphrase is not None and _costs_too_much(der):
        raise CipherError("to open it would take more time or memory than any passphrase is worth")
    try:
        key = RSA.import_key(der, passphrase=passphrase)
    except Exception as error:
        # Its parser gets what anybody wrote, and fails in more ways than it documents: primes of 0,
        # lengths beyond all memory, algorithms that it knows only in part.
        raise CipherError("these bytes are no RSA key") from error
    if key.size_in_bits() != RSA_BITS:
        raise CipherError(f"the RSA key has {key.size_in_bits()} bits, not {RSA_BITS}")
    return key


def encrypted_size(plain_size: int) -> int:
    """Return the encrypted size of that many plain bytes: padded to the next full block, always by
    one byte or more.
    """
    return (plain_size // BLOCK + 1) * BLOCK


class Encryptor:
    """Encrypts a content piece by piece."""

    def __init__(self, key: SymmetricKey) -> None:
        self._cipher = AES.new(key, AES.MODE_CBC, iv=_ZERO_IV)
        self._rest = b""

    def update(self, data: bytes) -> bytes:
        """Return the blocks that are complete so far."""
        data = self._rest + data
        whole = len(data) - len(data) % BLOCK
        self._rest = data[whole:]
        # This makes no further copy.
        return self._cipher.encrypt(memoryview(data)[:whole])

    def finish(self) -> bytes:
        """Return the last block, with its padding."""
        missing = BLOCK - len(self._rest)
        return self._cipher.encrypt(self._rest + bytes([missing]) * missing)


class Decryptor:
    """Decrypts a content piece by piece; the last block waits for `finish`, which checks
    the padding.
    """

    def __init__(self, key: SymmetricKey) -> None:
        self._cipher = AES.new(key, AES.MODE_CBC, iv=_ZERO_IV)
        self._rest = b""

    def update(self, data: bytes) -> bytes:
        """Return the blocks that can't be the last one."""
        data = self._rest + data
        whole = max(0, (len(data) - 1) // BLOCK * BLOCK)
        self._rest = data[whole:]
        return self._cipher.decrypt(memoryview(data)[:whole])

    def finish(self) -> bytes:
        """Return the last block without its padding. Raises `CipherError`: another key, or damaged
        content.
        """
        if len(self._rest) != BLOCK:
            raise CipherError("the content is not made of whole blocks")
        last = self._cipher.decrypt(self._rest)
        padding = last[-1]
        if not 1 <= padding <= BLOCK or last[-padding:] != bytes([padding]) * padding:
            raise CipherError("it was encrypted under another key, or it is damaged")
        return last[:-padding]


def encrypt(key: SymmetricKey, plain: bytes) -> bytes:
    """Encrypt content that is in memory."""
    cipher = Encryptor(key)
    return cipher.update(plain) + cipher.finish()


def decrypt(key: SymmetricKey, content: bytes) -> bytes:
    """Decrypt content that is in memory. Raises `CipherError`."""
    cipher = Decryptor(key)
    return cipher.update(content) + cipher.finish()


def decrypt_text(key: SymmetricKey, content: bytes) -> str:
    """Decrypt a text. Raises `CipherError` also if the result is not UTF-8: then the key was
    another one.
    """
    try:
        return decrypt(key, content).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CipherError("it was encrypted under another key: what comes out is no text") from error
