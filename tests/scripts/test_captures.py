"""Captures type when they are asked to, and not a character earlier."""

from __future__ import annotations

import html
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pexpect
import pytest

from client.terminal.menu import MENU
from scripts import captures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = captures.Size(80, 30)
README = (captures.ROOT / "README.md").read_text(encoding="utf-8")


class LetterByLetter:
    """In the place of a command in a pseudo-terminal: the numbered menu, shown no faster
    than it is read.
    """

    def __init__(self, *, reads: bool) -> None:
        self.shown = ""
        self.typed: list[str] = []
        self.waited = 0.0
        self._reads = reads
        self._echoes = True
        self._to_show = self._menu()

    @staticmethod
    def _menu() -> Iterator[str]:
        return iter(MENU.replace("\n", "\r\n") + "\r\n")

    def read_nonblocking(self, _size: int, timeout: float) -> str:
        """The next letter."""
        letter = next(self._to_show, None)
        if letter is None:
            # The program reads what is typed when it has said all.
            self._echoes = not self._reads
            self.waited += timeout
            raise pexpect.TIMEOUT(f"nothing in {timeout} s")
        self.shown += letter
        return letter

    def getecho(self) -> bool:
        """Whether the terminal itself shows what is typed, because nobody reads it yet."""
        return self._echoes

    def send(self, text: str) -> None:
        """What is typed at what is shown by then; the answer to it, and the menu again."""
        assert self.shown.endswith("0) Exit client\r\n?\r\n")
        assert not self._echoes
        self.typed.append(text)
        self._to_show = iter([*self._to_show, *"120\r\nbob\r\n", *self._menu()])


def screen(monkeypatch: pytest.MonkeyPatch, folder: Path, console: LetterByLetter) -> captures.Screen:
    monkeypatch.setattr(pexpect, "spawn", lambda *_, **__: console)
    return captures.Screen(SIZE, folder, "alice")


def test_the_menu_is_typed_to_when_it_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console = LetterByLetter(reads=True)
    shown = captures.list_of_users(screen(monkeypatch, tmp_path, console)).text()
    assert console.typed == ["120\r"]
    assert [line.strip() for line in shown.splitlines()] == [
        *[line.strip() for line in MENU.splitlines()], "120", "bob", *[line.strip() for line in MENU.splitlines()],
    ]  # fmt: skip


def test_what_is_not_read_is_not_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console = LetterByLetter(reads=False)
    monkeypatch.setattr(captures, "time", SimpleNamespace(monotonic=lambda: console.waited))
    with pytest.raises(TimeoutError, match=r"nothing reads what is typed, but:\nMessageU client(.*\n)*\?"):
        captures.list_of_users(screen(monkeypatch, tmp_path, console))
    assert console.typed == []


@pytest.mark.parametrize("theme", captures.THEMES)
def test_readmes_picture_is_the_screen_of_the_page(theme: str) -> None:
    """Both come from one session, so whoever makes one anew makes the other."""
    path = captures.PAGE.with_name(f"{captures.PICTURED}-{theme}.svg")
    assert f"docs/{path.name}" in README
    picture = path.read_text(encoding="utf-8")
    title, *lines = [html.unescape(text).replace("\xa0", " ") for text in re.findall(r"<text.*?>(.*?)</text>", picture)]
    chat = captures.PAGE.read_text(encoding="utf-8").split("```\n")[1]
    assert f"$ {title}" == chat.splitlines()[0]
    assert "".join("".join(lines).split()) == "".join("".join(chat.splitlines()[1:]).split())
    # Rich's own form fetches a font from another server.
    assert "url(http" not in picture


def test_a_picture_has_the_screens_text_and_no_empty_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    menu = screen(monkeypatch, tmp_path, LetterByLetter(reads=True)).asked(captures.MENU_ASKS)
    picture = menu.picture(captures.THEMES["light"])
    rows = set(re.findall(r"<text.*? y=\"([\d.]+)\"", picture))
    assert len(rows) == menu.text().count("\n") + 1
