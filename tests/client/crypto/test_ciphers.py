from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerInteger, DerSequence
from hypothesis import given
from hypothesis import strategies as st

from client.crypto import ciphers
from client.crypto.ciphers import Decryptor, Encryptor, PrivateKey, SymmetricKey
from client.errors import (
    CipherError,
    PassphraseWrong,
)
from common.values import PUBLIC_KEY_SIZE, PublicKey

if TYPE_CHECKING:
    from pathlib import Path

    from client.crypto.ciphers import PrivateKey


KEY = SymmetricKey(b"0123456789abcdef")


@pytest.mark.parametrize(
    ("plain", "content"),
    [(b"hello", "674c7ef38e78cabd9cec9c125823a639"), (b"", "377222e061a924c591cd9c27ea163ed4")],
)
def test_the_published_vectors(plain: bytes, content: str) -> None:
    assert ciphers.encrypt(KEY, plain).hex() == content
    assert ciphers.decrypt(KEY, bytes.fromhex(content)) == plain


@given(st.binary(max_size=200), st.integers(1, 40))
def test_streams_in_any_split(plain: bytes, step: int) -> None:
    encryptor, decryptor = Encryptor(KEY), Decryptor(KEY)
    content = b"".join(encryptor.update(plain[i : i + step]) for i in range(0, len(plain), step)) + encryptor.finish()
    assert content == ciphers.encrypt(KEY, plain)
    assert len(content) == ciphers.encrypted_size(len(plain))
    parts = [decryptor.update(content[i : i + step]) for i in range(0, len(content), step)]
    assert b"".join(parts) + decryptor.finish() == plain


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 15, b"x" * 17])
def test_contents_that_are_no_whole_blocks(content: bytes) -> None:
    with pytest.raises(CipherError, match="whole blocks"):
        ciphers.decrypt(KEY, content)


@pytest.mark.parametrize("last", [0, 17, 255])
def test_padding_of_an_impossible_length(last: int) -> None:
    block = bytes([last]) * 16
    raw = Encryptor(KEY).update(block)
    with pytest.raises(CipherError, match="another key"):
        ciphers.decrypt(KEY, raw)


def test_padding_that_is_not_the_same_all_over() -> None:
    with pytest.raises(CipherError):
        ciphers.decrypt(KEY, Encryptor(KEY).update(b"x" * 13 + b"\x01\x03\x03"))


def test_a_text_that_is_no_utf8_was_under_another_key() -> None:
    with pytest.raises(CipherError, match="no text"):
        ciphers.decrypt_text(KEY, ciphers.encrypt(KEY, b"\xff\xfe"))


def test_wrong_keys_hardly_ever_give_a_text() -> None:
    content = ciphers.encrypt(KEY, b"a text of more than one block of sixteen")
    texts = 0
    for number in range(2000):
        try:
            ciphers.decrypt_text(SymmetricKey(number.to_bytes(16, "big")), content)
            texts += 1
        except CipherError:
            pass
    assert texts == 0


def test_a_key_pair_as_it_travels(private_key: PrivateKey) -> None:
    assert len(private_key.public_key()) == PUBLIC_KEY_SIZE
    again = PrivateKey.from_der(private_key.der())
    assert again.public_key() == private_key.public_key()
    ciphers.check_public_key(private_key.public_key())


def test_a_symmetric_key_sealed_and_opened(private_key: PrivateKey, private_keys: list[PrivateKey]) -> None:
    sealed = ciphers.seal_key(KEY, private_key.public_key(), os.urandom)
    assert len(sealed) == 128
    assert private_key.open_key(sealed) == KEY
    with pytest.raises(CipherError, match="not sealed"):
        private_keys[1].open_key(sealed)
    with pytest.raises(CipherError):
        private_key.open_key(b"short")


def test_a_sealed_key_of_another_size_is_refused(private_key: PrivateKey) -> None:
    sealed = ciphers.seal_key(SymmetricKey(b"x" * 32), private_key.public_key(), os.urandom)
    with pytest.raises(CipherError, match="16 bytes"):
        private_key.open_key(sealed)


