#!/usr/bin/env python3
"""Keep one program running: start it, start it again when it fails, end when it ends.

    keep_running.py [--ancestors N] [--after NAME] [--once] [--settle SECONDS] [--kill-after
    SECONDS] -- COMMAND ...

One of these stands in every line of the Procfile, for honcho ends all programs when one of them
ends.

- A program that dies by a signal or ends with an error is started again, after 0.1 s, then 0.2 s,
  0.4 s …, at most 5 s. After 10 s of healthy life the count begins anew.
- A program that ends with 0 (it wanted to), 2 (its command line is wrong) or 78 (EX_CONFIG: its
  port or data folder is taken, a newer one took its place) is not started again, for another try
  would not help; this program ends with the same code.
- SIGTERM, SIGINT and SIGHUP are passed on once; what has not ended --kill-after seconds later (4.5)
  is killed.
- The program dies with its keeper, even at kill -9. The keeper ends with its N nearest ancestors;
  honcho puts one process of its own in between, so that its Procfile says 2.
- honcho signals all its programs at once. With --after NAME the signal is passed on when the
  keepers of the programs of that name, under the same farthest ancestor, have ended, but at the
  latest half a second before the program would be killed. So the storage worker still answers while
  its gateway ends. Linux only; elsewhere it is passed on at once.

scripts/run keeps honcho itself with --once (no restart) and --settle: honcho that is asked to end
before it has seen all its programs start fails and then hangs (2.0.0), so that a signal waits until
honcho is that old.

Every restart is one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
HEALTHY_AFTER = 10.0
KILL_AFTER = 4.5
END_TIME = 0.5
"""What is left of KILL_AFTER for a program whose signal was held back for others."""
LOOK_AGAIN_AFTER = 1.0
FIRST_PROCESS = 1
FARTHEST_ANCESTOR = 8
"""How many generations lie at most between honcho and a keeper that it started."""

EX_CONFIG = 78
CANNOT_START = 127
EX_WRONG_WORDS = 2
"""What argparse ends with: the command line has to be changed, by a person."""
FINAL_CODES = frozenset({0, EX_WRONG_WORDS, EX_CONFIG})

PR_SET_PDEATHSIG = 1


class Child(Protocol):
    """What the keeper needs of a running program; subprocess.Popen has it."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal, or do nothing when the program has ended."""

    def kill(self) -> None:
        """Send SIGKILL, or do nothing when the program has ended."""


class Keeper:
    """The rules, without a clock, a signal or a process of their own.

    `start` starts the program. `wait` sleeps for at most the given seconds, less when something
    happened, and returns the signals that asked for the end. `clock` counts seconds. `log` takes
    one line. A program gets no signal before it is `settle` seconds old. While `others_run` says
    that those run that have to end before it, its signal is held back, until `END_TIME` before it
    would be killed. It is started again only where `restart` says so.
    """

    def __init__(
        self,
        start: Callable[[], Child],
        wait: Callable[[float], Sequence[int]],
        clock: Callable[[], float],
        log: Callable[[str], None],
        settle: float = 0.0,
        restart: bool = True,
        kill_after: float = KILL_AFTER,
        others_run: Callable[[], bool] = lambda: False,
    ) -> None:
        self._start = start
        self._wait = wait
        self._clock = clock
        self._log = log
        self._settle = settle
        self._restart = restart
        self._kill_after = kill_after
        self._others_run = others_run
        self._stopping = False

    def run(self) -> int:
        """Keep the program running until it or somebody else wants the end; return the
        exit code.
        """
        delay = FIRST_DELAY
        while True:
            began = self._clock()
            try:
                child = self._start()
            except OSError as error:
                self._log(f"cannot be started: {error}")
                return CANNOT_START
            code = self._watch(child)
            if self._stopping or not self._restart or code in FINAL_CODES:
                return as_exit_code(code)
            if self._clock() - began >= HEALTHY_AFTER:
                delay = FIRST_DELAY
            self._log(f"{reason(code)}; starting it again in {delay:.1f} s")
            if not self._pause(delay):
                return 0
            delay = min(delay * 2, LONGEST_DELAY)

    def _watch(self, child: Child) -> int:
        """Wait for the program's end, pass on the first request to end it, and kill it
        when it takes too long.
        """
        settled_at = self._clock() + self._settle
        to_send: int | None = None
        hold_until = kill_at = inf
        while (code := child.poll()) is None:
            now = self._clock()
            if to_send is not None and now >= settled_at and (now >= hold_until or not self._others_run()):
                child.send_signal(to_send)
                to_send = None
            if now >= kill_at:
                self._log(f"has not ended within {self._kill_after} s; killing it")
                child.kill()
                kill_at = inf
            moments = [kill_at, *([settled_at, hold_until] if to_send is not None else [])]
            next_step = min([moment for moment in moments if moment > now], default=inf)
            asked = self._wait(min(LOOK_AGAIN_AFTER, next_step - now))
            if asked and not self._stopping:
                self._stopping = True
                to_send = asked[0]
                kill_at = self._clock() + self._kill_after
                hold_until = kill_at - END_TIME
        return code

    def _pause(self, seconds: float) -> bool:
        """Wait before the next start; return False when the end was asked for meanwhile."""
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            if self._wait(left):
                return False
        return True


def as_exit_code(code: int) -> int:
    """Return what a shell would: 128 and the number of the signal that ended the program."""
    return code if code >= 0 else 128 - code


def reason(code: int) -> str:
    """Say why a program ended."""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def display_name(command: Sequence[str]) -> str:
    """Return the name for the log: the module after -m, else the program's file name."""
    if "-m" in command[1:-1]:
        return command[command.index("-m", 1) + 1]
    return Path(command[0]).name


