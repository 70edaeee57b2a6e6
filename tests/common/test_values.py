"""Values: which are accepted, and the sentences for those that are not."""

import pytest

from common.errors import ValueRejected
from common.values import client_id, client_id_from_hex, public_key, token, username


@pytest.mark.parametrize("name", ["a", "Michael Jackson", "~!@#", "x" * 254, "a  b"])
def test_good_names(name: str) -> None:
    assert username(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "at least one"),
        ("x" * 255, "at most 254"),
        ("tab\t", "printable"),
        ("nul\0", "printable"),
        ("é", "ASCII"),
        (" a", "space"),
        ("a ", "space"),
        (" ", "space"),
    ],
)
def test_bad_names_say_why(name: str, why: str) -> None:
    with pytest.raises(ValueRejected, match=why):
        username(name)


def test_ids_keys_and_tokens_have_one_length() -> None:
    assert client_id(b"i" * 16) == b"i" * 16
    assert client_id_from_hex(" 00FFaa" + "0" * 26 + "\n") == bytes.fromhex("00ffaa" + "0" * 26)
    assert public_key(b"k" * 160) == b"k" * 160
    assert token(b"t" * 16) == b"t" * 16
    for make, size in ((client_id, 16), (public_key, 160), (token, 16)):
        for wrong in (0, size - 1, size + 1):
            with pytest.raises(ValueRejected, match=str(size)):
                make(bytes(wrong))
    for text in ("", "00", "zz" * 16, "0" * 33):
        with pytest.raises(ValueRejected, match=r"32 hex|16 bytes"):
            client_id_from_hex(text)
