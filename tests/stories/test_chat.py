"""`chat` in pseudo-terminals: two people talk, the server goes and comes back, another
process receives.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from tests.stories.runner import messageu, receives
from tests.stories.terminals import CTRL_C, CTRL_D, Terminal
from tests.stories.test_watch import watching
from torture.programs import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running.start()


def register(folder: Path, server: Server, *names: str) -> None:
    for name in names:
        assert messageu(folder, server.port, name, ["register", name]).returncode == 0


def test_a_chat_with_oneself_shows_a_note_once(server: Server, tmp_path: Path) -> None:
    register(tmp_path, server, "alice")
    with Terminal(tmp_path / "alice", server.port, "chat", "alice", columns=80) as alice:
        alice.until("/quit or Ctrl-D")
        alice.types("buy milk").until(" you [stored]: buy milk")
        # Another process of the same home.
        assert messageu(tmp_path, server.port, "alice", ["send", "alice", "buy bread"]).returncode == 0
        alice.types("buy tea").until(" you [stored]: buy tea")
        assert alice.types("/quit").ends() == 0
        screen = "\n".join(alice.lines)
    assert "alice: buy milk" not in screen
    assert "sent a symmetric key" not in screen
    history = messageu(tmp_path, server.port, "alice", ["history"]).stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in history] == ["buy milk", "buy bread", "buy tea"]


@pytest.mark.slow
def test_two_people_chat(server: Server, tmp_path: Path) -> None:
    register(tmp_path, server, "alice", "bob", "carol")
    (tmp_path / "photo.bin").write_bytes(bytes(2_000_000))
    with (
        Terminal(tmp_path / "alice", server.port, "chat", "bob", columns=80) as alice,
        Terminal(tmp_path / "bob", server.port, "chat", "alice", columns=120) as bob,
    ):
        for one in (alice, bob):
            # The way out is on the screen.
            one.until("to ")
            one.until("/quit or Ctrl-D")
        # What is being typed stays.
        bob.types("half a line", end="")
        alice.types("hello bob").until(" you [stored]: hello bob")
        bob.until(" alice: hello bob")
        bob.types(", and the rest").until(" you [stored]: half a line, and the rest")
        alice.until(" bob: half a line, and the rest")
        # Files by path.
        alice.types("/file missing.bin").until(f"There is no file {tmp_path}/missing.bin.")
        alice.types(CTRL_C, end="").until("Dropped.")
        alice.types("/file ~no such user/photo.bin").until("There is no file ~no such user/photo.bin: ")
        alice.types(CTRL_C, end="").until("Dropped.", 2)
        alice.types("/file photo.bin").until(f" you [stored]: the file {tmp_path}/photo.bin")
        bob.until(f" alice sent a file: {tmp_path}/bob/received/photo.bin")
        # What others wrote can't move the cursor, nor who they are be mistaken.
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "\x1b[2J\u202e!"]).returncode == 0
        bob.until(" alice: \\x1b[2J\\u202e!")
        assert messageu(tmp_path, server.port, "carol", ["send", "bob", "psst"]).returncode == 0
        bob.until(" carol (not in this chat): psst")
        # Commands.
        alice.types("/help").until("/quit        leave; Ctrl-D does the same")
        alice.types("/halp").until("There is no command /halp. Did you mean /help?")
        alice.types("/nonsense").until("There is no command /nonsense. /help shows them all.")
        alice.types("//slash").until(" you [stored]: /slash")
        alice.types("/quit")
        assert alice.ends() == 0
        # Without a server what is sent is kept, also when one leaves with Ctrl-C.
        server.end()
        bob.until("There is no server at")
        bob.types("written offline").until(" you [waiting]: written offline")
        bob.types(CTRL_C, end="")
        assert bob.ends() == 130
        bob.until("One message is not stored by the server yet; pending messages are kept")
    assert "[waiting, suite 1]: written offline" in messageu(tmp_path, server.port, "bob", ["history"]).stdout
    with Terminal(tmp_path / "bob", server.port, "chat", "alice") as bob:
        # What was said before, and what waits; then the server comes back.
        bob.until(" alice: hello bob")
        bob.until(" you [waiting]: written offline")
        bob.until("no server; trying again")
        server.start()
        bob.until(" you [stored]: written offline")
        bob.types(CTRL_D, end="")
        assert bob.ends() == 0
    assert messageu(tmp_path, server.port, "alice", ["recv"]).stdout.endswith(" bob: written offline\n")


def test_a_chat_beside_another_process_that_receives(server: Server, tmp_path: Path) -> None:
    register(tmp_path, server, "alice", "bob")
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(watching(tmp_path / "bob"))
        wait_until(lambda: receives(tmp_path / "bob"), "watch to receive")
        bob = stack.enter_context(Terminal(tmp_path / "bob", server.port, "chat", "alice"))
        bob.until("another process of this home receives")
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "to both"]).returncode == 0
        bob.until(" alice: to both")
        assert watch.stdout is not None
        assert watch.stdout.readline().endswith(" alice: to both\n")
        # It takes over.
        watch.kill()
        bob.until("connected")
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "to one"]).returncode == 0
        bob.until(" alice: to one")


def test_an_account_of_the_published_protocol_chats_too(server: Server, tmp_path: Path) -> None:
    register(tmp_path, server, "bob")
    assert messageu(tmp_path, server.port, "alice", ["register", "alice", "--published-only"]).returncode == 0
    with Terminal(tmp_path / "alice", server.port, "chat", "bob") as alice:
        alice.until("connected")
        alice.types("hello").until(" you [stored]: hello")
        assert messageu(tmp_path, server.port, "bob", ["recv"]).stdout.count("alice [unproven]") == 2
        assert messageu(tmp_path, server.port, "bob", ["send", "alice", "hi"]).returncode == 0
        alice.until(" bob [unproven]: hi")
        (tmp_path / "notes.txt").write_text("notes")
        alice.types("/file notes.txt").until(f" you [stored]: the file {tmp_path}/notes.txt")
        server.end()
        alice.types("into the void").until(" you [not sent: ")
        alice.types(CTRL_D, end="")
        assert alice.ends() == 0


def test_who_is_told_to_end_leaves_the_terminal_as_it_was(server: Server, tmp_path: Path) -> None:
    register(tmp_path, server, "alice", "bob")
    for number in (signal.SIGTERM, signal.SIGHUP):
        with Terminal(tmp_path / "alice", server.port, "chat", "bob") as alice:
            alice.until("connected").gets(number)
            assert alice.ended_by() == number


def test_a_home_with_a_passphrase(server: Server, tmp_path: Path) -> None:
    """It is asked once, before the chat begins."""
    register(tmp_path, server, "alice", "bob")
    (tmp_path / "pass").write_text("correct horse")
    sealed = messageu(tmp_path, server.port, "bob", ["passphrase", "set", "--new-passphrase-file", f"{tmp_path}/pass"])
    assert sealed.returncode == 0
    with Terminal(tmp_path / "bob", server.port, "chat", "alice") as bob:
        bob.until("assphrase").types("correct horse").until("connected")
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "hi"]).returncode == 0
        bob.until(" alice: hi").types("hello").until(" you [stored]: hello")


def test_what_a_chat_needs(server: Server, tmp_path: Path) -> None:
    register(tmp_path, server, "alice", "bob")
    piped = messageu(tmp_path, server.port, "alice", ["chat", "bob"])
    assert (piped.returncode, piped.stdout) == (2, "")
    assert "chat needs a terminal" in piped.stderr
    for words, code, sentence in (
        (["chat", "bbo"], 7, "Did you mean bob?"),
        (["--home", str(tmp_path / "nobody"), "chat", "bob"], 8, "There is no home "),
    ):
        with Terminal(tmp_path / "alice", server.port, *words) as alice:
            assert alice.ends() == code
            alice.until(sentence)
    server.end()
    with Terminal(tmp_path / "alice", server.port, "chat", "bob") as alice:
        # Never met: that takes a server.
        assert alice.ends() == 3
        alice.until("There is no server at")


@pytest.mark.slow
def test_a_server_that_comes_late(server: Server, tmp_path: Path) -> None:
    """Who was met before can be written to without a server, a first key included."""
    register(tmp_path, server, "alice", "bob")
    assert messageu(tmp_path, server.port, "alice", ["key", "bob"]).returncode == 0
    server.end()
    with Terminal(tmp_path / "alice", server.port, "chat", "bob", columns=200) as alice:
        alice.types("kept").until(" you [waiting]: kept")
        (tmp_path / "notes.txt").write_text("notes")
        alice.types("/file notes.txt").until(f" you [waiting]: the file {tmp_path}/notes.txt")
        server.start()
        alice.until(f" you [stored]: the file {tmp_path}/notes.txt")
    text, file = messageu(tmp_path, server.port, "bob", ["recv"]).stdout.splitlines()
    assert text.endswith(" alice: kept")
    assert f" alice sent a file: {tmp_path}/bob/received/" in file