class Doorbell:
    """Waits for signals and for the end of ancestors. A child's end wakes it too (SIGCHLD).

    So does the end of the keepers of programs named `after`, once `others_run` was asked.
    """

    def __init__(self, ancestors: int, after: str | None = None) -> None:
        self._parent = os.getppid() if ancestors else None
        numbers = ancestors_of(os.getpid(), ancestors)
        # In a container honcho may be the first process, which is out of sight: then all keepers
        # there are are its.
        self._top = numbers[-1] if numbers and len(numbers) == ancestors else FIRST_PROCESS
        self._after = after
        self._pidfds = open_all(numbers)
        self._others: list[int] | None = None
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # SIGINT is taken even where a shell's & had it ignored. SIGHUP stays ignored under nohup.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _only_wake)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _only_wake)

    def wait(self, timeout: float) -> list[int]:
        """Sleep until something happened, at most `timeout`; return the signals that ask
        for the end.
        """
        others = self._others or []
        ready, _, _ = select.select([self._reader, *self._pidfds, *others], [], [], timeout)
        asked: list[int] = []
        if self._reader in ready:
            with contextlib.suppress(BlockingIOError):
                asked += [number for number in os.read(self._reader, 4096) if number != signal.SIGCHLD]
        for pidfd in [pidfd for pidfd in others if pidfd in ready]:
            others.remove(pidfd)
            os.close(pidfd)
        gone = [pidfd for pidfd in self._pidfds if pidfd in ready]
        for pidfd in gone:
            self._pidfds.remove(pidfd)
            os.close(pidfd)
        if gone or (self._parent is not None and os.getppid() != self._parent):
            asked.append(signal.SIGTERM)
        # A hang-up means to a program "read your settings again", or nothing; here it means the
        # end.
        return [signal.SIGTERM if number == signal.SIGHUP else number for number in asked]

    def others_run(self) -> bool:
        """Whether keepers run whose programs have to end before ours. They are looked for
        at the first call.
        """
        if self._others is None:
            found = [] if self._after is None else keepers_of(self._after, self._top)
            self._others = open_all(found)
        return bool(self._others)


def _only_wake(_number: int, _frame: object) -> None:
    """Do nothing: that the signal arrived is read from the wake-up pipe."""


def ancestors_of(pid: int, count: int) -> list[int]:
    """Return the numbers of the `count` nearest ancestors of a process, the parent first
    (Linux; else none).
    """
    found: list[int] = []
    if sys.platform == "linux":
        for _ in range(count):
            try:
                pid = parent_of(pid)
            except OSError:
                break
            # Ancestors out of sight (in a container, pid 0 and 1) have no end that matters.
            if pid <= 1:
                break
            found.append(pid)
    return found


def open_all(pids: Sequence[int]) -> list[int]:
    """Return descriptors that become readable when one of the processes ends; none for
    those that have ended.
    """
    pidfds: list[int] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            pidfds.append(os.pidfd_open(pid))
    return pidfds


def keepers_of(name: str, top: int) -> list[int]:
    """Return the numbers of the keepers of programs of that name among the descendants of process
    `top`.

    Of the first process: of all that can be seen.
    """
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        # A process that ends while it is looked at is none that has to be waited for.
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and kept_program(entry.joinpath("cmdline").read_bytes()) == name:
                pid = int(entry.name)
                if top == FIRST_PROCESS or top in ancestors_of(pid, FARTHEST_ANCESTOR):
                    found.append(pid)
    return found


def kept_program(command_line: bytes) -> str | None:
    """Return the name of the program that is kept by a process with this
    /proc/PID/cmdline; None for no keeper.
    """
    words = os.fsdecode(command_line).split("\0")[:-1]
    if "--" not in words or Path(__file__).name not in [Path(word).name for word in words[: words.index("--")]]:
        return None
    command = words[words.index("--") + 1 :]
    return display_name(command) if command else None


def parent_of(pid: int) -> int:
    """Return the parent's number, from the fourth field of /proc/PID/stat; the second may
    hold anything.
    """
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def start_bound(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program that dies with us, in a session of its own: signals to our group
    reach it through us, once.
    """
    keeper = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def bind() -> None:  # pragma: no cover - runs between fork and exec, where nothing is measured
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:  # it died before it could take us along
                os._exit(1)

    # This program has one thread, so that preexec_fn is safe here.
    return subprocess.Popen(command, start_new_session=True, preexec_fn=bind)  # noqa: PLW1509


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and keep the program running."""
    parser = argparse.ArgumentParser(
        prog="keep_running.py", description="Keep one program running.", allow_abbrev=False
    )
    parser.add_argument("--ancestors", type=int, default=1, help="how many nearest ancestors to end with (1)")
    parser.add_argument("--after", metavar="NAME", help="pass a signal on when the programs of that name have ended")
    parser.add_argument("--once", action="store_true", help="do not start the program again")
    parser.add_argument("--settle", type=float, default=0.0, help="send it no signal before this age in seconds (0)")
    parser.add_argument("--kill-after", type=float, default=KILL_AFTER, help=f"seconds to end in ({KILL_AFTER})")
    parser.add_argument("command", nargs="+", help="the program and its arguments, after --")
    options = parser.parse_args(arguments)
    command: list[str] = options.command
    name = display_name(command)

    def log(text: str) -> None:
        with contextlib.suppress(OSError):
            print(f"keep_running: {name} {text}", file=sys.stderr, flush=True)

    bell = Doorbell(options.ancestors, options.after)
    keeper = Keeper(
        lambda: start_bound(command),
        bell.wait,
        time.monotonic,
        log,
        settle=options.settle,
        restart=not options.once,
        kill_after=options.kill_after,
        others_run=bell.others_run,
    )
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main())
