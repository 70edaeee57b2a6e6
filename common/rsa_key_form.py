"""The two forms in which a public key of the protocol travels, read without any library.

Owns: which 160 bytes are an RSA public key of 1024 bits, and what its two numbers are.
Promises: pure; looks at every byte; whatever the bytes are, the answer is two numbers in their
range, or None. Only keys that passed here are given to a cryptographic library, so its parsers
never see arbitrary bytes of strangers.
Exposure: strangers choose every byte.

Source: docs/client-protocol.md, "Cryptography"; RFC 5280, 4.1.2.7; RFC 8017, A.1.1.
"""

from typing import Final, NamedTuple

RSA_BITS: Final = 1024
_MODULUS_SIZE: Final = RSA_BITS // 8
_DER_SIZE: Final = 160
_HEAD: Final = bytes.fromhex("30819d300d06092a864886f70d010101050003818b0030818702818100")
"""DER of a SubjectPublicKeyInfo up to the modulus: rsaEncryption with NULL, a bit string without
unused bits, and in it a sequence of two integers. There is no other DER of this size for a modulus
of 1024 bits."""
_EXPONENT_HEAD: Final = b"\x02\x01"
_RAW_EXPONENT_SIZE: Final = 32
_RAW_EXPONENTS: Final = frozenset({3, 17, 65537})


class PublicNumbers(NamedTuple):
    """An RSA public key: an odd modulus of exactly 1024 bits, and an odd exponent of at least 3."""

    modulus: int
    exponent: int


def numbers_of_der(key: bytes) -> PublicNumbers | None:
    """Read 160 bytes of X.509 SubjectPublicKeyInfo; None for anything else."""
    end = len(_HEAD) + _MODULUS_SIZE
    if len(key) != _DER_SIZE or not key.startswith(_HEAD) or key[end:-1] != _EXPONENT_HEAD:
        return None
    modulus, exponent = int.from_bytes(key[len(_HEAD) : end], "big"), key[-1]
    # From 128 on the one byte would be a negative integer.
    if not 3 <= exponent < 128 or exponent % 2 == 0:
        return None
    return _numbers(modulus, exponent)


def numbers_of_raw(key: bytes) -> PublicNumbers | None:
    """Read 160 bytes of another client's form: modulus [128], exponent [32], big-endian;
    None for anything else.
    """
    if len(key) != _MODULUS_SIZE + _RAW_EXPONENT_SIZE:
        return None
    exponent = int.from_bytes(key[_MODULUS_SIZE:], "big")
    if exponent not in _RAW_EXPONENTS:
        return None
    return _numbers(int.from_bytes(key[:_MODULUS_SIZE], "big"), exponent)


def _numbers(modulus: int, exponent: int) -> PublicNumbers | None:
    if modulus.bit_length() != RSA_BITS or modulus % 2 == 0:
        return None
    return PublicNumbers(modulus, exponent)
