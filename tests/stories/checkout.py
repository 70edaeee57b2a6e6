"""The project as a stranger gets it: cloned, with the files as they are here now, and a port of its
own.

What a stranger's first command takes a minute for is made in a moment: its .venv is a real one,
with the packages of the one that runs the tests instead of downloaded ones.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import _setup
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, free_port

if TYPE_CHECKING:
    from pathlib import Path


def check_out(folder: Path, *, set_up: bool = True) -> None:
    """Clone the project into a folder that is not there yet; `set_up`: with the .venv
    that any first command makes.
    """
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    if listed.returncode != 0 or _git("clone", "--quiet", str(ROOT), str(folder), cwd=ROOT).returncode != 0:
        pytest.skip("not a git checkout")
    # What is changed here and not committed is what is to be tested.
    for name in filter(None, _git("ls-files", "-z", cwd=folder).stdout.split("\0")):
        if not (ROOT / name).exists():
            (folder / name).unlink()
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    if not set_up:
        return
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True, timeout=HANG_SECONDS
    )
    (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (packages / "those-of-this-run.pth").write_text("\n".join(site.getsitepackages()))
    made = _setup.SetUp(folder, _setup.call, _setup.say)
    for level in _setup.REQUIREMENTS:
        (folder / ".venv" / f"messageu-{level}").write_text(made.stamp(level))
        assert made.is_ready(level)


def give_port(folder: Path) -> int:
    """Let the checkout's server use a port that is free; which one."""
    port = free_port()
    (folder / "myport.info").write_text(f"{port}\n")
    (folder / "server.info").write_text(f"127.0.0.1:{port}\n")
    return port


def environment(folder: Path) -> dict[str, str]:
    """The environment for what is started in a checkout, with its commands on the PATH as
    README has it.
    """
    ours = ("MESSAGEU_", "COVERAGE_", "PYTHON")
    found = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    found["PATH"] = f"{folder}/scripts/bin{os.pathsep}{found.get('PATH', os.defpath)}"
    return found | {"MESSAGEU_CONFIG": str(folder / "config.toml"), "TZ": "UTC"}


def _git(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
