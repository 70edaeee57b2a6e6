"""`link-key`: what it makes, what it prints, and what it never shows."""

import json
import re
from pathlib import Path

import pytest

from common import link_keys
from common.link_address import key_text
from storage_worker import admin

KEY = "A" * 42 + "0"
OTHER = "B" * 42 + "0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(folder: Path, *words: str) -> int:
    return admin.main(["--data-folder", str(folder), "link-key", *words])


@pytest.mark.parametrize("program", [link_keys.WORKER, link_keys.GATEWAY])
def test_a_pair_is_made_once_and_its_secret_is_not_shown(
    folder: Path, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, program) == 0
    pair = link_keys.load(folder, program)
    assert pair is not None
    first = capsys.readouterr().out
    assert f"The {program}'s public key is {key_text(pair.public)}." in first
    assert ("--worker tcp://" if program == "worker" else "link-key allow ") + key_text(pair.public) in first
    assert key_text(pair.secret) not in first
    assert run(folder, program) == 0
    assert capsys.readouterr().out == first
    assert run(folder, program, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert line == {"type": "link-key", "program": program, "key": key_text(pair.public), "made": False}


def test_allowed_and_forbidden(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "allow", KEY, "the one in Basel") == 0
    assert run(folder, "allow", OTHER) == 0
    capsys.readouterr()
    assert run(folder, "list") == 0
    assert capsys.readouterr().out == f"{KEY} the one in Basel\n{OTHER}\n"
    assert run(folder, "forbid", KEY) == 0
    assert "One that is open stays so until the worker is started again" in capsys.readouterr().out.replace("\n", " ")
    assert run(folder, "forbid", KEY) == 1
    assert re.search("not among those that are allowed", capsys.readouterr().out)
    assert run(folder, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"type": "link-key-allowed", "key": OTHER, "name": ""}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("allow",), "link-key allow needs a KEY"),
        (("forbid",), "link-key forbid needs a KEY"),
        (("worker", KEY), "link-key worker takes no KEY"),
        (("list", KEY), "link-key list takes no KEY"),
        (("forbid", KEY, "name"), "link-key forbid takes no NAME"),
        (("allow", KEY, "two\nlines"), "at most 64 characters"),
    ],
)
def test_what_does_not_go_together(
    folder: Path, words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *words) == 78
    assert sentence in capsys.readouterr().err


def test_what_is_no_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(folder, "allow", "short")
    assert "43 characters" in capsys.readouterr().err
