"""The client's console, driven as a person does in a terminal, or as a script does
through a pipe.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pexpect
from pexpect.popen_spawn import PopenSpawn

from torture.patience import HANG_SECONDS
from torture.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MENU = """\
MessageU client at your service.
110) Register
120) Request for clients list
130) Request for public key
140) Request for waiting messages
150) Send a text message
151) Send a request for symmetric key
152) Send your symmetric key
153) Send a file
 0) Exit client
?
"""
EVERY_LINE_END = re.compile(r"\r*\n")
PROMPTS = ("User name:", "Text:", "Path of the file:")
QUESTION = r"\[Y/n\]"


def one_message(sender: str, content: str) -> str:
    """As 140 prints it."""
    return f"From: {sender}\nContent:\n{content}\n-----<EOM>-----\n\n"


class Console:
    """A running client. `home` holds a server.info when it starts."""

    def __init__(self, home: Path, port: int, *, terminal: bool) -> None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "server.info").write_text(f"127.0.0.1:{port}\n")
        self.received = home / "received"
        self.terminal = terminal
        arguments = ["-P", "-m", "client", "--home", str(home), "--save-dir", str(self.received)]
        # TERM=dumb: no escape sequences of the line editor. COLUMNS: nothing is wrapped.
        environment: Any = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "COLUMNS": "200"}
        # Without echo the terminal's answers do not depend on how fast one types.
        self._child: Any = (
            pexpect.spawn(
                sys.executable,
                arguments,
                env=environment,
                cwd=str(home),
                timeout=HANG_SECONDS,
                encoding="utf-8",
                dimensions=(50, 200),
                echo=False,
            )
            if terminal
            else PopenSpawn(
                [sys.executable, *arguments], env=environment, cwd=str(home), timeout=HANG_SECONDS, encoding="utf-8"
            )
        )
        self._child.delaybeforesend = None
        self._menu = r"\r*\n".join(re.escape(line) for line in MENU.split("\n"))
        self.greeting = self._until_menu([])

    def choose(self, choice: str, *answers: str) -> str:
        """Make a choice, give `answers` to what is asked, say yes to every question; what
        was printed.
        """
        self._child.sendline(choice)
        return self._until_menu(list(answers))

    def _until_menu(self, answers: list[str]) -> str:
        printed = ""
        while True:
            found = self._child.expect([self._menu, QUESTION, *map(re.escape, PROMPTS)])
            printed += self._child.before
            if found == 0:
                assert not answers, f"nobody asked for {answers} after {printed!r}"
                return EVERY_LINE_END.sub("\n", printed)
            printed += self._child.after
            self._child.sendline("y" if found == 1 else answers.pop(0))

    def leave(self) -> int:
        """Choose 0; the exit code."""
        self._child.sendline("0")
        self._child.expect(pexpect.EOF)
        if self.terminal:
            self._child.close()
            code = self._child.exitstatus
        else:
            code = self._child.wait()
        assert isinstance(code, int)
        return code

    def end(self) -> None:
        """Whatever state it is in, it ends now."""
        if self.terminal:
            self._child.close(force=True)
        else:
            self._child.proc.kill()
            self._child.proc.wait()
            self._child.proc.stdin.close()
            self._child.proc.stdout.close()


def share_a_key(alice: Console, bob: Console) -> None:
    """The owner's own flow: A has B's public key and asks for a symmetric key; B takes
    A's public key, sends one.
    """
    assert "bob" in alice.choose("130", "bob")
    assert "bob is asked" in alice.choose("151", "bob")
    assert bob.choose("140") == one_message("alice", "Request for symmetric key")
    bob.choose("130", "alice")
    assert "sent to alice" in bob.choose("152", "alice")
    assert alice.choose("140") == one_message("bob", "symmetric key received")
