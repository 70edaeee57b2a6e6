"""A stranger's test: two people do what README says, word for word, and talk."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.stories.terminals import Terminal
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> list[list[list[str]]]:
    """The commands of each block of the section, one block for each person."""
    section = README.split("## Two people chatting\n")[1].split("<!-- chat -->")[0]
    found = [block.splitlines() for block in re.findall(r"^```\n(.*?)^```", section, re.M | re.S)]
    return [[shlex.split(line, comments=True) for line in block] for block in found]


@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="the command brings its own .venv")
def test_a_stranger(tmp_path: Path) -> None:
    (first, *second), (third, *fourth) = ([tuple(words) for words in block] for block in blocks())
    with Server(tmp_path / "server") as server:
        server.start()
        environment = {**os.environ, "MESSAGEU_SERVER": f"127.0.0.1:{server.port}"}
        for words in (first, third):
            done = subprocess.run(
                [str(ROOT / words[0]), *words[1:]],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        ((chat, *alices),), ((_, *bobs),) = second, fourth
        command = str(ROOT / chat)
        with (
            Terminal(tmp_path / "alice", server.port, command=[command, *alices]) as alice,
            Terminal(tmp_path / "bob", server.port, command=[command, *bobs]) as bob,
        ):
            alice.until("connected").types("hello bob").until(" you [stored]: hello bob")
            bob.until(" alice: hello bob").types("hi alice").until(" you [stored]: hi alice")
            alice.until(" bob: hi alice").types("/quit")
            assert alice.ends() == 0


def test_the_screens_are_those_of_this_program() -> None:
    """What can't be told from run to run stands in the captures."""
    page = (ROOT / "docs" / "screens.md").read_text(encoding="utf-8")
    for expected in ("/help  /quit or Ctrl-D", "Does bob see the same number? [y/N]", "ok    outbox: nothing waits"):
        assert expected in page
    assert "/help  /quit or Ctrl-D" in README
