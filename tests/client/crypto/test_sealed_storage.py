"""Secrets sealed for one place, under a key that a passphrase wraps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client.crypto.sealed_storage import DataKey
from client.errors import CipherError

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("cheap")


def test_a_secret_opens_in_its_place_alone() -> None:
    key = DataKey.new(os.urandom)
    sealed = key.seal(b"here", b"secret")
    assert key.open(b"here", sealed) == b"secret"
    for place, data in [(b"there", sealed), (b"here", sealed[:-1]), (b"here", b""), (b"here", bytes(40))]:
        with pytest.raises(CipherError):
            key.open(place, data)
    with pytest.raises(CipherError):
        DataKey.new(os.urandom).open(b"here", sealed)


def test_an_altered_wrapped_key_opens_with_nothing() -> None:
    wrapped = DataKey.new(os.urandom).wrap("secret")
    assert DataKey.unwrap(wrapped, "secret", os.urandom) is not None
    assert DataKey.unwrap(wrapped, "Secret", os.urandom) is None
    for place in range(len(wrapped)):
        altered = bytearray(wrapped)
        # A cost that was raised is refused, or bounded, before it is paid.
        altered[place] ^= 0x80
        assert DataKey.unwrap(bytes(altered), "secret", os.urandom) is None
    assert DataKey.unwrap(wrapped[:-1], "secret", os.urandom) is None


def test_the_cost_is_what_the_documentation_says() -> None:
    source = (ROOT / "client" / "crypto" / "ciphers.py").read_text()
    assert "SCRYPT_COST: Final = 2**16" in source
    assert "N = 65536, r = 8, p = 1" in " ".join((ROOT / "docs" / "security.md").read_text().split())
