"""Makes the screens in docs/screens.md and README.md: real commands in pseudo-terminals, read by a terminal emulator.

.venv/bin/python scripts/captures.py prints them; with --write they take the place of the old ones.
A screen is what stands on it when its last text has appeared; nothing is cut but empty lines at its end. What differs
from run to run (times, ids, keys, numbers) differs here too.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pyte

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from torture.programs import Server  # noqa: E402 - the path is needed first

PAGE = ROOT / "docs" / "screens.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- chat -->\n```\n", "```\n<!-- end of chat -->"
PATIENCE = 20.0
INTRODUCTION = """\
# Screens

Made by `scripts/captures.py`, which types at real commands and reads the screen: text alone, 80 columns.
The program uses bold, reverse and, in progress bars, the terminal's own colours, so that it is legible on a light
screen and on a dark one.
"""


class Screen:
    """The command in a pseudo-terminal of 80 columns."""

    def __init__(self, folder: Path, user: str, *words: str, columns: int = 80) -> None:
        self.command = " ".join(["messageu", *(f'"{word}"' if " " in word else word for word in words)])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGEU_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "MESSAGEU_CONFIG": "none",
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        self._child = pexpect.spawn(
            sys.executable,
            ["-P", "-m", "client", "--home", user, "--save-dir", "received", *words],
            cwd=str(folder),
            env=environment,
            encoding="utf-8",
            dimensions=(40, columns),
        )
        self._screen = pyte.Screen(columns, 40)
        self._stream = pyte.Stream(self._screen)

    def types(self, text: str, end: str = "\r") -> "Screen":
        """Type, and press Enter."""
        self._child.send(text + end)
        return self

    def until(self, pattern: str) -> "Screen":
        """Read until a regular expression finds something on the screen."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, "".join(self._screen.display)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern!r} never came, but:\n{self.text()}")
            with contextlib.suppress(pexpect.TIMEOUT):
                self._stream.feed(self._child.read_nonblocking(65536, timeout=0.2))
        return self

    def ends(self) -> "Screen":
        """Read to the end."""
        with contextlib.suppress(pexpect.EOF):
            while True:
                self._stream.feed(self._child.read_nonblocking(65536, timeout=PATIENCE))
        self.close()
        return self

    def text(self) -> str:
        """What stands there."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip() + "\n"

    def close(self) -> None:
        """End the command."""
        self._child.close(force=True)


@contextlib.contextmanager
def people(folder: Path) -> Iterator[None]:
    """A server, and two people who are registered at it."""
    with Server(folder / "server") as server:
        server.start()
        (folder / "server.info").write_text(f"127.0.0.1:{server.port}\n")
        for name in ("alice", "bob"):
            Screen(folder, name, "register", name).ends()
        yield


def captures(folder: Path) -> dict[str, tuple[str, str]]:
    """Each screen, by its name: what was typed in the shell, and what stood there."""
    found: dict[str, tuple[str, str]] = {}

    def keep(name: str, screen: Screen) -> None:
        found[name] = (screen.command, screen.text().replace(str(folder), "/home/bob"))

    (folder / "plan.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(3_000_000))
    (folder / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(200_000_000))
    alice, bob = Screen(folder, "alice", "chat", "bob"), Screen(folder, "bob", "chat", "alice")
    alice.until("connected").types("Shall we meet at eight?").until(r"\[stored\]: Shall")
    bob.until("alice: Shall").types("At nine, and bring the plan.").until(r"\[stored\]: At nine")
    alice.until("bob: At nine").types("/file plan.pdf").until(r"\[stored\]: the file")
    bob.until("sent a file").types("Got it. See you th", end="").until("See you th")
    keep("chat", bob)
    alice.close()
    bob.close()
    keep("doctor", Screen(folder, "alice", "doctor").ends())
    asked = Screen(folder, "alice", "verify", "bob", "--qr").until(r"\[y/N\]")
    keep("verify", asked)
    asked.types("y").ends()
    Screen(folder, "alice", "send", "bob", "See you there").ends()
    Screen(folder, "bob", "send", "alice", "Until tonight").ends()
    watch = Screen(folder, "alice", "watch").until("Until tonight")
    keep("watch", watch)
    watch.close()
    sending = Screen(folder, "alice", "send", "bob", "--file", "film.mp4").until(r"Sending.* MB/s 0:")
    keep("progress", sending)
    sending.close()
    console = Screen(folder, "alice").until("Exit client").types("120").until("bob")
    keep("console", console)
    console.close()
    return found


def page(found: dict[str, tuple[str, str]]) -> str:
    """The document."""
    titles = {
        "chat": "A chat, while a line is being typed",
        "verify": "Comparing keys",
        "doctor": "What is wrong, if anything",
        "watch": "Every message as it comes",
        "progress": "A large file",
        "console": "The numbered menu",
    }
    parts = [INTRODUCTION]
    for name, title in titles.items():
        command, text = found[name]
        parts.append(f"## {title}\n\n```\n$ {command}\n{text}```\n")
    return "\n".join(parts)


def main() -> int:
    """Make them all in a temporary folder."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="messageu-") as name, people(Path(name)):
        found = captures(Path(name))
    if "--write" in sys.argv:
        PAGE.write_text(page(found))
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}{found['chat'][1]}{END}{rest.split(END)[1]}")
        subprocess.run(["git", "-C", str(ROOT), "diff", "--stat", "--", str(PAGE), str(README)], check=False)
    else:
        print(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
