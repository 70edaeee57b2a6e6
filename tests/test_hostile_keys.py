"""Keys that strangers made up, in the gateway's proof and in the client's ciphers: an
answer, never an exception.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerBitString, DerInteger, DerNull, DerObjectId, DerOctetString, DerSequence
from hypothesis import given
from hypothesis import strategies as st

from client.crypto.ciphers import PrivateKey, SymmetricKey, check_public_key, seal_key
from client.errors import CipherError
from client.identity.identity_files import load
from common.errors import MessageUError
from common.values import PublicKey
from gateway.authentication import signature_is_valid

if TYPE_CHECKING:
    from pathlib import Path

KEY = RSA.generate(1024, randfunc=random.Random(7).randbytes, e=17)
PUBLIC = KEY.public_key().export_key("DER")
PRIVATE = KEY.export_key("DER", pkcs=8)
OLD_PRIVATE = KEY.export_key("DER", pkcs=1)
MODULUS = int(KEY.n)
# The DER of `0, n, 17, 5, 7, 0, 1, 1, 1`: a PKCS#1 private key with a prime of 0, filled up to the
# field.
ZERO_PRIME = DerSequence([0, MODULUS, 17, 5, 7, 0, 1, 1, 1]).encode()[:160].ljust(160, b"\0")
CHANGES = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=6)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 17, -1, -17, MODULUS, -MODULUS, int(KEY.p), int(KEY.q), int(KEY.d), 2**1023, 2**1024]),
    st.integers(-(2**40), 2**1030),
)


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    out = bytearray(data)
    for at, value in changes:
        out[at % len(out)] = value
    return bytes(out)


def filled(der: bytes) -> bytes:
    return der[:160].ljust(160, b"\0")


def integers(numbers: list[int]) -> bytes:
    return DerSequence([DerInteger(number).encode() for number in numbers]).encode()


def public_info(numbers: list[int]) -> bytes:
    algorithm = DerSequence([DerObjectId("1.2.840.113549.1.1.1"), DerNull()])
    return DerSequence([algorithm, DerBitString(integers(numbers))]).encode()


def private_info(numbers: list[int]) -> bytes:
    algorithm = DerSequence([DerObjectId("1.2.840.113549.1.1.1"), DerNull()])
    return DerSequence([0, algorithm, DerOctetString(integers(numbers))]).encode()


def framed(modulus: bytes, exponent: int) -> bytes:
    return PUBLIC[:29] + modulus + PUBLIC[157:159] + bytes([exponent])


public_keys = st.one_of(
    st.just(ZERO_PRIME),
    st.binary(min_size=160, max_size=160),
    st.builds(changed, st.sampled_from([PUBLIC, ZERO_PRIME, filled(PRIVATE), filled(OLD_PRIVATE)]), CHANGES),
    st.builds(filled, st.builds(integers, st.lists(NUMBERS, max_size=9))),
    st.builds(filled, st.builds(public_info, st.lists(NUMBERS, max_size=3))),
    st.builds(filled, st.builds(private_info, st.lists(NUMBERS, max_size=9))),
    st.builds(framed, st.binary(min_size=128, max_size=128), st.integers(0, 255)),
    st.sampled_from([framed(b"\xff" * 128, 3), framed(b"\x80" + bytes(126) + b"\x01", 127), framed(bytes(128), 17)]),
)
signatures = st.one_of(st.binary(min_size=128, max_size=128), st.sampled_from([bytes(128), b"\xff" * 128]))
private_ders = st.one_of(
    st.binary(max_size=700),
    st.builds(changed, st.sampled_from([PRIVATE, OLD_PRIVATE, PUBLIC, ZERO_PRIME]), CHANGES),
    st.builds(lambda der, end: der[: end % len(der)], st.sampled_from([PRIVATE, OLD_PRIVATE]), st.integers(0, 700)),
    st.builds(integers, st.lists(NUMBERS, max_size=10)),
    st.builds(private_info, st.lists(NUMBERS, max_size=10)),
)


@given(public_keys, signatures)
def test_no_proof_under_a_made_up_key(key: bytes, signature: bytes) -> None:
    assert not signature_is_valid(key, signature, b"what is to be signed")


@given(public_keys)
def test_a_key_is_sealed_to_or_named_unusable(key: bytes) -> None:
    public = PublicKey(key)
    try:
        check_public_key(public)
    except CipherError:
        with pytest.raises(CipherError):
            seal_key(SymmetricKey(bytes(16)), public, random.Random(1).randbytes)
    else:
        assert len(seal_key(SymmetricKey(bytes(16)), public, random.Random(1).randbytes)) == 128


@given(private_ders)
def test_a_private_key_is_ours_or_named_unusable(der: bytes) -> None:
    with suppress(CipherError):
        # A key that passes has numbers that fit each other, and works.
        key = PrivateKey.from_der(der, b"passphrase")
        assert len(key.prove(bytes(16), bytes(32), b"c" * 16, bytes(32))) == 128  # type: ignore[arg-type]


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_an_identity_file_of_any_bytes_is_read_or_named_unusable(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    home: Path = tmp_path_factory.mktemp("home")
    (home / "my.info").write_bytes(b"bob\n" + b"0" * 31 + b"1\n" + data)
    with suppress(MessageUError):
        load(home)
