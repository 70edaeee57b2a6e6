"""Names beyond ASCII: their form, and their ASCII form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ValueRejected
from common.names import any_username, ascii_form, from_ascii_form, normal_form
from common.values import Username, username


@pytest.mark.parametrize("name", ["alice", "Zoë", "山田太郎", "Zoë Smith", "ë" * 30])
def test_a_name(name: str) -> None:
    assert any_username(name) == name
    assert from_ascii_form(ascii_form(Username(name))) == (None if name.isascii() else name)
    assert username(ascii_form(Username(name)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "at least one"), (" ë", "neither begins"), ("ë ", "neither begins"), ("ë" * 128, "254 bytes"),
        ("Zoe\u0308", "normal form"), ("ｆｏｏ", "normal form"), ("ë\n", "control"), ("ë\u202e", "control"),
        ("ë\u200b", "control"), ("a\udce9", "bytes"), ("\u0378", "unassigned"), ("名\U000e0041", "control"),
        ("a" * 252 + "ë", "ASCII form"), ("al\nice", "no control"), ("a\x1b[31mb", "no control"),
    ],
)  # fmt: skip
def test_no_name(name: str, why: str) -> None:
    with pytest.raises(ValueRejected, match=why):
        any_username(name)


@pytest.mark.parametrize(("typed", "name"), [("Zoe\u0308", "Zoë"), ("ｆｏｏ", "foo"), ("alice", "alice")])
def test_what_is_typed_need_not_be_normal(typed: str, name: str) -> None:
    assert normal_form(typed) == name


def test_ascii_forms_are_those_of_punycode() -> None:
    assert ascii_form(Username("bücher")) == "xn--bcher-kva"
    assert ascii_form(Username("他们为什么不说中文")) == "xn--ihqwcrb4cv8a8dqg056pqjye"


@pytest.mark.parametrize(
    "text", ["", "alice", "xn--", "xn--alice", "xn--alice-", "xn--99999999", "xn--ë", "xn--zoe-8", "XN--zo-jia"]
)
def test_what_is_nobodys_ascii_form(text: str) -> None:
    assert from_ascii_form(text) is None


@given(st.text(max_size=40))
def test_no_two_names_have_one_ascii_form(text: str) -> None:
    try:
        name = any_username(text)
    except ValueRejected:
        return
    assert from_ascii_form(ascii_form(name)) == (None if name.isascii() else name)


@given(st.text(alphabet="xn-abz059 Z", max_size=20))
def test_any_ascii_is_looked_at(text: str) -> None:
    name = from_ascii_form("xn--" + text)
    assert name is None or ascii_form(name) == "xn--" + text
