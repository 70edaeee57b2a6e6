"""A subcommand in a pseudo-terminal with a screen of its own, typed at and read as a
person does.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Self

import pexpect
import psutil
import pyte

from torture.patience import HANG_SECONDS
from torture.programs import ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
ROWS = 60
_BRACKETED_PASTE = 2004 << 5
"""As pyte has the private modes."""


class Terminal:
    """The command `messageu` in a user's home."""

    def __init__(
        self,
        home: Path,
        port: int = 0,
        *words: str,
        columns: int = 100,
        rows: int = ROWS,
        command: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; `command`, in the folder of all homes and an environment, instead of
        what is made for this home.
        """
        if environment is None:
            ours = ("MESSAGEU_", "NO_COLOR")
            environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
                "PYTHONPATH": str(ROOT),
                "MESSAGEU_CONFIG": str(home.parent / "config.toml"),
                "MESSAGEU_SERVER": f"127.0.0.1:{port}",
            }
        everything: Any = {
            **environment,
            "TERM": "xterm-256color",
            "TZ": "UTC",
        }
        options = ["--home", str(home), "--save-dir", str(home / "received")]
        program, *arguments = command or [sys.executable, "-P", "-m", "client", *options, *words]
        self._child = pexpect.spawn(
            program,
            arguments,
            env=everything,
            cwd=str(home.parent),
            encoding="utf-8",
            dimensions=(rows, columns),
        )
        self._child.delaybeforesend = None
        self._settings = termios.tcgetattr(self._child.child_fd)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The library gives up on a killed program that is not gone after a tenth of a second.
        if self._child.isalive():
            self._child.kill(signal.SIGKILL)
            wait_until(lambda: not self._child.isalive(), "the end of a killed program")
        self._child.close(force=True)

    def types(self, text: str, end: str = ENTER) -> Self:
        """Type, and press Enter."""
        self._child.send(text + end)
        return self

    @property
    def cells(self) -> list[list[tuple[str, str, str]]]:
        """What is on the screen, cell by cell: the letter, and the names of its colour
        and of the one behind it.
        """
        rows = [
            [self._screen.buffer[row][column] for column in range(self._screen.columns)]
            for row in range(self._screen.lines)
        ]
        return [[(cell.data, cell.fg, cell.bg) for cell in row] for row in rows]

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._screen.display]

    def until(self, text: str, times: int = 1) -> Self:
        """Wait until a text is on the screen, so many times."""
        end = time.monotonic() + HANG_SECONDS
        while not self._shows(text, times):
            assert time.monotonic() < end, f"{text!r} was never shown, but:\n{self}"
            try:
                self._stream.feed(self._child.read_nonblocking(65536, timeout=1))
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, ValueError):
                raise AssertionError(f"{text!r} was never shown before the end, but:\n{self}") from None
        return self

    def waits(self) -> Self:
        """Wait until the program waits for something, so that a signal finds it there.

        One that comes after a prompt and before the wait behind it is heard with the next key only:
        the interpreter looks for signals before it begins to wait, and when the wait ends.
        """
        program = psutil.Process(self._child.pid)
        wait_until(lambda: program.status() == psutil.STATUS_SLEEPING, "the program to wait")
        return self

    def _shows(self, text: str, times: int) -> bool:
        """Whether it is there, also where it is longer than a line and was broken:
        anywhere, or at a space.
        """
        lines = self._screen.display
        return "".join(lines).count(text) >= times or " ".join(" ".join(lines).split()).count(text) >= times

    def gets(self, number: int) -> Self:
        """Send a signal."""
        pid = self._child.pid
        assert pid is not None
        os.kill(pid, number)
        return self

    def ends(self) -> int:
        """Read to the end; the exit code. The terminal has to be as it was before."""
        self._read_to_the_end()
        code: int | None = self._child.exitstatus
        assert code is not None, f"it was killed by signal {self._child.signalstatus}:\n{self}"
        return code

    def ended_by(self) -> int:
        """Read to the end; the signal that ended it. The terminal has to be as it was before."""
        self._read_to_the_end()
        number: int | None = self._child.signalstatus
        assert number is not None, f"it ended with {self._child.exitstatus}:\n{self}"
        return number

    def _read_to_the_end(self) -> None:
        self._child.expect(pexpect.EOF, timeout=HANG_SECONDS)
        self._stream.feed(self._child.before or "")
        assert termios.tcgetattr(self._child.child_fd) == self._settings, "the terminal is not as it was"
        assert not self._screen.cursor.hidden, "the cursor is hidden"
        assert _BRACKETED_PASTE not in self._screen.mode, "the terminal still brackets what is pasted"
        self._child.close()

    def __str__(self) -> str:
        return "\n".join(self.lines).rstrip()
