"""People who use `messageu` in homes of their own, each command in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from common.fail_points import VARIABLE, FailPoint
from torture.patience import HANG_SECONDS
from torture.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SIGKILLED = -9


class People:
    """Runs `messageu` in homes under one folder, at one server, perhaps to die at a fail point."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._server = f"127.0.0.1:{port}"

    def start(
        self, home: str, *arguments: str, dies_at: FailPoint | None = None, passes: int = 1
    ) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGEU")}
        if dies_at is not None:
            environment[VARIABLE] = f"{dies_at}:{passes}"
        return subprocess.Popen(
            [
                sys.executable, "-m", "client", "--home", str(self._folder / home), "--server", self._server,
                "--save-dir", str(self._folder / "saved"), *arguments,
            ],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, home: str, *arguments: str, dies_at: FailPoint | None = None, passes: int = 1) -> str:
        """Run a command to its end; what it printed."""
        with self.start(home, *arguments, dies_at=dies_at, passes=passes) as process:
            printed, said = process.communicate(timeout=HANG_SECONDS)
            assert process.returncode == (0 if dies_at is None else SIGKILLED), said
            return printed

    def texts(self, home: str) -> list[str]:
        """The texts that a home receives now, all of suite 1."""
        found = [json.loads(line) for line in self.run(home, "recv", "--json").splitlines()]
        assert {one["kind"] for one in found} <= {"text"}
        assert {one["suite"] for one in found} <= {1}
        return [one["text"] for one in found]
