"""The numbered console at a terminal: what a person types, pastes, and leaves unanswered."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from client.terminal.menu import MENU
from tests.stories.runner import messageu
from tests.stories.terminals import CTRL_D, Terminal
from tests.stories.tmux import Tmux
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASTED = "meeting at 8\n140\nbring the plan"
IN_TMUX = pytest.mark.skipif(shutil.which("tmux") is None, reason="takes tmux")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        for name in ("alice", "bob"):
            assert messageu(tmp_path, running.port, name, ["register", name]).returncode == 0
        assert messageu(tmp_path, running.port, "alice", ["send", "bob", "first"]).returncode == 0
        # A fetch would show this.
        assert messageu(tmp_path, running.port, "bob", ["send", "alice", "not asked for"]).returncode == 0
        yield running


def texts_of(folder: Path, server: Server) -> list[str]:
    """What came for bob."""
    printed = messageu(folder, server.port, "bob", ["recv"]).stdout
    return [text.replace("\n    ", "\n") for text in re.findall(r"alice: ((?:.*)(?:\n    .*)*)", printed)]


@IN_TMUX
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("end", ["", "\n"])
def test_what_is_pasted_at_a_question_is_one_answer(server: Server, tmp_path: Path, marked: bool, end: str) -> None:
    with Tmux(tmp_path, rows=60) as window:
        window.messageu(tmp_path / "alice", server.port).until("0) Exit client")
        window.types("150").until("User name:").types("bob").until("Text:").pastes(PASTED + end, marked=marked)
        window.until("bring the plan")
        if marked or not end:
            window.presses("Enter")
        window.until("Sent to bob.").until("0) Exit client", 2)
        assert sum(line.startswith("110)") for line in window.lines) == 2
        # At the menu, and at a question whose answer has one line.
        window.pastes(PASTED + end, marked=marked).until("bring the plan", 2)
        if marked or not end:
            window.presses("Enter")
        window.until("There is no choice meeting at 8\\x0a140\\x0abring the plan.").until("0) Exit client", 3)
        window.types("130").until("User name:", 2).pastes(PASTED + end, marked=marked)
        if marked or not end:
            window.until("bring the plan", 4).presses("Enter")
        window.until("The server knows nobody of that name.").until("0) Exit client", 4)
        window.types("0").until("ended with 0")
        assert "not asked for" not in "".join(window.scrolled_by)
        assert "~" not in "".join(window.scrolled_by)
    assert texts_of(tmp_path, server) == ["first", PASTED]


@pytest.mark.parametrize("marked", [True, False])
def test_what_is_pasted_at_a_terminal_that_answers_nothing(server: Server, tmp_path: Path, marked: bool) -> None:
    with Terminal(tmp_path / "alice", server.port) as terminal:
        terminal.until("0) Exit client").types("150").until("User name:").types("bob").until("Text:")
        pasted = PASTED.replace("\n", "\r")
        terminal.types(f"\x1b[200~{pasted}\x1b[201~" if marked else pasted)
        terminal.until("Sent to bob.").until("0) Exit client", 2).types("0")
        assert terminal.ends() == 0
    assert texts_of(tmp_path, server) == ["first", PASTED]


def test_answers_that_are_typed_ahead_are_one_each(server: Server, tmp_path: Path) -> None:
    with Terminal(tmp_path / "alice", server.port) as terminal:
        terminal.until("0) Exit client").types("150\rbob\rhello\r150\rbob\rhello again")
        terminal.until("Sent to bob.", 2).until("0) Exit client", 3).types("0")
        assert terminal.ends() == 0
    assert texts_of(tmp_path, server) == ["first", "hello", "hello again"]


def test_a_question_that_is_not_answered_is_the_menu_again(server: Server, tmp_path: Path) -> None:
    with Terminal(tmp_path / "alice", server.port, rows=150) as terminal:
        one_question = [(choice, "") for choice in ("110", "130", "151", "152", "150")]
        for number, (choice, second) in enumerate([*one_question, ("150", "Text:"), ("153", "Path")], start=1):
            terminal.until("0) Exit client", number).types(choice).until("User name:", number)
            if second:
                terminal.types("bob").until(second)
            terminal.types(CTRL_D, end="")
        terminal.until("0) Exit client", 8).types(CTRL_D, end="")
        assert terminal.ends() == 0
    assert texts_of(tmp_path, server) == ["first"]


def test_nobody_and_nothing_are_told_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    with Terminal(tmp_path / "alice", server.port) as terminal:
        terminal.until("0) Exit client").types("150").until("User name:").types("bbo")
        terminal.until("The server knows nobody of that name.").until("Did you mean bob?").until("0) Exit client", 2)
        terminal.types("150").until("User name:", 2).types("bob").until("Text:").types("")
        terminal.until("The text is empty; nothing is sent.").until("0) Exit client", 3).types("0")
        assert terminal.ends() == 0
        assert str(terminal).count("Text:") == 1
    assert texts_of(tmp_path, server) == ["first"]


def test_a_pipe_gives_a_line_for_each_question_whatever_happens(server: Server, tmp_path: Path) -> None:
    done = messageu(
        tmp_path, server.port, "alice", ["console"], "150\nbbo\nnot sent\n150\nbob\nmeeting at 8\n150\nbob\n\n120\n0\n"
    )
    unknown = "The server knows nobody of that name.\nDid you mean bob?\n"
    asked = "User name:\nText:\n"
    assert done.stdout.split(f"{MENU}\n") == [
        "", f"{asked}{unknown}", f"{asked}Sent to bob.\n", f"{asked}The text is empty; nothing is sent.\n", "bob\n", ""
    ]  # fmt: skip
    assert texts_of(tmp_path, server) == ["first", "meeting at 8"]


def test_sentences_are_broken_at_words(server: Server, tmp_path: Path) -> None:
    with Terminal(tmp_path / "carol", server.port, columns=40) as terminal:
        terminal.until("0) Exit client").types("110").until("User name:").types("carol").until("0) Exit client", 2)
        shown = terminal.lines[terminal.lines.index("User name: carol") + 1 :]
        said = [line for line in shown[: shown.index("Registered as carol.")] if line]
        assert len(said) > 2
        assert all(line.startswith("    ") for line in said[1:])
        # Each word of the sentence stands whole on one line.
        assert "for it (--published-only prevents that)." in " ".join(" ".join(said).split())
        terminal.types("0")
        assert terminal.ends() == 0
