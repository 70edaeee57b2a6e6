"""The screen of a chat in a real terminal: one that answers queries, rewraps lines, and
has a bell.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.stories.runner import messageu
from tests.stories.tmux import Tmux
from torture.programs import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="takes tmux")

BAR = "/help  /quit or Ctrl-D"
LONG = "a text that is long enough to be broken in a window that is narrow, as windows are"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        for name in ("alice", "bob", "carol"):
            assert messageu(tmp_path, running.port, name, ["register", name]).returncode == 0
        yield running


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Tmux]:
    with Tmux(tmp_path) as one:
        yield one


def test_the_first_screen(server: Server, tmp_path: Path, window: Tmux) -> None:
    for number in range(3):
        assert messageu(tmp_path, server.port, "bob", ["send", "alice", f"text {number}"]).returncode == 0
    window.messageu(tmp_path / "alice", server.port, "chat", "bob").until("connected").until("text 2")
    shown = [line for line in window.lines if line]
    assert [line[6:] for line in shown[1:4]] == [f"bob: text {n}" for n in range(3)]
    assert shown[0] == "Chatting with bob."
    assert shown[4:] == [f" connected, suite 1{BAR:>59}", "to bob:"]
    window.presses("C-d").until("ended with 0")
    assert "^[" not in "".join(window.scrolled_by)


def test_a_window_that_becomes_narrower_and_wider(server: Server, tmp_path: Path, window: Tmux) -> None:
    for number in range(9):
        assert messageu(tmp_path, server.port, "bob", ["send", "alice", f"{number} {LONG}"]).returncode == 0
    window.messageu(tmp_path / "alice", server.port, "chat", "bob").until("connected").until(f"8 {LONG}")
    window.types("half a line", None).until("to bob: half a line")
    for columns in (50, 35, 80, 40, 120):
        window.resized(columns, 24)
        words = " connected, suite 1" if columns > 40 else " connected"

        def is_drawn(bar: str = f"{words}{BAR:>{columns - 2 - len(words)}}") -> bool:
            """One bar, one prompt, at the bottom; each text of before once. Drawing takes
            several steps.
            """
            screen = window.lines
            return (
                sum(BAR in line for line in screen) == 1
                and sum("to bob:" in line for line in screen) == 1
                and " ".join(" ".join(screen).split()).count(f"8 {LONG}") == 1
                and [line for line in screen if line][-2:] == [bar, "to bob: half a line"]
            )

        wait_until(is_drawn, f"the screen to be drawn {columns} columns wide")
    assert not any(BAR in line for line in window.scrolled_by[: -len(window.lines)])


def test_what_is_typed(server: Server, tmp_path: Path, window: Tmux) -> None:
    window.messageu(tmp_path / "alice", server.port, "chat", "bob").until("connected")
    window.types("one", None).presses("M-Enter").types("two", None).presses("C-j").types("three")
    window.until("you [stored]: one two three")
    # A wrong command does not stand before what is typed next, and comes back with the key for the
    # line before.
    window.types("/halp").until("There is no command /halp. Did you mean /help?")
    window.types("hello").until("you [stored]: hello")
    window.presses("Up", "Up").until("to bob: /halp").presses("C-c").until("Dropped.")
    # What dragging a file to the terminal gives.
    (tmp_path / "a b.txt").write_text("words")
    path = f"{tmp_path}/a b.txt"
    dragged = (f"'{path}'", f'"{path}"', path.replace(" ", "\\ "), path, f"file://{path.replace(' ', '%20')}")
    for number, typed in enumerate(dragged, start=1):
        window.types(f"/file {typed}").until("you [stored]: the file", number)
    window.presses("C-d").until("ended with 0")
    came = messageu(tmp_path, server.port, "bob", ["recv"]).stdout
    assert came.count("alice sent a file: ") == 5
    assert "alice: one\n    two\n    three\n" in came


def test_bell_and_title(server: Server, tmp_path: Path, window: Tmux) -> None:
    window.messageu(tmp_path / "alice", server.port, "chat", "bob").until("connected")
    window.until_of_pane("pane_title", "bob - MessageU").until_of_pane("window_bell_flag", "0")
    assert messageu(tmp_path, server.port, "bob", ["send", "alice", "ding"]).returncode == 0
    window.until("bob: ding").until_of_pane("pane_title", "(1) bob - MessageU").until_of_pane("window_bell_flag", "1")
    window.types("seen", None).until_of_pane("pane_title", "bob - MessageU")
    window.presses("C-c", "C-d").until("ended with 0")
    assert "MessageU" not in window.of_pane("pane_title")


def test_neither_bell_nor_title(server: Server, tmp_path: Path, window: Tmux) -> None:
    (tmp_path / "config.toml").write_text("bell = false\ntitle = false\n")
    window.messageu(tmp_path / "alice", server.port, "chat", "bob").until("connected")
    assert messageu(tmp_path, server.port, "bob", ["send", "alice", "ding"]).returncode == 0
    window.until("bob: ding").presses("C-d").until("ended with 0")
    assert window.of_pane("window_bell_flag") == "0"
    assert "MessageU" not in window.of_pane("pane_title")


def test_without_a_name(server: Server, tmp_path: Path, window: Tmux) -> None:
    window.messageu(tmp_path / "alice", server.port, "chat").until("There are no conversations yet")
    window.until("Chat with (name):").presses("C-d").until("ended with 0")
    assert messageu(tmp_path, server.port, "alice", ["send", "carol", "hi"]).returncode == 0
    for text in ("one", "two"):
        assert messageu(tmp_path, server.port, "bob", ["send", "alice", text]).returncode == 0
    window.messageu(tmp_path / "alice", server.port, "chat").until("Chat with (number or name):")
    assert window.lines[:3] == ["  1  bob (2 unread)", "  2  carol", "Chat with (number or name):"]
    window.types("1").until("Chatting with bob.").until("bob: two").presses("C-d").until("ended with 0")
    window.messageu(tmp_path / "alice", server.port, "chat").until("Chat with (number or name):")
    assert window.lines[0] == "  1  bob"
    window.types("carol").until("Chatting with carol.").presses("C-d").until("ended with 0")
    window.messageu(tmp_path / "alice", server.port, "chat").until("Chat with").types("9").until("ended with 7")
    server.end()
    window.messageu(tmp_path / "alice", server.port, "chat").until("What has arrived so far is listed.")
    window.until("Chat with (number or name):").types("2").until("Chatting with carol.")


def test_where_the_screen_goes(server: Server, tmp_path: Path, window: Tmux) -> None:
    window.messageu(tmp_path / "alice", server.port, "chat", "bob", behind="2>log").until("connected")
    window.types("hello").until("you [stored]: hello").presses("C-d").until("ended with 0")
    assert (tmp_path / "log").read_text() == ""
    window.messageu(tmp_path / "alice", server.port, "chat", "bob", behind="| tee log").until("ended with 0")
    window.until("chat needs a terminal: standard output is none here").until("`messageu history NAME`")
    assert (tmp_path / "log").read_text() == ""
    for term in ("dumb", "unknown"):
        window.messageu(tmp_path / "alice", server.port, "chat", "bob", before=f"TERM={term}").until("ended with 2")
        window.until(f"This terminal (TERM={term}) can't show the screen of a chat; use `messageu send`")
