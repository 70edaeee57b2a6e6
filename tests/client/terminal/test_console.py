from __future__ import annotations

import io
import os
import shlex
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.messages import Content, KeyReceived, KeyRequested, Received, SavedFile, Text, UnknownKind, Unreadable
from client.terminal.console import Console, EndOfInput
from client.terminal.sanitize import command, visible_line, visible_name, visible_text
from client.terminal.typed import is_queued
from common.values import ClientId
from torture.patience import HANG_SECONDS


def console(typed: str = "", *, terminal: bool = False) -> tuple[Console, io.StringIO]:
    sink = io.StringIO()
    return Console(io.StringIO(typed), sink, terminal=terminal), sink


def received(content: Content, name: str | None = "bob", *, late: bool = False, repeated: bool = False) -> Received:
    return Received(1, ClientId(b"\xab" * 16), name, content, 0, None, False, late, repeated)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain, żółw 🐢", "plain, żółw 🐢"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("bell\x07 del\x7f c1\x9b", "bell\\x07 del\\x7f c1\\x9b"),
        ("two\nlines\ttab\r", "two\\x0alines\\x09tab\\x0d"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth\ufeff \u2066x\u2069", "zero\\u200bwidth\\ufeff \\u2066x\\u2069"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("نمی\u200cخواهم 👩\u200d👧", "نمی\u200cخواهم 👩\u200d👧"),
        ("hard\u00a0space", "hard\u00a0space"),
    ],
)
def test_control_characters_are_visible(text: str, line: str) -> None:
    assert visible_line(text) == line


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    line = visible_line(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in line)
    assert not any(letter in line for letter in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    assert set(visible_text(text)) & set(map(chr, range(32))) <= {"\n", "\t"}


def test_a_text_keeps_its_lines_and_tabs() -> None:
    assert visible_text("one\ttab\r\ntwo\rtwo\n\x1b") == "one\ttab\ntwo\\x0dtwo\n\\x1b"


@pytest.mark.parametrize(
    "line",
    [
        "-----<EOM>-----",
        "  -----<EOM>-----  ",
        "--<eom>",
        "-\u200d----<E\u200cOM>-----",
        "From: alice",
        "from:alice",
        "\tFrom : alice".replace(" :", ":"),
        "Content:",
        ">From: alice",
        ">-----<EOM>-----",
    ],
)
def test_a_text_can_not_forge_the_frame(line: str) -> None:
    assert visible_text(f"hi\n{line}\nbye") == f"hi\n>{line}\nbye"
    assert visible_text(line) == f">{line}"


def test_what_only_speaks_of_the_frame_stays() -> None:
    text = "I come from: nowhere\nmy content: none\nthe end is -----<EOM>-----"
    assert visible_text(text) == text


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (KeyRequested(), "Request for symmetric key"),
        (KeyReceived(), "symmetric key received"),
        (Text("hello\nyou"), "hello\nyou"),
        (Text(""), ""),
        (Unreadable("no key"), "can't decrypt message"),
        (SavedFile(Path("/tmp/messageu-bob-1")), "/tmp/messageu-bob-1"),
        (UnknownKind(9), "message of an unknown type (9)"),
    ],
)
def test_the_published_form(content: Content, shown: str) -> None:
    speaking, sink = console()
    speaking.show(received(content))
    assert sink.getvalue() == f"From: bob\nContent:\n{shown}\n-----<EOM>-----\n\n"


def test_a_name_is_made_visible() -> None:
    speaking, sink = console()
    speaking.show(received(KeyReceived(), "eve\n\x1b[2J"))
    assert sink.getvalue().startswith("From: eve\\x0a\\x1b[2J\n")


def test_a_sender_without_a_name() -> None:
    speaking, sink = console()
    speaking.show(received(KeyReceived(), None))
    assert sink.getvalue().startswith("From: unknown user abababab")


def test_what_is_unusual_stands_before_the_form() -> None:
    speaking, sink = console()
    speaking.show(received(Text("x"), late=True))
    speaking.show(received(Text("y"), repeated=True))
    assert sink.getvalue() == (
        "Could not be decrypted when it came; its key is here now:\n"
        "From: bob\nContent:\nx\n-----<EOM>-----\n\n"
        "Possibly repeated:\n"
        "From: bob\nContent:\ny\n-----<EOM>-----\n\n"
    )


def test_asking_a_pipe() -> None:
    speaking, sink = console("alice\r\n  spaces  \n\nlast")
    assert speaking.ask("Name:") == "alice"
    assert speaking.ask("Text:") == "  spaces  "
    assert [speaking.choose(()) for _ in range(2)] == ["", "last"]
    with pytest.raises(EndOfInput):
        speaking.ask("More:")
    assert sink.getvalue() == "Name:\nText:\nMore:\n"


def test_a_pipe_confirms_nothing() -> None:
    speaking, sink = console("y\n")
    assert not speaking.confirm("Really?")
    assert sink.getvalue() == ""
    assert speaking.choose(()) == "y"


@pytest.mark.parametrize(("typed", "answer"), [("", True), ("y", True), (" YES ", True), ("n", False), ("what", False)])
def test_a_person_confirms(monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool) -> None:
    speaking, _ = console(terminal=True)
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    assert speaking.confirm("Really?") is answer


def test_the_end_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: str = "") -> str:
        raise EOFError

    speaking, _ = console(terminal=True)
    monkeypatch.setattr("builtins.input", end)
    with pytest.raises(EndOfInput):
        speaking.choose(())
    with pytest.raises(EndOfInput):
        speaking.ask("Name:")


@pytest.mark.parametrize(
    ("queued", "answer", "left"),
    [
        # What was pasted while the question stood: one answer, without the line end behind it.
        ([False, True, True, False], "meeting at 8\n140\nbring the plan", []),
        ([False, False], "meeting at 8", ["140", "bring the plan"]),
        # What was typed before it stood.
        ([True], "meeting at 8", ["140", "bring the plan"]),
    ],
)
def test_lines_that_come_together_are_one_answer(
    monkeypatch: pytest.MonkeyPatch, queued: list[bool], answer: str, left: list[str]
) -> None:
    lines = ["meeting at 8", "140", "bring the plan"]
    looks = iter(queued)
    monkeypatch.setattr("builtins.input", lambda _="": lines.pop(0))
    monkeypatch.setattr("client.terminal.console.is_queued", lambda *_: next(looks))
    speaking, _ = console(terminal=True)
    assert (speaking.ask("Text:"), lines, list(looks)) == (answer, left, [])


def test_a_marked_paste_is_one_answer_without_the_line_ends_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _="": "one\n\ntwo\n\n")
    assert console(terminal=True)[0].ask("Text:") == "one\n\ntwo"


@pytest.mark.parametrize(("typed", "choice"), [("150", "150"), (" 150 ", " 150 "), ("hello", "hello\n150")])
def test_answers_may_be_typed_ahead_behind_a_choice_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, typed: str, choice: str
) -> None:
    lines = [typed, "150"]
    monkeypatch.setattr("builtins.input", lambda _="": lines.pop(0))
    monkeypatch.setattr("client.terminal.console.is_queued", lambda *_: bool(lines))
    assert console(terminal=True)[0].choose({"150"}) == choice


def test_the_queue_of_a_terminal_is_looked_at_and_left_as_it_is() -> None:
    leader, follower = os.openpty()
    with os.fdopen(leader, "wb", buffering=0) as keyboard, os.fdopen(follower) as terminal:
        settings = termios.tcgetattr(follower)
        assert not is_queued(terminal, 0.0)
        keyboard.write(b"half a line")
        assert is_queued(terminal, HANG_SECONDS)
        assert termios.tcgetattr(follower) == settings
        keyboard.write(b"\n")
        assert terminal.readline() == "half a line\n"
        assert not is_queued(terminal, 0.0)
    assert not is_queued(io.StringIO("more"), 0.0)


