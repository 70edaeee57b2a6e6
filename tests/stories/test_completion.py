"""Completion as a person meets it: Tab, in an interactive shell, after what README and
docs say to type.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from client.store.home_store import Store
from common.values import ClientId
from tests.stories.terminals import Terminal
from torture.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAB, CTRL_U = "\t", "\x15"
NO_SERVER = 1


@contextlib.contextmanager
def shell(tmp_path: Path, *command: str) -> Iterator[Terminal]:
    """A shell that finds `messageu`, as after an installation."""
    program = tmp_path / "bin" / "messageu"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m client "$@"\n')
    program.chmod(0o755)
    for name in ("notes.txt", "my photo.png"):
        (tmp_path / name).touch()
    (tmp_path / "home").mkdir()
    variables = [
        f"PATH={program.parent}:{os.environ['PATH']}", f"PYTHONPATH={ROOT}", "PS1=> ", "INPUTRC=/dev/null", "HISTFILE=",
        f"MESSAGEU_HOME={tmp_path / 'home'}",
    ]  # fmt: skip
    with Terminal(tmp_path / "home", NO_SERVER, command=["env", *variables, *command]) as terminal:
        yield terminal


@pytest.fixture(params=["bash", "zsh"])
def tabbing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A shell that has read the completion; zsh where there is one."""
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"takes a {name}")
    bare, before = {"bash": (("--norc", "--noprofile"), ""), "zsh": (("-f",), "autoload -U compinit; compinit -D; ")}[
        name
    ]
    with shell(tmp_path, name, *bare, "-i") as terminal:
        yield terminal.types(f"{before}source <(messageu completion {name}); echo re''ady").until("ready")


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Terminal]:
    with shell(tmp_path, "bash", "--norc", "--noprofile", "-i") as terminal:
        yield terminal.types("source <(messageu completion bash); echo re''ady").until("ready")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        # Each goes on after the Tab, so that the space behind a finished word is seen too.
        (("messageu se", "bob --f", "no", ""), "messageu send bob --file notes.txt"),
        (("messageu send bob --file my", "--q", ""), r"messageu send bob --file my\ photo.png --quiet"),
        (("messageu --quiet ver", "bob --saf", ""), "messageu --quiet verify bob --safety-number"),
        (("messageu import no", "--passphrase-f", "n", ""), "messageu import notes.txt --passphrase-file notes.txt"),
        (("messageu completion ba", ""), "messageu completion bash"),
    ],
)
def test_tab_completes_what_is_typed(tabbing: Terminal, typed: tuple[str, ...], line: str) -> None:
    for part in typed:
        tabbing.types(part, end=TAB if part else "")
    tabbing.until(f"> {line} ")


def knows(home: Path, *names: str) -> None:
    with contextlib.closing(Store.open(home)) as store:
        store.contacts.replace_list((ClientId(number.to_bytes(16, "big")), name) for number, name in enumerate(names))


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (("messageu send bar", "hi", ""), "messageu send barbara hi"),
        (("messageu send --to bar", "--to car", "hi", ""), "messageu send --to barbara --to carol hi"),
        (("messageu history car", "--sea", ""), "messageu history carol --search"),
        (("messageu --home other verify oli", "--saf", ""), "messageu --home other verify olivia --safety-number"),
        (("messageu --home=other key oli", "--q", ""), "messageu --home=other key olivia --quiet"),
        (("messageu key two", "--q", ""), r"messageu key two\ words --quiet"),
    ],
)
def test_tab_completes_names(tmp_path: Path, tabbing: Terminal, typed: tuple[str, ...], line: str) -> None:
    knows(tmp_path / "home", "barbara", "carol", "two words")
    (tmp_path / "other").mkdir()
    knows(tmp_path / "other", "olivia")
    for part in typed:
        tabbing.types(part, end=TAB if part else "")
    tabbing.until(f"> {line}")


def test_tab_twice_shows_what_there_is(bash: Terminal) -> None:
    bash.types("messageu re", end=TAB + TAB).until("recv").until("register")
    # Nothing but files behind an option that takes one.
    bash.types(f"{CTRL_U}messageu send bob --file ", end=TAB + TAB).until("my photo.png").until("notes.txt")
    assert "--quiet" not in str(bash)
    bash.types(f"{CTRL_U}messageu config s", end=TAB).until("> messageu config show ")
