"""Make the project's .venv with the pinned packages, or find in a moment that it is there already.

    _setup.py run|dev

Called by scripts/_setup.sh, and by the scripts in Python beside it (`continue_in_venv`), with the
standard library alone. `run` is what the programs need, `dev` what the checks need on top. What it
holds to:

- A finished .venv carries a stamp: the pins, the Python version and the place it was made for.
  Equal stamp, no work.
- While it is being changed it carries a mark instead. A mark without a living owner means that
  somebody was interrupted, and the .venv is made again from nothing.
- A lock lets one set-up work at a time; the others wait and then find it done. pip holds the lock
  too, so that it counts even when its own set-up was killed.
- Whatever goes wrong is told in one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
REQUIREMENTS = {
    "run": ("requirements.txt",),
    "dev": ("requirements.txt", "requirements-dev.txt"),
}
UNFINISHED = "messageu-unfinished"


class SetUpFailed(Exception):
    """One sentence for the user."""


class SetUp:
    """The .venv of one project folder; `call` runs a program and returns its exit code
    and what it wrote.
    """

    def __init__(
        self,
        root: Path,
        call: Callable[[Sequence[str]], tuple[int, str]],
        say: Callable[[str], None],
        wanted_python: str | None = None,
    ) -> None:
        self._root = root
        self._venv = root / ".venv"
        self._python = self._venv / "bin" / "python"
        self._call = call
        self._say = say
        self._wanted_python = wanted_python

    def is_ready(self, level: str) -> bool:
        """Whether the finished .venv fits the pins, the place and the Python that is asked for."""
        stamp = self._stamp_file(level)
        try:
            return (
                not (self._venv / UNFINISHED).exists()
                and stamp.read_text(encoding="utf-8") == self.stamp(level)
                and (self._wanted_python is None or self._wanted_python == self._version())
            )
        except OSError:
            return False

    def stamp(self, level: str) -> str:
        """Say what the .venv must have been made from."""
        pins = hashlib.sha256()
        for name in REQUIREMENTS[level]:
            pins.update((self._root / name).read_bytes())
        return f"{pins.hexdigest()}\n{self._version()}\n{self._root}\n"

    def make(self, level: str) -> None:
        """Make the .venv, or bring it up to date. The caller holds the lock."""
        if not self._is_usable():
            self._say(f"Setting up {self._venv} with the packages that MessageU needs; this happens once.")
            self._make_anew()
        else:
            self._say(f"Bringing {self._venv} up to date.")
            self._mark()
        self._install(level)
        for done in REQUIREMENTS if level == "dev" else (level,):
            write_whole(self._stamp_file(done), self.stamp(done))
        (self._venv / UNFINISHED).unlink()

    def _is_usable(self) -> bool:
        """Whether packages may be added to what is there: made here, to its end, with the
        Python that is wanted.
        """
        if (self._venv / UNFINISHED).exists():
            return False
        for level in REQUIREMENTS:
            with contextlib.suppress(OSError):
                _, version, place = self._stamp_file(level).read_text(encoding="utf-8").splitlines()
                return (
                    place == str(self._root) and version == self._version() and self._wanted_python in {None, version}
                )
        return False

    def _make_anew(self) -> None:
        if os.pathsep in str(self._root):
            raise SetUpFailed(f"A Python environment cannot live in a folder with a colon in its name: {self._root}")
        if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
            raise SetUpFailed(
                f"This Python ({sys.executable}) comes without its venv module; install it "
                "(on Debian and Ubuntu: the package python3-venv) and try again."
            )
        # A link is taken away, not what it leads to.
        if self._venv.is_symlink():
            self._venv.unlink()
        shutil.rmtree(self._venv, ignore_errors=True)
        self._venv.mkdir(exist_ok=True)
        self._mark()
        base = getattr(sys, "_base_executable", None) or sys.executable
        code, output = self._call([base, "-m", "venv", str(self._venv)])
        if code != 0:
            raise SetUpFailed(f"The Python environment {self._venv} could not be made: {last_line(output)}")

    def _install(self, level: str) -> None:
        options = ["--quiet", "--no-input", "--disable-pip-version-check"]
        requirements = str(self._root / REQUIREMENTS[level][-1])
        code, output = self._call([str(self._python), "-m", "pip", "install", *options, "-r", requirements])
        if code != 0:
            raise SetUpFailed(
                f"The packages could not be installed; is there a network? pip's last word: {last_line(output)}"
            )

    def _mark(self) -> None:
        (self._venv / UNFINISHED).touch()

    def _stamp_file(self, level: str) -> Path:
        return self._venv / f"messageu-{level}"

    def _version(self) -> str:
        """Return the version of the .venv's Python; OSError when it does not run."""
        code, output = self._call([str(self._python), "-V"])
        if code != 0:
            raise OSError(f"{self._python} does not run")
        return output.strip()


def last_line(text: str) -> str:
    """Return the last line that says something, an error's before any other."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["(nothing)"])[-1]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there with all its text or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[int]:
    """Hold the folder for oneself; whoever comes second waits."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def call(command: Sequence[str], keep_open: Sequence[int] = ()) -> tuple[int, str]:
    """Run a program to its end; when the script that waits for us is gone, end it.
    OSError when it is not there.
    """
    parent = os.getppid()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=keep_open,
    ) as program:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, _ = program.communicate(timeout=0.5)
                    return program.returncode, output
                if os.getppid() != parent:
                    raise SetUpFailed("The set-up was interrupted; the next start does it again.")
        finally:
            program.kill()


def say(text: str) -> None:
    """Tell the user; stdout belongs to the program that is started afterwards."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Make sure that the .venv is there."""
    if len(arguments) != 1 or arguments[0] not in REQUIREMENTS:
        say("usage: _setup.py run|dev")
        return 64
    level = arguments[0]
    if sys.version_info < OLDEST_PYTHON:
        say(f"MessageU needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")
        return 1
    wanted = f"Python {sys.version.split()[0]}" if os.environ.get("PYTHON") else None
    try:
        if SetUp(ROOT, call, say, wanted).is_ready(level):
            return 0
        with lock(ROOT / "scripts") as held:
            set_up = SetUp(ROOT, lambda command: call(command, [held]), say, wanted)
            if not set_up.is_ready(level):
                set_up.make(level)
    except SetUpFailed as failure:
        say(str(failure))
        return 1
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            say(
                f"This user may not make or use a Python environment in {ROOT} ({error.strerror}: {error.filename}); "
                "copy the project into a folder of your own."
            )
        else:
            say(f"The Python environment could not be set up: {error}")
        return 1
    except KeyboardInterrupt:
        say("The set-up was interrupted; the next start does it again.")
        return 130
    return 0


def continue_in_venv(level: str) -> None:
    """Go on only where the packages of `level` are: as the same command, under the Python of the
    .venv.

    Whatever Python a script was started with. Where there can be no .venv, it ends here, with one
    sentence.
    """
    code = main([level])
    if code != 0:
        sys.exit(code)
    venv = ROOT / ".venv"
    if Path(sys.prefix) != venv:
        python = str(venv / "bin" / "python")
        os.execv(python, [python, *sys.orig_argv[1:]])  # noqa: S606 - there is nothing for a shell to do


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
