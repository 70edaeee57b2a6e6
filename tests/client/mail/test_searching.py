"""What counts as the same in a search of the history."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import pytest

from client.__main__ import main
from client.mail.searching import folded

if TYPE_CHECKING:
    from client.messenger import Messenger

CAFE = "caf\u00e9"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (CAFE, unicodedata.normalize("NFD", CAFE)),
        (unicodedata.normalize("NFD", CAFE), CAFE),
        ("CAF\u00c9", unicodedata.normalize("NFD", CAFE)),
        ("istanbul", "\u0130stanbul"),
        ("istanbul", "I\u0307stanbul"),
        ("\u0130stanbul", "istanbul"),
        ("\u0130STANBUL", "Istanbul"),
        ("strasse", "Stra\u00dfe"),
        ("STRASSE", "Stra\u00dfe"),
        ("office", "o\ufb03ce"),
        ("abc", "\uff21\uff22\uff23"),
        ("\u03c3\u03bf\u03c6\u03cc\u03c2", "\u03a3\u039f\u03a6\u038c\u03a3"),
        ("\uac00", "\u1100\u1161"),
        ("message", "mes\u00adsage"),
        ("\u1e9b\u0323", "\u1e69"),
    ],
)
def test_the_same(word: str, text: str) -> None:
    assert folded(word) == folded(text)


@pytest.mark.parametrize(("word", "text"), [("cafe", CAFE), ("cafe", "cafe\u0301"), ("a", "\u00e4"), ("i", "\u0131")])
def test_what_is_another_letter(word: str, text: str) -> None:
    assert folded(word) not in folded(text)


def test_folding_twice_changes_nothing() -> None:
    for code in range(0x110000):
        letter = chr(code)
        assert folded(folded(letter)) == folded(letter)


def test_the_history_is_searched_so(
    alice: Messenger, bob: Messenger, capsys: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    monkeypatch.setenv("MESSAGEU_CONFIG", "none")
    alice.agree_on_key("bob")
    for text in (f"the {unicodedata.normalize('NFD', CAFE)} at noon", "the cafe", "off to \u0130stanbul"):
        alice.home.sending.send_text("bob", text)
    alice.close()

    def found(words: str) -> int:
        assert main(["history", "--home", str(tmp_path / "alice"), "--search", words]) == 0
        return len(capsys.readouterr().out.splitlines())

    assert found(f"{CAFE} NOON") == 1
    assert found("istanbul") == 1
    assert found("cafe") == 1
    assert found("the") == 2
