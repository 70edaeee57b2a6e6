"""Every command in a folder without a home: its exit code, one sentence, and nothing left
behind.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.__main__ import main
from client.cli.parser import parser
from common.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.client.fake_gateway import FakeGateway


ROOT = Path(__file__).parent.parent.parent


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == VERSION
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"messageu {VERSION}\n"


@pytest.mark.parametrize("words", [["--json"], ["console", "--json"]])
def test_the_console_speaks_no_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"] == "usage"


def commands() -> dict[str, argparse.ArgumentParser]:
    return dict(parser().commands())


# Each with its exit code; registering under a name and importing a home that can be are the two
# that move in.
IN_NOBODYS_FOLDER = {
    "register ''": 2,
    "whoami": 8,
    "users": 8,
    "key bob": 8,
    "verify bob --accept-new": 8,
    "block bob": 8,
    "unblock bob": 8,
    "mute bob": 8,
    "unmute bob": 8,
    "blocked": 8,
    "send bob hello": 8,
    "send bob --file {here}/notes": 8,
    "recv --wait 1": 8,
    "chat bob": 8,
    "watch": 8,
    "resend": 8,
    "history": 8,
    "export {here}/new": 8,
    "import {here}/notes --passphrase-file {here}/notes": 2,
    "import {here}/missing --passphrase-file {here}/notes": 2,
    "passphrase set --new-passphrase-file {here}/notes": 8,
    "passphrase change --new-passphrase-file {here}/notes": 8,
    "passphrase remove": 8,
    "account delete": 8,
    "account move 127.0.0.1:2 --yes": 8,
    "address": 0,
    "doctor": 8,
    "console": 0,
    "config show": 0,
    "completion bash": 0,
}


def test_every_command_is_tried_in_nobodys_folder() -> None:
    assert {line.split()[0] for line in IN_NOBODYS_FOLDER} == set(commands())


@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
@pytest.mark.parametrize(("line", "code"), IN_NOBODYS_FOLDER.items())
def test_nothing_is_left_in_nobodys_folder(
    line: str, code: int, there: bool, tmp_path: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    if there:
        home.mkdir()
        (home / "server.info").write_text(str(gateway.address))
        # None of anybody's own.
        (home / "notes.txt").touch()
    (tmp_path / "notes").write_text("no home at all\n")
    for name, value in (("HOME", tmp_path), ("MESSAGEU_CONFIG", tmp_path / "config.toml")):
        monkeypatch.setenv(name, str(value))
    # For the console: every choice, and a name that nobody can have.
    typed = "120\n130\nbob\n140\n150\nbob\nhello\n151\nbob\n152\nbob\n153\nbob\nfile\n110\n\n0\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    before = sorted(tmp_path.rglob("*"))
    words = [word.format(here=tmp_path) for word in shlex.split(line)]
    assert main(["--home", str(home), "--server", str(gateway.address), *words]) == code
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("line", [*IN_NOBODYS_FOLDER, "register zed"])
def test_a_home_that_may_not_be_entered_is_one_sentence(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    real_stat, real_open, real_list, real_file = os.stat, os.open, os.listdir, io.open

    def denied(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if str(path).startswith(f"{home}/") or (real is real_list and str(path) == str(home)):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *rest, **named)

        return call

    for where, real in (
        ("os.stat", real_stat), ("os.open", real_open), ("os.listdir", real_list), ("io.open", real_file),
    ):  # fmt: skip
        monkeypatch.setattr(where, denied(real))
    (tmp_path / "notes").write_text("no home at all\n")
    monkeypatch.setenv("MESSAGEU_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    words = [word.format(here=tmp_path) for word in shlex.split(line)]
    code = main(["--home", str(home), "--server", "127.0.0.1:1", *words])
    out, err = capsys.readouterr()
    if words[0] in {"config", "completion"}:
        assert (code, err) == (0, "")
    elif words == ["register", ""]:
        assert code == 2
    elif words[0] == "doctor":
        assert code == 1
        assert "WRONG store: " in out
        assert err == ""
    else:
        # The console's codes are two.
        assert code == (2 if words[0] == "console" else 1)
        assert "Permission denied" in err
        assert err.count("\n") == 1
