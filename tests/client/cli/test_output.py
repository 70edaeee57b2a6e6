"""What commands print: sentences with a next step, JSON in any encoding, nothing asked."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from client import errors
from client.cli.output import Output
from common.errors import InfoFileError, SettingRejected

ROOT = Path(__file__).parents[3]


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


def test_nothing_is_asked_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False, quiet=False)
    assert output.confirm("Really?") is None
    assert output.may_prove(registered_here=False) is None
    assert capsys.readouterr() == ("", "")


def test_a_closed_standard_output_is_told_as_closed(tmp_path: Path) -> None:
    """Of every command that prints; no space has to be freed for it."""
    environment = os.environ | {"MESSAGEU_CONFIG": "/nonexistent/config.toml"}
    for command in ("config show", "doctor", "completion bash"):
        line = f"{shlex.quote(sys.executable)} -m client --home {shlex.quote(str(tmp_path))} {command} >&-"
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        sentence = "Standard output is closed. Open it; a message that was not printed is given once more."
        assert (done.returncode, " ".join(done.stderr.split())) == (1, f"messageu: {sentence}")
