#!/usr/bin/env python3
"""Makes the screens in docs/screens.md, and README's picture of a chat: real commands in
pseudo-terminals, read by a terminal emulator.

scripts/captures.py prints the page; with --write it takes the place of the old one, and so do the
pictures of the chat. With --pictures DIR there is an SVG of each screen in that folder, with all
its colours, in a small and a large terminal, light and dark, to be looked at. A screen is the
terminal's content when the last text has appeared; nothing is cut but empty lines at its end. What
differs from run to run (times, ids, keys, numbers) differs here too.
"""

# ruff: noqa: E402 - what is imported is set up first

import argparse
import contextlib
import dataclasses
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup

if __name__ == "__main__":
    _setup.continue_in_venv("dev")

import pexpect
import pyte
from rich import _export_format
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from torture.patience import HANG_SECONDS
from torture.programs import Server

PAGE = ROOT / "docs" / "screens.md"
PICTURED = "chat"
"""The screen of which README shows a picture: docs/chat-light.svg or docs/chat-dark.svg."""
SHOWN_FOLDER = "/home/bob"
"""What is shown in the place of the temporary folder."""
MENU_ASKS = r"Exit client *\?"
"""How a screen ends on which the numbered menu is whole."""
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
# Rich's own form fetches a font from elsewhere.
PICTURE = re.sub(r"@font-face \{\{.*?\}\}", "", _export_format.CONSOLE_SVG_FORMAT, flags=re.DOTALL)
INTRODUCTION = """\
# Screens

Made by `scripts/captures.py --write`, which types at real commands in a terminal of 80 columns and
reads its screen. `scripts/captures.py --pictures DIR` makes pictures of the same, light and
dark, also of 120 columns. The program names no colours but those of the QR code, which is black on
white whatever the terminal's own are; all else is bold or reverse, so that it is legible on a light
screen and on a dark one. With `NO_COLOR` the code has none either.
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """Of a terminal."""

    columns: int
    rows: int


SIZES = (Size(80, 24), Size(120, 40))


class Screen:
    """The command in a pseudo-terminal."""

    def __init__(self, size: Size, folder: Path, user: str, *words: str) -> None:
        self.command = " ".join(["messageu", *(f'"{word}"' if " " in word else word for word in words)])
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MESSAGEU_", "NO_COLOR"))
        }
        environment |= {
            "PYTHONPATH": str(ROOT),
            "MESSAGEU_CONFIG": "none",
            "TERM": "xterm-256color",
        }
        self._child = pexpect.spawn(
            sys.executable,
            ["-P", "-m", "client", "--home", user, "--save-dir", "received", *words],
            cwd=str(folder),
            env=environment,
            encoding="utf-8",
            dimensions=(size.rows, size.columns),
        )
        # Whoever types here waits until it is time.
        self._child.delaybeforesend = None
        self._child.delayafterclose = self._child.delayafterterminate = 0.01
        self._size = size
        self._folder = str(folder)
        self._screen = pyte.Screen(size.columns, size.rows)
        self._stream = pyte.Stream(self._screen)

    def types(self, text: str, end: str = "\r") -> "Screen":
        """Type, and press Enter."""
        self._child.send(text + end)
        return self

    def until(self, pattern: str) -> "Screen":
        """Read until a regular expression finds something on the screen."""
        self._read_until(lambda: re.search(pattern, "".join(self._screen.display)), f"{pattern!r} never came")
        return self

    def asked(self, pattern: str) -> "Screen":
        """Read until a prompt is on the screen and the program reads what is typed:
        before, the terminal echoes too.
        """
        self.until(pattern)._read_until(lambda: not self._child.getecho(), "nothing reads what is typed")
        return self

    def _read_until(self, is_there: Callable[[], object], failure: str) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while not is_there():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure}, but:\n{self.text()}")
            with contextlib.suppress(pexpect.TIMEOUT):
                self._stream.feed(self._child.read_nonblocking(65536, timeout=0.2))

    def ends(self) -> "Screen":
        """Read to the end."""
        with contextlib.suppress(pexpect.EOF):
            while True:
                self._stream.feed(self._child.read_nonblocking(65536, timeout=HANG_SECONDS))
        self.close()
        return self

    def text(self) -> str:
        """What is shown."""
        lines = "\n".join(line.rstrip() for line in self._screen.display).rstrip() + "\n"
        return lines.replace(self._folder, SHOWN_FOLDER)

    def picture(self, theme: TerminalTheme) -> str:
        """The same as an SVG, with its colours."""
        console = Console(record=True, width=self._size.columns, file=io.StringIO())
        for row in range(self.text().count("\n")):
            line = Text(end="")
            cells = (self._screen.buffer[row][column] for column in range(self._size.columns))
            for style, alike in itertools.groupby(cells, _style):
                line.append("".join(cell.data for cell in alike), style)
            if self._folder in line.plain:
                before, after = line.plain.split(self._folder, 1)
                line = line[: len(before)] + Text(SHOWN_FOLDER) + line[len(line.plain) - len(after) :]
            console.print(line, no_wrap=True)
        return console.export_svg(title=self.command, theme=theme, code_format=PICTURE)

    def close(self) -> None:
        """End the command."""
        self._child.close(force=True)


def _style(cell: pyte.screens.Char) -> Style:
    return Style(color=_colour(cell.fg), bgcolor=_colour(cell.bg), bold=cell.bold, reverse=cell.reverse)


def _colour(name: str) -> str | None:
    """Rich's name for a colour of pyte's; six hex digits are its own for one of 256 colours."""
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return name.replace("brown", "yellow").replace("bright", "bright_")


@contextlib.contextmanager
def people(folder: Path) -> Iterator[None]:
    """A server, and two people who are registered at it."""
    with Server(folder / "server") as server:
        server.start()
        (folder / "server.info").write_text(f"127.0.0.1:{server.port}\n")
        for name in ("alice", "bob"):
            Screen(SIZES[0], folder, name, "register", name).ends()
        yield


class Capture(NamedTuple):
    """What was typed in the shell, what was shown, and a picture of it for each theme."""

    command: str
    text: str
    pictures: dict[str, str]


def captures(folder: Path, size: Size, themes: Mapping[str, TerminalTheme]) -> dict[str, Capture]:
    """Each screen, by its name, with a picture in each theme."""
    found: dict[str, Capture] = {}

    def start(user: str, *words: str) -> Screen:
        return Screen(size, folder, user, *words)

    def keep(name: str, screen: Screen) -> None:
        pictures = {name: screen.picture(theme) for name, theme in themes.items()}
        found[name] = Capture(screen.command, screen.text(), pictures)

    (folder / "plan.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(3_000_000))
    with (folder / "film.mp4").open("wb") as film:
        film.truncate(200_000_000)
    alice, bob = start("alice", "chat", "bob"), start("bob", "chat", "alice")
    alice.until("connected").types("Shall we meet at eight?").until(r"\[stored\]: Shall")
    bob.until("alice: Shall").types("At nine, and bring the plan.").until(r"\[stored\]: At nine")
    alice.until("bob: At nine").types("/file plan.pdf").until(r"\[stored\]: the file")
    bob.until("sent a file").types("Got it. See you th", end="").until("See you th")
    keep("chat", bob)
    alice.close()
    bob.close()
    keep("doctor", start("alice", "doctor").ends())
    asked = start("alice", "verify", "bob", "--qr").until(r"\[y/N\]")
    keep("verify", asked)
    asked.types("y").ends()
    start("alice", "send", "bob", "See you there").ends()
    start("bob", "send", "alice", "Until tonight").ends()
    watch = start("alice", "watch").until("Until tonight")
    keep("watch", watch)
    watch.close()
    sending = start("alice", "send", "bob", "--file", "film.mp4").until(r"Sending.*B/s +0:")
    keep("progress", sending)
    sending.close()
    # Two menus are longer than a small terminal.
    console = list_of_users(Screen(Size(size.columns, max(size.rows, 30)), folder, "alice"))
    keep("console", console)
    console.close()
    return found


def list_of_users(console: Screen) -> Screen:
    """The numbered menu, asked for the users, of whom bob is the last."""
    return console.asked(MENU_ASKS).types("120").until(f"bob .*{MENU_ASKS}")


def page(found: dict[str, Capture]) -> str:
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
        parts.append(f"## {title}\n\n{shown(found[name])}")
    return "\n".join(parts)


def written(found: dict[str, Capture]) -> dict[Path, str]:
    """What `--write` writes: the page, and the pictures of one screen."""
    pictures = found[PICTURED].pictures
    return {PAGE: page(found)} | {PAGE.with_name(f"{PICTURED}-{theme}.svg"): pictures[theme] for theme in pictures}


def shown(capture: Capture) -> str:
    """A screen below its command."""
    return f"```\n$ {capture.command}\n{capture.text}```\n"


def main() -> int:
    """Make them all in a temporary folder."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for size in SIZES:
            for name, capture in made(size, THEMES).items():
                for theme, picture in capture.pictures.items():
                    path = options.pictures / f"{name}-{size.columns}-{theme}.svg"
                    path.write_text(picture, encoding="utf-8")
        return 0
    found = made(SIZES[0], THEMES)
    if options.write:
        files = written(found)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
        subprocess.run(["git", "-C", str(ROOT), "diff", "--stat", "--", *map(str, files)], check=False)
    else:
        print(page(found))
    return 0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Make the screens in docs/screens.md and README's picture.", allow_abbrev=False
    )
    parser.add_argument("--write", action="store_true", help="write them in the place of the old ones")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write pictures into that folder, and nothing else"
    )
    return parser.parse_args(words)


def made(size: Size, themes: Mapping[str, TerminalTheme]) -> dict[str, Capture]:
    """Each screen in a terminal of that size, with a server and homes of its own."""
    with tempfile.TemporaryDirectory(prefix="messageu-") as name, people(Path(name)):
        return captures(Path(name), size, themes)


if __name__ == "__main__":
    sys.exit(main())
