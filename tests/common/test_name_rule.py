"""Which names may be registered, and which look alike."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import name_table
from common.errors import ValueRejected
from common.name_rule import looks, registrable


@pytest.mark.parametrize(
    "name",
    [
        "alice", "a b  c", "~!", "Zoë", "Zoë Smith", "Łukasz", "Ελένη", "Юлия", "山田太郎", "山田Tarouさん", "김민준",
        "김민준Kim", "李Li", "山김", "नमस्ते", "זוי", "מ1", "محمد", "ภาษาไทย", "l·l", "Zoë7", "७ना", "O'Brien-Ñ",
    ],
)  # fmt: skip
def test_a_name_may_be(name: str) -> None:
    assert registrable(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Юлиa", "one script"), ("Ελένη Smith", "one script"), ("か김", "one script"), ("ñа", "one script"),
        ("Zoe\u0308", "normal form"), ("ｆｏｏë", "normal form"), ("😀", "symbols"), ("ë²", "normal form"),
        ("ë\u200d", "control"), ("\u0301a", "general use|mark"), ("ë  ë", "single spaces"),
        ("ë\u00a0ë", "control|normal"), ("٣a", "bidi|script"), ("७7ना", "digits of one kind"), ("ʘa", "general use"),
        ("ë·", "middle dot"), ("ы" + "\u0323\u0325\u0330\u0331\u0347", "marks|general"), ("ꙮ", "general use"),
    ],
)  # fmt: skip
def test_a_name_may_not_be(name: str, why: str) -> None:
    with pytest.raises(ValueRejected, match=why):
        registrable(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice", "ALICE"), ("alice", "a1ice"), ("alice", "aIice"), ("ivan", "IVAN"), ("IVAN", "lvan"), ("bob", "b0b"),
        ("m", "rn"), ("paypal", "раураӏ"), ("Zoë", "zOË"), ("straße", "STRASSE"), ("Ελένη", "ελένη"), ("poca", "роса"),
        ("Ångström", "a\u030angstro\u0308m"),
    ],
)  # fmt: skip
def test_names_that_look_alike(one: str, other: str) -> None:
    assert set(looks(one)) & set(looks(other))


@pytest.mark.parametrize(
    ("one", "other"), [("alice", "alíce"), ("zoe", "zoë"), ("bob", "bop"), ("user1", "user2"), ("ivan", "lvan")]
)
def test_names_that_do_not(one: str, other: str) -> None:
    assert not set(looks(one)) & set(looks(other))


@given(st.text(max_size=30))
def test_any_text_is_judged(text: str) -> None:
    assert 1 <= len(looks(text)) <= 2
    try:
        assert registrable(text) == text
    except ValueRejected as error:
        assert str(error)


def test_the_table_is_the_one_that_stores_were_made_with() -> None:
    """Another one changes looks: a step of the server's schema has to compute them anew."""
    looked_at = name_table.PROTOTYPES.encode("ascii")
    assert hashlib.sha256(looked_at).hexdigest()[:16] == "849b5f5d0507586e"