def test_what_is_no_private_key_of_ours(private_key: PrivateKey) -> None:
    with pytest.raises(CipherError, match="no RSA key"):
        PrivateKey.from_der(b"garbage")
    with pytest.raises(CipherError, match="public key"):
        PrivateKey.from_der(private_key.public_key())
    with pytest.raises(CipherError, match="2048 bits"):
        PrivateKey.from_der(RSA.generate(2048).export_key("DER", pkcs=8))
    one_bit_off = bytearray(private_key.der())
    one_bit_off[200] ^= 1
    with pytest.raises(CipherError):
        PrivateKey.from_der(bytes(one_bit_off))


def test_a_public_exponent_that_does_not_fit_the_field() -> None:
    key = PrivateKey.from_der(RSA.generate(1024).export_key("DER", pkcs=8))
    with pytest.raises(CipherError, match="162 bytes"):
        key.public_key()


def test_another_clients_raw_key_seals_too(private_key: PrivateKey) -> None:
    der = private_key.public_key()
    raw = PublicKey(der[29:157] + (17).to_bytes(32, "big"))
    key = SymmetricKey(b"k" * 16)
    assert private_key.open_key(ciphers.seal_key(key, raw, os.urandom)) == key


@given(st.lists(st.sampled_from([0, 1, 2, 3, 17, -1, 2**1023 + 1, 2**1023]), min_size=9, max_size=9))
def test_numbers_that_were_made_up_are_no_private_key(numbers: list[int]) -> None:
    for der in (DerSequence(numbers).encode(), DerSequence([0, *numbers[1:]]).encode()):
        with pytest.raises(CipherError):
            PrivateKey.from_der(der)
        with pytest.raises(CipherError):
            ciphers.check_public_key(PublicKey((der + bytes(160))[:160]))


def test_a_key_beyond_all_size_is_refused_unread() -> None:
    with pytest.raises(CipherError, match="more than any"):
        PrivateKey.from_der(DerSequence([0, 2**40_000 + 1, 17, 1, 1, 1, 1, 1, 1]).encode())


def test_rounds_beyond_all_patience_are_refused_unread(private_key: PrivateKey) -> None:
    key = RSA.import_key(private_key.der())
    der = key.export_key(
        "DER",
        pkcs=8,
        passphrase=b"x",
        protection="scryptAndAES256-CBC",
        prot_params={"iteration_count": 2**16, "block_size": 8, "parallelization": 1},
    )
    assert PrivateKey.from_der(der, b"x").der() == private_key.der()
    sequence = DerSequence().decode(der)
    how = sequence[0]
    scrypt_n = DerInteger(2**16).encode()
    # 2^16 takes three bytes as 2^22 does; with a block size of 127 that is 64 GiB.
    assert how.count(scrypt_n) == 1
    dear = how.replace(scrypt_n + DerInteger(8).encode(), DerInteger(2**22).encode() + DerInteger(127).encode())
    assert len(dear) == len(how)
    assert dear != how
    with pytest.raises(PassphraseWrong):
        PrivateKey.from_der(DerSequence([dear, sequence[1]]).encode(), b"x")


def test_what_is_no_public_key() -> None:
    with pytest.raises(CipherError):
        ciphers.check_public_key(PublicKey(bytes(160)))


def test_nothing_but_the_proof_is_signed(private_key: PrivateKey) -> None:
    assert [name for name in dir(private_key) if "sign" in name.lower()] == []
    for sizes in ((15, 32, 16, 32), (16, 33, 16, 32), (16, 32, 15, 32), (16, 32, 16, 0)):
        with pytest.raises(AssertionError):
            private_key.prove(*(bytes(size) for size in sizes))  # type: ignore[arg-type]


@pytest.mark.usefixtures("cheap")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_the_private_key_has_the_form_that_openssl_reads(tmp_path: Path, private_key: PrivateKey) -> None:
    """At a cost that it allows itself: it stops at 32 MiB, and ours is 64."""
    der = private_key.encrypted_der(b"secret", os.urandom)
    (tmp_path / "key").write_bytes(der)
    command = ["openssl", "pkey", "-inform", "DER", "-in", str(tmp_path / "key"), "-passin", "pass:secret"]
    done = subprocess.run([*command, "-pubout", "-outform", "DER"], capture_output=True, check=True)
    assert done.stdout == private_key.public_key()
    assert ciphers.is_encrypted(der)
    assert not ciphers.is_encrypted(private_key.der())
    assert not ciphers.is_encrypted(private_key.public_key())
