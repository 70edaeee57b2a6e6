"""A real storage worker process for tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """Started at once on `folder`; `log` is complete after `end` or `kill`. `started`:
    all, for the test's end.
    """

    started: ClassVar[list["WorkerProcess"]] = []

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "storage_worker", "--data-folder", str(folder), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        self.started.append(self)

    def wait(self) -> int:
        """The exit code, when it ends by itself."""
        _, self.log = self.process.communicate(timeout=HANG_SECONDS)
        return self.process.returncode

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        _, self.log = self.process.communicate(timeout=HANG_SECONDS)
        return self.process.returncode

    def kill(self) -> None:
        """At once and without a word."""
        self.process.kill()
        self.wait()


@contextmanager
def folder_of_workers(tmp_path: Path) -> Iterator[Path]:
    """A data folder. Workers that were started meanwhile are killed at the end."""
    mask = os.umask(0o022)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    try:
        yield data
    finally:
        os.umask(mask)
        while WorkerProcess.started:
            process = WorkerProcess.started.pop()
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
                process.kill()
