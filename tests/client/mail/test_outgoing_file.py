"""What a typed path means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from client.errors import FileUnreadable
from client.mail.outgoing_file import meant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a b.txt", "it's.txt", "plain"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("{0}/a b.txt", "a b.txt"),
        ("'{0}/a b.txt'", "a b.txt"),
        ('"{0}/a b.txt"', "a b.txt"),
        ("{0}/a\\ b.txt", "a b.txt"),
        ("file://{0}/a%20b.txt", "a b.txt"),
        ("~/a b.txt", "a b.txt"),
        ("~/a\\ b.txt", "a b.txt"),
        ("~/'a b.txt'", "a b.txt"),
        ("{0}/it's.txt", "it's.txt"),
        ("'{0}/it'\\''s.txt'", "it's.txt"),
        ('"plain"', "plain"),
    ],
)
def test_what_dragging_gives_is_understood(folder: Path, typed: str, name: str) -> None:
    assert meant(typed.format(folder)).absolute() == folder / name


def test_what_is_there_by_that_very_name_comes_first(folder: Path) -> None:
    for name in ("'plain'", '"plain"', "a\\ b.txt", "~"):
        (folder / name).touch()
        assert meant(name).absolute() == folder / name


def test_what_is_nowhere_is_what_was_typed(folder: Path) -> None:
    for typed in ("'none'", '"none', "a\\ c.txt", "file:///none", "none", "a b", "x\0y", "n" * 5000):
        assert str(meant(typed)) == os.path.normpath(typed) or typed.startswith("file:")
    assert meant("~/none") == folder / "none"


def test_nobodys_home_folder_is_a_sentence(folder: Path) -> None:
    with pytest.raises(FileUnreadable) as caught:
        meant("~no such user/plain")
    assert str(caught.value) == "file not found"
    assert caught.value.advice.startswith("~no such user/plain: ")
    (folder / "~no such user").mkdir()
    (folder / "~no such user" / "plain").touch()
    assert meant("~no such user/plain").absolute() == folder / "~no such user" / "plain"
