"""What the tests of both programs' options have in common: `main` refuses, or ends, and
never serves.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


class Refusals:
    """The sentences with which `main` of a program refuses arguments, with code 78,
    before it serves.
    """

    def __init__(
        self, program: ModuleType, folder: Path, patch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
    ) -> None:
        def serve(*_arguments: object) -> None:
            # It would serve until a signal came.
            raise AssertionError("nothing was refused")

        patch.setattr(program, "serve", serve)
        self._program = program
        self._folder = folder
        self._log = log

    def of(self, *arguments: str) -> str:
        """The last line of the log. The data folder is not made."""
        assert self._program.main([*arguments, "--data-folder", str(self._folder)]) == 78
        assert not self._folder.exists()
        return self._log.records[-1].getMessage()


def assert_no_value(program: ModuleType, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line itself is wrong: code 2, and the option is named."""
    with pytest.raises(SystemExit) as ended:
        program.main([option, value])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err


def last_line_with_60_files(module: str, folder: Path) -> str:
    """Start a program where 60 files may be open: it ends with 78 and one line, which is
    returned.
    """
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", sys.executable, "-m", module, "--data-folder", str(folder)],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    return line
