"""Ctrl-C wherever a command waits: for a person, for the server, for another program.

Each ends with 130, the terminal as it was (`Terminal.ends` looks), and nothing lost. What an
interrupt leaves behind at every step of sending and receiving is in
tests/client/test_interrupts.py.
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from client.messenger import Messenger
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ResponseCode
from common.client_protocol.versions import Feature
from common.server_address import ServerAddress
from common.values import MessageKind
from tests.stories.lying_server import Middleman
from tests.stories.runner import messageu, receives
from tests.stories.terminals import CTRL_C, Terminal
from torture.programs import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSPHRASE = "correct horse"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        for name in ("alice", "bob"):
            home = tmp_path / name
            with Messenger.open(home, ServerAddress("127.0.0.1", running.port)) as messenger:
                messenger.register(name)
        yield running


@pytest.fixture
def way(server: Server) -> Iterator[Middleman]:
    """The way to the server, on which answers can be withheld."""
    with Middleman(server.port) as middleman:
        yield middleman


def interrupted(
    home: Path, port: int, *words: str, shown: str = "", typed: str | None = None, when: Callable[[], object] = bool
) -> Terminal:
    """A command that gets Ctrl-C once `shown` is on its screen, or once `when` holds.

    With `typed`, that was typed before. Gives its terminal, for what else was to be seen.
    """
    with Terminal(home, port, *words) as terminal:
        if typed is not None:
            terminal.until("assphrase").types(typed)
        if shown:
            terminal.until(shown).waits()
        else:
            wait_until(when, "the moment of Ctrl-C")
        terminal.types(CTRL_C, end="")
        assert terminal.ends() == 130, words
        return terminal.until("Interrupted.")


def test_at_a_question(server: Server, tmp_path: Path) -> None:
    alice, port = tmp_path / "alice", server.port
    interrupted(alice, port, "send", "bob", shown="Enter the text, then Ctrl-D:")
    interrupted(alice, port, "verify", "bob", shown="Does bob see the same number?")
    assert json.loads(messageu(tmp_path, port, "alice", ["verify", "bob", "--json"]).stdout)["state"] == "known"
    interrupted(alice, port, "console", shown="0) Exit client")
    with Terminal(alice, port, "console") as terminal:
        # In the midst of a choice it is the menu again.
        terminal.types("150").until("User name:").waits().types(CTRL_C, end="").until("Interrupted.")
        terminal.until("0) Exit client", 2).types("150\rbob").until("Text:")
        terminal.waits().types(CTRL_C, end="").until("Interrupted.", 2)
        terminal.until("0) Exit client", 3).types("0")
        assert terminal.ends() == 0
    assert messageu(tmp_path, port, "bob", ["recv"]).stdout == ""


def test_at_the_question_whether_a_key_is_sent(server: Server, tmp_path: Path) -> None:
    """Of the published suite: the request is in the history, and a text answers it all the same."""
    port, asks = server.port, "dora [unproven] asks for a symmetric key"
    for name in ("dora", "emil"):
        assert messageu(tmp_path, port, name, ["register", name, "--published-only"]).returncode == 0
    for words in (["recv"], ["watch"]):
        assert "is asked" in messageu(tmp_path, port, "dora", ["console"], "151\nemil\n").stdout
        interrupted(tmp_path / "emil", port, *words, shown=f"{asks}. Make one and send it? [y/N]")
    # Watch has not handed it out yet.
    interrupted(tmp_path / "emil", port, "watch", shown=f" {asks}")
    assert messageu(tmp_path, port, "emil", ["history"]).stdout.count(asks) == 2
    assert messageu(tmp_path, port, "dora", ["recv"]).stdout == ""
    assert messageu(tmp_path, port, "emil", ["send", "dora", "here I am"]).returncode == 0
    assert messageu(tmp_path, port, "dora", ["recv"]).stdout.endswith(" emil [unproven]: here I am\n")


def test_at_the_question_whether_an_account_is_proven(server: Server, tmp_path: Path) -> None:
    """An account of another program: nothing is proven, nothing is remembered, the
    question comes again.
    """
    port, brought = server.port, tmp_path / "brought"
    assert messageu(tmp_path, port, "carol", ["register", "carol", "--published-only"]).returncode == 0
    brought.mkdir()
    for name in ("my.info", "me.info"):
        (brought / name).write_bytes((tmp_path / "carol" / name).read_bytes())
    interrupted(brought, port, "users", shown="Do that? [y/N]")
    with Terminal(brought, port, "console") as terminal:
        terminal.types("120").until("Do that? [y/N]").waits().types(CTRL_C, end="").until("Interrupted.")
        terminal.until("0) Exit client", 2).types("0")
        assert terminal.ends() == 0
    with Terminal(brought, port, "users") as terminal:
        terminal.until("Do that? [y/N]").types("n").until("alice")
        assert terminal.ends() == 0
    assert '"proven": false' in messageu(tmp_path, port, "brought", ["whoami", "--json"]).stdout


def test_at_a_passphrase(server: Server, tmp_path: Path) -> None:
    alice, port = tmp_path / "alice", server.port
    backup, new = tmp_path / "backup", tmp_path / "new"
    interrupted(alice, port, "export", str(backup), shown="Passphrase for the file:")
    interrupted(alice, port, "export", str(backup), typed=PASSPHRASE, shown="The same again:")
    assert not backup.exists()
    (tmp_path / "pass").write_text(PASSPHRASE)
    given = ["--passphrase-file", str(tmp_path / "pass")]
    assert messageu(tmp_path, port, "alice", ["export", str(backup), *given]).returncode == 0
    interrupted(new, port, "import", str(backup), shown="Passphrase of the file:")
    assert not new.exists()

    interrupted(alice, port, "passphrase", "set", typed=PASSPHRASE, shown="The same again:")
    assert messageu(tmp_path, port, "alice", ["history"]).returncode == 0
    assert messageu(tmp_path, port, "alice", ["passphrase", "set", "--new-passphrase-file", given[1]]).returncode == 0
    asked = f"Passphrase of {alice}:"
    for words in (["history"], ["passphrase", "remove"], ["console"]):
        interrupted(alice, port, *words, shown=asked)
    interrupted(alice, port, "passphrase", "change", typed=PASSPHRASE, shown="New passphrase of")
    # A program that gives it, and takes its time.
    slow = f"sh -c 'touch {tmp_path}/asked; exec sleep 60'"
    interrupted(alice, port, "history", "--passphrase-command", slow, when=(tmp_path / "asked").exists)
    assert messageu(tmp_path, port, "alice", ["history", *given]).returncode == 0


def waiting_in_vain(
    way: Middleman, tmp_path: Path, answer: ResponseCode, request: RequestCode, user: str, *words: str
) -> Terminal:
    """A command that gets Ctrl-C while it waits for an answer that is withheld."""
    way.heard.clear()
    way.withholds = {answer}
    terminal = interrupted(tmp_path / user, way.port, *words, when=lambda: request in way.heard)
    way.withholds = set()
    return terminal


def test_while_the_server_is_silent_and_has_the_modern_suite(way: Middleman, tmp_path: Path) -> None:
    way.hides = Feature(0)
    silent = functools.partial(waiting_in_vain, way, tmp_path)
    # Before it is known under which suite, nothing is kept.
    claim = (ResponseCode.KEY_CLAIMED, RequestCode.CLAIM_KEY, "alice", "send", "bob")
    assert "kept" not in str(silent(*claim, "zero"))
    send = (ResponseCode.STORED, RequestCode.SEND_ONCE, "alice", "send", "bob")
    silent(*send, "one").until("The message is kept; it is sent, once")
    assert messageu(tmp_path, way.port, "alice", ["recv"]).returncode == 0
    history = messageu(tmp_path, way.port, "alice", ["history", "--json"]).stdout
    assert (history.count('"state": "stored"'), history.count('"suite": 1')) == (1, 1)
    # The server had it all the time, and keeps what was not fetched.
    silent(ResponseCode.FETCHED, RequestCode.FETCH, "bob", "recv")
    (one,) = messageu(tmp_path, way.port, "bob", ["recv"]).stdout.splitlines()
    assert one.endswith(" alice: one")
    assert {message.kind for message in way.overheard} == {MessageKind.SEALED}


def test_while_the_server_is_silent(server: Server, way: Middleman, tmp_path: Path) -> None:
    silent = functools.partial(waiting_in_vain, way, tmp_path)
    # The server has registered carol; the same command gets to know it.
    silent(ResponseCode.REGISTERED, RequestCode.REGISTER, "carol", "register", "carol")
    carol = tmp_path / "carol"
    assert (carol / "my.info.pending").exists()
    assert not (carol / "my.info").exists()
    assert messageu(tmp_path, way.port, "carol", ["register", "carol"]).returncode == 0
    assert messageu(tmp_path, way.port, "alice", ["users"]).stdout == "bob\ncarol\n"

    silent(ResponseCode.USERS, RequestCode.LIST_USERS, "alice", "doctor")
    silent(ResponseCode.PUBLIC_KEY, RequestCode.PUBLIC_KEY, "alice", "verify", "bob")
    silent(ResponseCode.HELLO, RequestCode.HELLO, "alice", "recv")
    silent(ResponseCode.PUBLIC_KEY, RequestCode.PUBLIC_KEY, "alice", "chat", "bob")
    # What is kept, and what is not, is told. The way hides the modern suite: of the first one the
    # key alone got as far as the outbox.
    send = (ResponseCode.STORED, RequestCode.SEND_ONCE, "alice", "send", "bob")
    silent(*send, "one").until("The symmetric key is kept, and sent before anything else; what you were sending is not")
    assert messageu(tmp_path, way.port, "alice", ["recv"]).returncode == 0
    silent(*send, "two").until("The message is kept; it is sent, once")
    # Nor did this one, because what is kept goes before it.
    assert "kept" not in str(silent(*send, "three"))
    assert messageu(tmp_path, way.port, "alice", ["recv"]).returncode == 0
    assert messageu(tmp_path, way.port, "alice", ["history", "--json"]).stdout.count('"state": "stored"') == 1
    # The server had it all the time, and keeps what was not fetched.
    silent(ResponseCode.FETCHED, RequestCode.FETCH, "bob", "recv")
    key, two = messageu(tmp_path, way.port, "bob", ["recv"]).stdout.splitlines()
    assert (key.endswith(" alice sent a symmetric key"), two.endswith(" alice: two")) == (True, True)


def test_while_it_waits(server: Server, tmp_path: Path) -> None:
    alice, port = tmp_path / "alice", server.port
    interrupted(alice, port, "recv", "--wait", "60", when=lambda: receives(alice))
    interrupted(alice, port, "watch", when=lambda: receives(alice))
    with Terminal(alice, port, "recv", "--wait", "60") as terminal:
        # One who is impatient.
        wait_until(lambda: receives(alice), "alice to receive")
        terminal.types(CTRL_C * 3, end="").types(CTRL_C * 3, end="")
        assert terminal.ends() == 130
        assert "Traceback" not in str(terminal)
    server.end()
    interrupted(alice, port, "watch", shown="Trying again.")


def test_while_a_command_of_watch_runs(server: Server, tmp_path: Path) -> None:
    """It has not succeeded: the next watch hands it the same message."""
    bob, port = tmp_path / "bob", server.port
    assert messageu(tmp_path, port, "alice", ["send", "bob", "take this"]).returncode == 0
    script, taken = tmp_path / "take.py", tmp_path / "taken"
    script.write_text(
        "import pathlib, sys, time\n"
        f"taken = pathlib.Path({str(taken)!r})\n"
        "with taken.open('a') as file: file.write(sys.stdin.read())\n"
        "time.sleep(60)\n"
    )

    def handed() -> list[str]:
        return [json.loads(line)["text"] for line in taken.read_text().splitlines()] if taken.exists() else []

    command = shlex.join([sys.executable, str(script)])
    for times in (1, 2):
        interrupted(bob, port, "watch", "--exec", command, when=lambda: len(handed()) == times)  # noqa: B023
    script.write_text(script.read_text().replace("time.sleep(60)", ""))
    assert messageu(tmp_path, port, "alice", ["send", "bob", "and this"]).returncode == 0
    interrupted(bob, port, "watch", "--exec", command, when=lambda: "and this" in handed())
    assert handed() == ["take this", "take this", "take this", "and this"]


def test_while_a_large_file_is_on_its_way(server: Server, way: Middleman, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(12_000_000))
    assert messageu(tmp_path, way.port, "alice", ["send", "bob", "first"]).returncode == 0
    way.takes = 100_000
    terminal = interrupted(tmp_path / "alice", way.port, "send", "bob", "--file", str(large), shown="Sending")
    terminal.until("The message is kept")
    with Terminal(tmp_path / "alice", way.port, "chat", "bob") as alice:
        alice.until("you [waiting]: the file ").until("sending [")
        # What is typed is dropped first.
        alice.types("half a line", end="").types(CTRL_C, end="").until("Dropped. Ctrl-C once more")
        alice.types(CTRL_C, end="")
        assert alice.ends() == 130
        alice.until("One message is not stored by the server yet; pending messages are kept")
    with Terminal(tmp_path / "bob", way.port, "send", "alice", "--file", str(large)) as bob:
        # Before it starts over by itself.
        bob.until("Sending")
        server.end()
        bob.until("Starting over in").types(CTRL_C, end="")
        assert bob.ends() == 130
        bob.until("The message is kept")
    server.start()
    way.takes = None
    assert messageu(tmp_path, way.port, "alice", ["recv"]).returncode == 0
    # Bob is the first to see the modern suite, while his file waits: what came before is believed.
    received = messageu(tmp_path, server.port, "bob", ["recv", "--json"]).stdout.splitlines()
    (path,) = (found["path"] for found in map(json.loads, received) if found["kind"] == "file")
    assert large.read_bytes() == (tmp_path / path).read_bytes()
    # His file was sealed for the modern suite, which the way hides from alice.
    (tmp_path / "alice" / "server.info").write_text(f"127.0.0.1:{server.port}\n")
    assert " bob sent a file: " in messageu(tmp_path, server.port, "alice", ["recv"]).stdout
