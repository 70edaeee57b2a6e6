"""The command `messageu` as a program, in the homes of several people."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from torture.patience import HANG_SECONDS
from torture.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it for the person `name`, whose home is in `folder`, as received files are."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "client", "--home", str(folder / name), "--save-dir", str(folder / "in"), *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(folder / "none.toml")},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


def done(folder: Path, name: str, *words: str) -> str:
    """Run it, which has to succeed; all that it said, in one line."""
    ended = run(folder, name, *words)
    assert ended.returncode == 0, ended.stderr
    return " ".join((ended.stdout + ended.stderr).split())
