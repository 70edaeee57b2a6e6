"""Which 160 bytes are a public key is decided before any library sees them."""

from __future__ import annotations

import random

import pytest
from Crypto.PublicKey import RSA
from hypothesis import given
from hypothesis import strategies as st

from common.rsa_key_form import PublicNumbers, numbers_of_der, numbers_of_raw

KEY = RSA.generate(1024, randfunc=random.Random(1).randbytes, e=17)
DER = KEY.public_key().export_key("DER")
NUMBERS = PublicNumbers(int(KEY.n), 17)
RAW = int(KEY.n).to_bytes(128, "big") + (17).to_bytes(32, "big")
# A PKCS#1 private key whose second prime is 0, filled up: a library that divides by it fails.
ZERO_PRIME = bytes.fromhex("30819d02010002818100") + bytes(128)


def test_the_protocols_form() -> None:
    assert len(DER) == 160
    assert numbers_of_der(DER) == NUMBERS
    assert numbers_of_raw(DER) is None


@pytest.mark.parametrize("exponent", [3, 17, 127])
def test_every_exponent_that_fits(exponent: int) -> None:
    assert numbers_of_der(DER[:-1] + bytes([exponent])) == PublicNumbers(NUMBERS.modulus, exponent)


@pytest.mark.parametrize("exponent", [0, 1, 2, 16, 128, 129, 255])
def test_no_other_exponent(exponent: int) -> None:
    assert numbers_of_der(DER[:-1] + bytes([exponent])) is None


def test_an_even_or_short_modulus_is_none() -> None:
    at = 29
    assert numbers_of_der(DER[: at + 127] + bytes([DER[at + 127] & 0xFE]) + DER[at + 128 :]) is None
    assert numbers_of_der(DER[:at] + bytes([DER[at] & 0x7F]) + DER[at + 1 :]) is None


@pytest.mark.parametrize("at", range(29))
def test_every_byte_of_the_framing_counts(at: int) -> None:
    assert numbers_of_der(DER[:at] + bytes([DER[at] ^ 1]) + DER[at + 1 :]) is None


@pytest.mark.parametrize("key", [b"", bytes(160), b"\xff" * 160, DER[:-1], DER + b"\0", ZERO_PRIME, RAW])
def test_what_is_no_key(key: bytes) -> None:
    assert numbers_of_der(key) is None


@pytest.mark.parametrize("exponent", [3, 17, 65537])
def test_another_clients_raw_form(exponent: int) -> None:
    raw = RAW[:128] + exponent.to_bytes(32, "big")
    assert numbers_of_raw(raw) == PublicNumbers(NUMBERS.modulus, exponent)
    assert numbers_of_raw(raw + b"\0") is None
    assert numbers_of_raw(b"\x7f" + raw[1:]) is None
    assert numbers_of_raw(raw[:127] + bytes([raw[127] & 0xFE]) + raw[128:]) is None


@pytest.mark.parametrize("exponent", [0, 1, 2, 5, 65536, 2**255])
def test_no_other_exponent_in_the_raw_form(exponent: int) -> None:
    assert numbers_of_raw(RAW[:128] + exponent.to_bytes(32, "big")) is None


@given(st.binary(min_size=160, max_size=160))
def test_anything_gives_numbers_in_range_or_none(key: bytes) -> None:
    for found in (numbers_of_der(key), numbers_of_raw(key), numbers_of_der(DER[:29] + key[:128] + DER[157:])):
        if found is not None:
            assert found.modulus.bit_length() == 1024
            assert found.modulus % 2 == found.exponent % 2 == 1
            assert found.exponent >= 3
