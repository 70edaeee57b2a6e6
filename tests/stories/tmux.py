"""A command in a window of tmux, which answers what a terminal is asked, and breaks lines
anew when it is resized.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Final, Self

from torture.patience import HANG_SECONDS
from torture.programs import ROOT, wait_until

if TYPE_CHECKING:
    from pathlib import Path


_numbers: Final = count()


class Tmux:
    """A server of its own, with one window; it ends with the block."""

    def __init__(self, folder: Path, columns: int = 80, rows: int = 24) -> None:
        # One that is just ending still answers at its socket for a moment.
        self._socket = folder / f"tmux{next(_numbers)}.sock"
        self._folder = folder
        self._size = ["-x", str(columns), "-y", str(rows)]

    def __enter__(self) -> Self:
        # A shell that waits: what it starts ends without the window.
        self._do(
            "new-session",
            "-d",
            *self._size,
            "env",
            "-i",
            "PS1=$ ",
            "TERM=screen-256color",
            f"PATH={os.environ['PATH']}",
            "sh",
        )
        self._do("set-option", "-g", "status", "off")
        self._do("set-option", "-g", "monitor-bell", "on")
        self.until("$")
        return self

    def __exit__(self, *_: object) -> None:
        self._do("kill-server")

    def messageu(self, home: Path, port: int, *words: str, before: str = "", behind: str = "") -> Self:
        """Type a command of a user's home."""
        settings = {
            "PYTHONPATH": str(ROOT),
            "MESSAGEU_CONFIG": str(self._folder / "config.toml"),
            "MESSAGEU_SERVER": f"127.0.0.1:{port}",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        command = [sys.executable, "-P", "-m", "client", "--home", str(home), "--save-dir", str(home / "in"), *words]
        script = self._folder / "command.sh"
        script.write_text(
            "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
            + f"clear\ncd {shlex.quote(str(self._folder))}\n"
            + f'{before} {shlex.join(command)} {behind}\necho "ended with $?"\n'
        )
        # Nothing of before is to be taken for what the command shows.
        self.types("clear")
        wait_until(lambda: [line for line in self.lines if line] == ["$"], "the screen to be cleared")
        return self.types(f"sh {script}")

    def types(self, text: str, end: str | None = "Enter") -> Self:
        """Type a text, and press a key."""
        self._do("send-keys", "-l", text)
        return self if end is None else self.presses(end)

    def pastes(self, text: str, *, marked: bool) -> Self:
        """Paste a text; `marked`: as most terminals do, where the program asks for marks."""
        self._do("set-buffer", text)
        self._do("paste-buffer", *(["-p"] if marked else []))
        return self

    def presses(self, *keys: str) -> Self:
        """Press keys, by tmux's names for them."""
        self._do("send-keys", *keys)
        return self

    def resized(self, columns: int, rows: int) -> Self:
        """Give the window another size."""
        self._do("resize-window", "-x", str(columns), "-y", str(rows))
        return self

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._do("capture-pane", "-p").splitlines()]

    @property
    def scrolled_by(self) -> list[str]:
        """What is on the screen, and what has left it."""
        return [line.rstrip() for line in self._do("capture-pane", "-p", "-S", "-").splitlines()]

    def of_pane(self, name: str) -> str:
        """Give what tmux knows of the pane."""
        return self._do("display-message", "-p", f"#{{{name}}}").rstrip("\n")

    def until(self, text: str, times: int = 1) -> Self:
        """Wait until a text is on the screen, so many times."""
        end = time.monotonic() + HANG_SECONDS
        while True:
            lines = self.lines
            if max("".join(lines).count(text), " ".join(" ".join(lines).split()).count(text)) >= times:
                return self
            assert time.monotonic() < end, f"{text!r} was never shown, but:\n{self}"
            time.sleep(0.02)

    def until_of_pane(self, name: str, value: str) -> Self:
        """Wait until tmux knows something of the pane."""
        wait_until(lambda: self.of_pane(name) == value, f"{name} to be {value!r}")
        return self

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _do(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self._folder)},
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout
