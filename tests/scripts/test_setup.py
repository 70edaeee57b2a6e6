"""The set-up with a pip that only pretends; nothing is downloaded."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import _setup
from scripts._setup import SetUp, SetUpFailed, last_line, lock, write_whole
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT = Path(__file__).parent.parent.parent
VERSION = "Python 3.11.7"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project folder, with a space in its name, that has the pins and the scripts."""
    root = tmp_path / "my project"
    (root / "scripts").mkdir(parents=True)
    (root / "requirements.txt").write_text("one==1\n")
    (root / "requirements-dev.txt").write_text("-r requirements.txt\ntwo==2\n")
    for name in ("_setup.sh", "_setup.py"):
        shutil.copy(PROJECT / "scripts" / name, root / "scripts" / name)
    return root


class Machine:
    """Stands for the programs that the set-up calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.called: list[str] = []
        self.said: list[str] = []
        self.pip_says = (0, "")
        self.venv_says = (0, "")
        self.version = VERSION

    def call(self, command: Sequence[str]) -> tuple[int, str]:
        python = self.root / ".venv" / "bin" / "python"
        if command[1:] == ["-V"]:
            if not python.exists():
                raise FileNotFoundError(python)
            return python.stat().st_size and 1, self.version + "\n"
        if command[1:3] == ["-m", "venv"]:
            self.called.append("venv")
            python.parent.mkdir(parents=True)
            python.touch()
            return self.venv_says
        assert command[1:4] == ["-m", "pip", "install"]
        self.called.append("pip " + Path(command[-1]).name)
        return self.pip_says

    def set_up(self, wanted_python: str | None = None) -> SetUp:
        return SetUp(self.root, self.call, self.said.append, wanted_python)

    def went(self, level: str, wanted_python: str | None = None) -> list[str]:
        """Do what main does, and return what was called for it."""
        self.called.clear()
        set_up = self.set_up(wanted_python)
        if not set_up.is_ready(level):
            set_up.make(level)
            assert self.set_up(wanted_python).is_ready(level)
        return list(self.called)


@pytest.fixture
def machine(root: Path) -> Machine:
    return Machine(root)


def test_the_first_time_makes_all_and_the_second_nothing(machine: Machine) -> None:
    assert machine.went("run") == ["venv", "pip requirements.txt"]
    assert machine.went("run") == []
    assert len(machine.said) == 1


def test_the_checks_add_to_what_is_there(machine: Machine) -> None:
    machine.went("run")
    assert machine.went("dev") == ["pip requirements-dev.txt"]
    assert machine.went("run") == []


def test_what_the_checks_need_includes_what_the_programs_need(machine: Machine) -> None:
    machine.went("dev")
    assert machine.went("run") == []


def test_other_pins_are_installed_on_top(machine: Machine) -> None:
    machine.went("dev")
    (machine.root / "requirements.txt").write_text("one==1.1\n")
    assert machine.went("run") == ["pip requirements.txt"]
    assert machine.went("dev") == ["pip requirements-dev.txt"]


def test_an_interrupted_set_up_is_made_again_from_nothing(machine: Machine) -> None:
    machine.pip_says = (1, "Collecting one\nERROR: no route to host\n")
    with pytest.raises(SetUpFailed, match=r"is there a network\? pip's last word: ERROR: no route to host"):
        machine.went("run")
    machine.pip_says = (0, "")
    assert machine.went("run") == ["venv", "pip requirements.txt"]


def test_an_interrupted_update_too(machine: Machine) -> None:
    machine.went("run")
    machine.pip_says = (1, "")
    with pytest.raises(SetUpFailed):
        machine.went("dev")
    machine.pip_says = (0, "")
    assert not machine.set_up().is_ready("run")
    assert machine.went("dev") == ["venv", "pip requirements-dev.txt"]


def test_a_venv_of_unknown_making_is_made_again(machine: Machine) -> None:
    (machine.root / ".venv" / "bin").mkdir(parents=True)
    (machine.root / ".venv" / "bin" / "python").touch()
    assert machine.went("run")[0] == "venv"


def test_a_venv_that_is_a_link_elsewhere_leaves_that_place_alone(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (machine.root / ".venv").symlink_to(elsewhere)
    assert machine.went("run")[0] == "venv"
    assert (elsewhere / "file").exists()


def test_a_venv_whose_python_is_gone_or_fails_is_made_again(machine: Machine) -> None:
    machine.went("run")
    python = machine.root / ".venv" / "bin" / "python"
    python.unlink()
    assert machine.went("run")[0] == "venv"
    python.write_text("not empty: the fake fails")
    assert machine.went("run")[0] == "venv"


def test_another_python_than_it_was_made_with_makes_it_again(machine: Machine) -> None:
    machine.went("run")
    machine.version = "Python 3.12.1"
    assert machine.went("run")[0] == "venv"


def test_the_python_that_was_asked_for_counts(machine: Machine) -> None:
    machine.went("run")
    assert machine.went("run", wanted_python=VERSION) == []
    assert not machine.set_up("Python 3.13.0").is_ready("run")


def test_a_copied_project_gets_a_venv_of_its_own(machine: Machine, tmp_path: Path) -> None:
    machine.went("run")
    copy = shutil.copytree(machine.root, tmp_path / "copy")
    assert Machine(copy).went("run")[0] == "venv"


def test_a_venv_that_cannot_be_made_is_told(machine: Machine) -> None:
    machine.venv_says = (1, "Error: no space left on device\n")
    with pytest.raises(SetUpFailed, match="could not be made: Error: no space left"):
        machine.went("run")


def test_a_python_without_its_venv_module_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(SetUpFailed, match="python3-venv"):
        machine.went("run")


def test_a_colon_in_the_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetUpFailed, match="colon"):
        SetUp(tmp_path / "a:b", Machine(tmp_path).call, print).make("run")


def test_the_last_line_that_says_something() -> None:
    assert last_line("a\nb\n\n") == "b"
    assert last_line("ERROR: a\nb\n") == "ERROR: a"
    assert last_line("") == "(nothing)"


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "stamp", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["stamp"]


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    with lock(tmp_path):

        def second() -> None:
            with lock(tmp_path):
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_calling_a_program() -> None:
    assert _setup.call([sys.executable, "-c", "print('out'); raise SystemExit(3)"]) == (3, "out\n")


def test_main_tells_how_to_call_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert _setup.main(["else"]) == 64
    assert "usage" in capsys.readouterr().err


@pytest.fixture
def as_main(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let main work on the pretended project."""
    monkeypatch.setattr(_setup, "ROOT", machine.root)
    monkeypatch.setattr(_setup, "call", lambda command, keep_open=(): machine.call(command))
    monkeypatch.delenv("PYTHON", raising=False)
    return machine


def test_main_makes_it_once(as_main: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert [_setup.main(["run"]), _setup.main(["run"])] == [0, 0]
    assert as_main.called == ["venv", "pip requirements.txt"]
    assert capsys.readouterr().err.count("\n") == 1


def test_main_tells_failures_in_a_sentence(as_main: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    as_main.pip_says = (1, "ERROR: no network")
    assert _setup.main(["run"]) == 1
    assert capsys.readouterr().err.endswith("ERROR: no network\n")
    shutil.rmtree(as_main.root / "scripts")
    assert _setup.main(["run"]) == 1
    assert "could not be set up" in capsys.readouterr().err


def test_main_tells_a_user_who_may_not_write_here(
    as_main: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(_self: SetUp, _level: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(as_main.root / ".venv"))

    monkeypatch.setattr(SetUp, "make", denied)
    assert _setup.main(["run"]) == 1
    told = capsys.readouterr().err
    assert f"in {as_main.root} (Read-only file system: {as_main.root}/.venv)" in told
    assert told.count("\n") == 1


def test_main_ends_quietly_when_interrupted(
    as_main: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SetUp, "make", interrupted)
    assert _setup.main(["run"]) == 130
    assert "next start" in capsys.readouterr().err
    assert as_main.called == []


def test_main_refuses_an_old_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_setup, "OLDEST_PYTHON", (99, 0))
    assert _setup.main(["run"]) == 1
    assert "or newer" in capsys.readouterr().err


# The shell's part, as the scripts use it.


def shell(root: Path, text: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    script = root / "scripts" / "probe"
    script.write_text(f'#!/bin/sh\nset -eu\n. "$(dirname -- "$0")/_setup.sh"\n{text}\n')
    script.chmod(0o755)
    return subprocess.run(
        [script],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def make_a_finished_venv(root: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    write_whole(root / ".venv" / "messageu-run", SetUp(root, _setup.call, print).stamp("run"))


def test_the_shell_finds_a_finished_venv_from_anywhere(root: Path, tmp_path: Path) -> None:
    make_a_finished_venv(root)
    done = shell(root, 'set_up run; echo "$root|$MESSAGEU_ROOT|$PWD"', cwd=tmp_path, PYTHON="")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{root}|{root}|{tmp_path}\n"


def test_a_python_that_is_none_is_told(root: Path, tmp_path: Path) -> None:
    done = shell(root, "set_up run; echo never", cwd=tmp_path, PYTHON="/no/such/python")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "PYTHON is set to '/no/such/python', which is no Python 3.11 or newer.\n"


def test_no_python_at_all_is_told(root: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dirname", "sh"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    done = shell(root, "set_up run; echo never", cwd=tmp_path, PATH=str(tools), PYTHON="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("MessageU needs Python 3.11 or newer, and none is on the PATH")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--help"], 0, "usage: scripts/run\n"),
        (["-h"], 0, "usage: scripts/run\n"),
        (["--port", "1357"], 2, "scripts/run takes no arguments: "),
        ([""], 2, "scripts/run takes no arguments: "),
    ],
)
def test_the_server_is_not_started_by_arguments(root: Path, words: list[str], code: int, sentence: str) -> None:
    shutil.copy(PROJECT / "scripts" / "run", root / "scripts" / "run")
    done = subprocess.run(
        ["sh", root / "scripts" / "run", *words], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == code
    assert (done.stderr if code else done.stdout).startswith(sentence)
    # Nothing was made, nor run.
    assert sorted(path.name for path in root.iterdir()) == ["requirements-dev.txt", "requirements.txt", "scripts"]
