"""The processes of a server that is measured: started in a folder, watched, ended.

Owns: starting programs with their logs, waiting for a server's first answer, ending them.
Promises: whatever was started has ended when the `with` is left; it gets its signal too when the
benchmark is killed.
Exposure: ports of 127.0.0.1 alone.
"""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.subject import SubjectFailed

_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG: Final = 1
_RETRY_SECONDS: Final = 0.02


class Programs:
    """Processes by role, with `role.log` of each in `folder`."""

    def __init__(self, folder: Path, *, stop_seconds: float = 6.0) -> None:
        """`folder` is made where it is missing; what has not ended `stop_seconds` after
        its signal is killed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._stop_seconds = stop_seconds
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._process_ids: dict[str, int] = {}
        self._signals: dict[str, signal.Signals] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process_ids(self) -> dict[str, int]:
        """By role; a program that was started again has its new one here."""
        return self._process_ids

    def start(
        self,
        role: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start a program in the folder. `environment`: in place of ours; `user`: as somebody else,
        which root alone can do. Raises `SubjectFailed`.
        """
        try:
            with self._log(role).open("ab") as log:
                self._processes[role] = subprocess.Popen(
                    command,
                    cwd=self._folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    user=user,
                    group=user,
                    extra_groups=None if user is None else [],
                    preexec_fn=partial(_signal_with_parent, stop_signal),  # noqa: PLW1509 - this program has one thread
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise SubjectFailed(f"{command[0]} can't be started: {error}") from error
        self._signals[role] = stop_signal
        self._process_ids[role] = self._processes[role].pid

    def await_answer(self, ask: Callable[[int], object], seconds: float) -> None:
        """Call `ask` with 1, 2 … until it raises neither `OSError` nor `SubjectFailed`. Raises
        `SubjectFailed` when a program ended before, or nothing was answered in `seconds`.
        """
        deadline = time.monotonic() + seconds
        for attempt in count(1):
            for role, process in self._processes.items():
                if process.poll() is not None:
                    raise SubjectFailed(f"the {role} ended with {process.returncode}: {self._said(role)}")
            try:
                ask(attempt)
            except (OSError, SubjectFailed) as error:
                if time.monotonic() > deadline:
                    said = " | ".join(f"{role}: {self._said(role)}" for role in self._processes)
                    raise SubjectFailed(f"no answer in {seconds:.0f} s ({error}); {said}") from error
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def stop(self) -> None:
        """Signal all; what has not ended in time is killed, and a line on stderr says so."""
        for role, process in self._processes.items():
            process.send_signal(self._signals[role])
        deadline = time.monotonic() + self._stop_seconds
        for role, process in self._processes.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"bench: the {role} did not end within {self._stop_seconds:.0f} s and is killed", file=sys.stderr)
                process.kill()
                process.wait()
        self._processes.clear()

    def _log(self, role: str) -> Path:
        return self._folder / f"{role}.log"

    def _said(self, role: str) -> str:
        return self._log(role).read_text(errors="replace").strip()[-400:] or "nothing said"


def _signal_with_parent(number: signal.Signals) -> None:
    """In a fresh child: a signal when the benchmark is killed, for the server would run
    on for ever.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
