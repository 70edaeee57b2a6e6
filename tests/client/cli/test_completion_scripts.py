"""Completion in the shells: commands, options, files, and the names that a home knows."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.__main__ import main
from client.cli.table import NAMES
from client.store.home_store import Store
from common.values import ClientId

ROOT = Path(__file__).parents[3]


def completed(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = subprocess.run(
        [sys.executable, "-m", "client", "completion", "bash"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    line = " ".join(shlex.quote(word) for word in ("messageu", *words))
    asked = f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _messageu; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_in_bash() -> None:
    assert completed("re") == ["register", "recv", "resend"]
    assert completed("verify", "--s") == ["--safety-number", "--server", "--save-dir"]
    assert completed("config", "s") == ["show"]
    # A value of the user's own is none of ours, even where it looks like one.
    assert completed("send", "bob", "--file", "re") == completed("--server", "re") == completed("history", "se") == []
    assert completed("--quiet", "completion", "") != []


def installed(folder: Path) -> Path:
    """The command, in a folder for PATH."""
    program = folder / "bin" / "messageu"
    program.parent.mkdir()
    start = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -P -m client"
    program.write_text(f'#!/bin/sh\n{start} "$@"\n')
    program.chmod(0o755)
    return program


def test_names_in_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "$(touch pwned) `touch pwned`;'\"&"
    for home, names in (("home", ["barbara", "carol", "two words", odd]), ("other one", ["olivia"])):
        (tmp_path / home).mkdir()
        with contextlib.closing(Store.open(tmp_path / home)) as store:
            store.contacts.replace_list((ClientId(bytes([at] * 16)), name) for at, name in enumerate(names))
    monkeypatch.setenv("PATH", f"{installed(tmp_path).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MESSAGEU_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert completed("send", "bar") == completed("send", "--to", "bar") == ["barbara"]
    assert completed("send", "--to", "barbara", "--to", "car") == ["carol"]
    assert completed("send", "barbara", "car") == completed("register", "car") == completed("send", "--file", "c") == []
    # As they are typed in a shell.
    assert completed("key", "two\\ w") == ["two\\", "words"]
    assert shlex.split(" ".join(completed("key", "\\$"))) == [odd]
    for typed in ("~/other\\ one", '"$HOME"', "'~/other one'"):
        found = completed("--home", typed, "verify", "oli")
        assert found == ([] if "$" in typed else ["olivia"]), typed
    assert not list(tmp_path.rglob("pwned"))
    assert not (ROOT / "pwned").exists()


def test_completion_in_fish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("takes a fish")
    assert main(["completion", "fish"]) == 0
    (tmp_path / "messageu.fish").write_text(capsys.readouterr().out)
    for name in ("notes.txt", "recording.wav"):
        (tmp_path / name).touch()
    (tmp_path / "home").mkdir()
    with contextlib.closing(Store.open(tmp_path / "home")) as store:
        store.contacts.replace_list([(ClientId(bytes(16)), "rebecca"), (ClientId(b"1" * 16), "$(touch pwned)")])
    program = tmp_path / "bin" / "messageu"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -P -m client "$@"\n'
    )
    program.chmod(0o755)

    def offered(line: str) -> list[str]:
        script = f"source messageu.fish; complete -C {shlex.quote(line)}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"},
            check=True,
        )
        assert done.stderr == ""
        return sorted(line.partition("\t")[0] for line in done.stdout.splitlines())

    assert offered("messageu re") == offered("messageu --home recv re") == ["recv", "register", "resend"]
    assert offered("messageu verify bob --s") == ["--safety-number", "--save-dir", "--server"]
    assert offered("messageu config ") == ["show"]
    assert offered("messageu passphrase ") == ["change", "remove", "set"]
    # Files where there can be one, and nowhere else.
    assert offered("messageu send bob --file re") == offered("messageu import re") == ["recording.wav"]
    assert offered("messageu key re") == offered("messageu recv --wait ") == offered("messageu whoami ") == []
    # The names that a home knows, where somebody's name is due.
    assert offered("messageu --home home key re") == offered("messageu --home=home send --to re") == ["rebecca"]
    assert offered("messageu --home home send ") == ["$(touch pwned)", "rebecca"]
    assert "rebecca" not in offered("messageu --home home send bob re") + offered("messageu --home home register re")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_for_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
