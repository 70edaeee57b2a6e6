"""Get the rivals from the system's packages.

Owns: one call of apt-get.
Promises: reports a problem in one sentence; installs only the rivals' packages and their
dependencies.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence


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


def _call(command: Sequence[str]) -> int:
    return subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode
