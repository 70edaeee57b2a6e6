"""The subcommands' frame: where settings come from, exit codes, the documentation."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client import errors
from client.__main__ import main
from client.cli import exit_codes
from client.cli.exit_codes import of_failure
from client.cli.output import Output
from client.cli.parser import parser
from client.errors import KeyChanged, ServerAnsweredError, StoreUnusable
from client.identity.home import what_is_there
from client.settings import Flags, Settings
from client.store.home_store import Store
from common.errors import InfoFileError, SettingRejected
from common.values import ClientId, RefusalReason
from common.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from tests.client.fake_gateway import FakeGateway

ROOT = Path(__file__).parent.parent.parent
NO_CONFIG = {"MESSAGEU_CONFIG": "/nonexistent/config.toml"}


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == VERSION
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"messageu {VERSION}\n"


# --- settings
# -------------------------------------------------------------------------------------------------


def test_the_precedence_of_settings(tmp_path: Path) -> None:
    home, config = tmp_path / "home", tmp_path / "config.toml"
    home.mkdir()

    def server(environment: Mapping[str, str], flag: str | None = None) -> tuple[str | None, str]:
        settings = Settings(Flags(home=home, server=flag), {"MESSAGEU_CONFIG": str(config), **environment}, tmp_path)
        return settings.server_setting()[1:]

    assert server({}) == (None, "nowhere")
    (tmp_path / "server.info").write_text("here:1")
    assert server({}) == ("here:1", str(tmp_path / "server.info"))
    config.write_text('server = "configured:1"\npublished_only = true\n')
    assert server({}) == ("configured:1", str(config))
    (home / "server.info").write_text("home:1")
    assert server({}) == ("home:1", str(home / "server.info"))
    variable = {"MESSAGEU_SERVER": "environment:1"}
    assert server(variable) == ("environment:1", "MESSAGEU_SERVER")
    assert server(variable, "flag:1") == ("flag:1", "--server")
    settings = Settings(Flags(published_only=False), {"MESSAGEU_CONFIG": str(config)}, tmp_path)
    assert settings.published_only() is False
    assert Settings(Flags(), {"MESSAGEU_CONFIG": str(config)}, tmp_path).published_only() is True
    assert Settings(Flags(), {**NO_CONFIG, "MESSAGEU_HOME": "/x"}, tmp_path).home == Path("/x")
    assert Settings(Flags(), {**NO_CONFIG, "MESSAGEU_PUBLISHED_ONLY": "no"}, tmp_path).published_only() is False


@pytest.mark.parametrize("text", ["= 1", 'colour = "red"', "server = 1", b"\xff"])
def test_a_configuration_that_can_not_be_used(tmp_path: Path, text: str | bytes) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InfoFileError, match=r"config\.toml"):
        Settings(Flags(), {"MESSAGEU_CONFIG": str(config)}, tmp_path)


@pytest.mark.parametrize("name", ["MESSAGEU_PUBLISHED_ONLY", "MESSAGEU_ANSWER_KEY_REQUESTS", "MESSAGEU_SERVER"])
def test_a_variable_that_can_not_be_used(tmp_path: Path, name: str) -> None:
    settings = Settings(Flags(home=tmp_path), {**NO_CONFIG, name: "perhaps"}, tmp_path)
    with pytest.raises(SettingRejected, match=name):
        _ = (settings.server() if name.endswith("SERVER") else None, settings.published_only())
        settings.answer_key_requests()


def test_a_folder_that_may_not_be_entered_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InfoFileError, match=r"config\.toml: can't be read \(Permission denied\)"):
        Settings(Flags(), {"MESSAGEU_CONFIG": str(tmp_path / "config.toml")}, tmp_path)
    monkeypatch.setattr("client.settings._read_config", lambda _: (None, {}))
    with pytest.raises(InfoFileError, match=r"home/server\.info: can't be read \(Permission denied\)"):
        Settings(Flags(home=tmp_path / "home"), {}, tmp_path).server()


def test_a_user_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_config_path", unknown)
    settings = Settings(Flags(home=tmp_path), {}, tmp_path)
    assert settings.all()[-1] == ("config_file", None, "this user has no home folder")
    for flags in (Flags(home=Path("~nobody who is known/x")), Flags(home=tmp_path, save_dir=Path("~nobody else/y"))):
        with pytest.raises(SettingRejected, match=r"--(home|save-dir): ~nobody .* is nobody's home folder"):
            Settings(flags, {}, tmp_path).save_dir()


def test_the_configuration_lies_in_the_users_folder() -> None:
    setting = next(one for one in Settings(Flags(), {}, Path()).all() if one.name == "config_file")
    assert (setting.value or "").endswith("messageu/config.toml")


# --- exit codes
# -----------------------------------------------------------------------------------------------


def test_every_failure_has_an_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ClientError)]
    kinds.remove(KeyChanged)
    changed = KeyChanged("It failed.", "", name="bob", old_number="1", new_number="2", met=1, since=2)
    for error in (changed, *(kind("It failed.") for kind in kinds)):
        assert of_failure(error)[0] in exit_codes.MEANINGS
    assert of_failure(ServerAnsweredError("full", reason=RefusalReason.MAILBOX_FULL))[0] == exit_codes.OVER_LIMIT
    assert of_failure(ServerAnsweredError("who?", reason=RefusalReason.RECIPIENT_UNKNOWN))[0] == exit_codes.NO_SUCH_USER
    assert of_failure(ServerAnsweredError("9000"))[0] == exit_codes.SERVER_REFUSED
    assert of_failure(ServerAnsweredError("new", reason=999))[0] == exit_codes.SERVER_REFUSED


def test_every_failure_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for error, told in (
        (InfoFileError(tmp_path / "my.info", 3, "is damaged"), "is damaged. Correct the file, restore it from a copy"),
        (errors.NameUnknown("Nobody.", "Did you mean bob?"), "Nobody. Did you mean bob?"),
        (SettingRejected("--server takes HOST:PORT."), "--server takes HOST:PORT."),
    ):
        Output(as_json=False, quiet=True).failure(error)
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    for name in ("sys.stdout", "sys.stderr"):
        monkeypatch.setattr(name, stream)
    output = Output(as_json=True, quiet=False)
    text = "h\u00e9llo \u20ac \U0001f600"
    output.data("message", "", text=text)
    output.say(text)
    output.failure(SettingRejected(text))
    stream.flush()
    assert [json.loads(line)["text"] for line in raw.getvalue().decode().splitlines()] == [text] * 3


@pytest.mark.parametrize("words", [["--json"], ["console", "--json"]])
def test_the_console_speaks_no_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"] == "usage"


def test_nothing_is_asked_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False, quiet=False)
    assert output.confirm("Really?") is None
    assert output.may_prove(registered_here=False) is None
    assert capsys.readouterr() == ("", "")


# --- where nobody lives yet
# -----------------------------------------------------------------------------------


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


def test_what_belongs_to_somebody(tmp_path: Path) -> None:
    assert what_is_there(tmp_path / "home") is None
    (tmp_path / "server.info").touch()
    (tmp_path / "store.lock").touch()
    assert what_is_there(tmp_path) is None
    for name in ("me.info", "my.info", "my.info.pending", "my.info.unfinished-3", "store.db"):
        (tmp_path / name).touch()
        assert what_is_there(tmp_path) == tmp_path / name
        (tmp_path / name).unlink()
    for name in ("store.spool", ".imported"):
        (tmp_path / name).mkdir()
        assert what_is_there(tmp_path) == tmp_path / name
        (tmp_path / name).rmdir()
    with pytest.raises(StoreUnusable, match="Not a directory"):
        what_is_there(tmp_path / "server.info")


# --- the documentation
# ----------------------------------------------------------------------------------------


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
    assert all(name in printed for name in commands())


def test_a_closed_standard_output_is_told_as_closed(tmp_path: Path) -> None:
    """Of every command that prints; no space has to be freed for it."""
    environment = os.environ | NO_CONFIG
    for command in ("config show", "doctor", "completion bash"):
        line = f"{shlex.quote(sys.executable)} -m client --home {shlex.quote(str(tmp_path))} {command} >&-"
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        sentence = "Standard output is closed. Open it; a message that was not printed is given once more."
        assert (done.returncode, " ".join(done.stderr.split())) == (1, f"messageu: {sentence}")