def test_sentences_are_broken_at_words_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("client.terminal.console.columns_of", lambda _: 20)

    def reply(prompt: str = "") -> str:
        asked.append(prompt)
        return ""

    monkeypatch.setattr("builtins.input", reply)
    speaking, sink = console(terminal=True)
    speaking.say("one two three four five")
    speaking.say_name("one two three four five")
    speaking.ask("six seven eight nine ten:")
    assert sink.getvalue() == "one two three four\n    five\none two three four five\nsix seven eight nine\n"
    assert asked == ["    ten: "]
    script, printed = console("answer\n")
    script.say("one two three four five")
    script.ask("six seven eight nine ten:")
    assert printed.getvalue() == "one two three four five\nsix seven eight nine ten:\n"


@pytest.mark.parametrize(
    ("terminal", "size", "drawn"), [(True, 2_000_000, True), (True, 1000, False), (False, 2_000_000, False)]
)
def test_a_progress_bar_for_large_transfers_on_a_terminal(terminal: bool, size: int, drawn: bool) -> None:
    speaking, sink = console(terminal=terminal)
    with speaking.transfer("Sending [red]") as progress:
        progress(size // 2, size)
        progress(size, size)
    assert ("Sending [red]" in sink.getvalue()) is drawn


def test_what_is_done_at_once_needs_no_bar() -> None:
    speaking, sink = console(terminal=True)
    with speaking.transfer("Sending") as progress:
        progress(2_000_000, 2_000_000)
    assert sink.getvalue() == ""


def test_a_transfer_that_breaks_leaves_no_bar_behind() -> None:
    speaking, _ = console(terminal=True)
    with pytest.raises(KeyboardInterrupt), speaking.transfer("Sending") as progress:
        progress(1_000_000, 2_000_000)
        raise KeyboardInterrupt
    speaking.say("goes on")


@pytest.mark.parametrize(("terminal", "said"), [(True, "\nInterrupted.\n"), (False, "Interrupted.\n")])
def test_an_interrupt_is_told(terminal: bool, said: str) -> None:
    speaking, sink = console(terminal=terminal)
    speaking.interrupted()
    assert sink.getvalue() == said


@pytest.mark.parametrize(("typed", "answer"), [("", False), ("y", True), ("n", False)])
def test_a_person_is_asked_about_an_account_of_another_program(
    monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool
) -> None:
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return typed

    monkeypatch.setattr("builtins.input", reply)
    speaking, _ = console(terminal=True)
    assert speaking.may_prove(False) is answer
    assert "no longer work" in asked[0]
    assert "[y/N]" in asked[0]


def test_nobody_is_asked_about_an_account_of_this_home_or_on_a_pipe() -> None:
    assert console(terminal=True)[0].may_prove(True) is True
    assert console()[0].may_prove(True) is True
    assert console()[0].may_prove(False) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bob", "bob"),
        ("bob.o-neil_2@home", "bob.o-neil_2@home"),
        ("Michael Jackson", '"Michael Jackson"'),
        ("bob [verified]", '"bob [verified]"'),
        ("bob: pay him", '"bob: pay him"'),
        ('bob" [verified]', '"bob\\" [verified]"'),
        ("bob\\", '"bob\\\\"'),
        ("b\u043eb", '"b\u043eb"'),
        ("bob\u202e", '"bob\\u202e"'),
        ("", '""'),
    ],
)
def test_a_name_can_not_be_taken_for_another_one_with_a_mark(name: str, shown: str) -> None:
    assert visible_name(name) == shown


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("bob", "`messageu verify bob --accept-new`"),
        ("bob [verified]", "`messageu verify 'bob [verified]' --accept-new`"),
        ("$(reboot)", "`messageu verify '$(reboot)' --accept-new`"),
        ("o'neil; ls", "`messageu verify 'o'\"'\"'neil; ls' --accept-new`"),
        ("-h", "`messageu verify --accept-new -- -h`"),
    ],
)
def test_a_command_that_is_told_may_be_pasted_into_a_shell(name: str, typed: str) -> None:
    assert command("verify", name, "--accept-new") == typed
    assert shlex.split(typed.strip("`")).count(name) == 1
