#!/usr/bin/env python3
"""Makes the transcript in docs/client.md: two people at two real consoles and a real server, typed
by a program.

scripts/transcript.py prints it; with --write it takes the old one's place in docs/client.md. The
console prints its menu before each choice; the transcript leaves it out and puts its `?` before the
choice.
"""

# ruff: noqa: E402 - what is imported is set up first

import os
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup

if __name__ == "__main__":
    _setup.continue_in_venv("dev")

import pexpect

from torture.patience import HANG_SECONDS
from torture.programs import Server

BEGIN, END = "<!-- transcript -->\n```\n", "```\n<!-- end of transcript -->"
_MENU = re.compile(r"MessageU client at your service\.\n(?:.*\n)*? 0\) Exit client\n\?")
_MENU_END = "0) Exit client\r\n?\r\n"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Person:
    """One console in a pseudo-terminal."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._console = pexpect.spawn(
            sys.executable,
            ["-P", "-m", "client", "--home", name],
            cwd=str(folder),
            env=environment,
            encoding="utf-8",
            dimensions=(50, 100),
            timeout=HANG_SECONDS,
        )
        # Nothing is typed before it is asked for.
        self._console.delaybeforesend = None
        self._until_asked(_MENU_END)

    def types(self, *lines: str) -> str:
        """Type each line where it is asked for; what the screen shows until the next menu."""
        shown = ""
        for line in lines[:-1]:
            self._console.sendline(line)
            shown += self._until_asked(": ")
        self._console.sendline(lines[-1])
        shown += self._until_asked(_MENU_END)
        text = _MENU.sub("", _ESCAPE.sub("", shown.replace("\r\n", "\n"))).strip("\n")
        return f"[{self.name}]\n? {text}\n"

    def _until_asked(self, prompt: str) -> str:
        """Read until `prompt` came and the program reads what is typed: before, the terminal echoes
        too, and what is typed is there twice.
        """
        self._console.expect_exact(prompt)
        shown = str(self._console.before) + prompt
        deadline = time.monotonic() + HANG_SECONDS
        while self._console.getecho():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing reads what is typed behind {prompt!r}")
            time.sleep(0.01)
        return shown

    def leaves(self) -> None:
        """Choose 0."""
        self._console.sendline("0")
        self._console.expect(pexpect.EOF)


def conversation(folder: Path, environment: dict[str, str]) -> str:
    """Two people meet, exchange keys and talk."""
    alice, bob = Person("alice", folder, environment), Person("bob", folder, environment)
    parts = [
        alice.types("110", "alice"),
        bob.types("110", "bob"),
        alice.types("120"),
        alice.types("130", "bob"),
        alice.types("151", "bob"),
        bob.types("140"),
        bob.types("130", "alice"),
        bob.types("152", "alice"),
        alice.types("140"),
        alice.types("150", "bob", "Hello Bob, only you can read this."),
        bob.types("140"),
        bob.types("150", "alice", "Hi Alice!"),
        alice.types("140"),
    ]
    alice.leaves()
    bob.leaves()
    return "\n".join(parts)


def main() -> int:
    """Run server and consoles in a temporary folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGEU_")}
    environment |= {"PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": "none", "TERM": "dumb"}
    with tempfile.TemporaryDirectory(prefix="messageu-") as name:
        folder = Path(name)
        with Server(folder / "server") as server:
            server.start()
            (folder / "server.info").write_text(f"127.0.0.1:{server.port}\n")
            text = conversation(folder, environment)
    if "--write" in sys.argv:
        page = ROOT / "docs" / "client.md"
        before, rest = page.read_text().split(BEGIN)
        page.write_text(before + BEGIN + text + END + rest.split(END)[1])
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
