"""A stranger's test: with README alone, word for word, from the clone to two people who talk."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from client.cli.command import VERIFIED_OF_PUBLISHED
from tests.stories.checkout import check_out, environment, give_port
from tests.stories.terminals import Terminal
from torture.caller import Caller
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> list[list[list[str]]]:
    """The commands of README's first blocks: the server's, then one block for each terminal."""
    beginning = README.split("## The command")[0]
    found = [block.splitlines() for block in re.findall(r"^```\n(.*?)^```", beginning, re.M | re.S)]
    return [[shlex.split(line, comments=True) for line in block] for block in found]


def answers(port: int) -> bool:
    try:
        with Caller(port, patience=1.0):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def running(clone: Path, log: Path) -> Iterator[None]:
    """The server of a clone, with its output in a file, as long as the block lasts."""
    port = int((clone / "myport.info").read_text())
    with (
        log.open("wb") as written,
        subprocess.Popen(
            ["scripts/run"],
            cwd=clone,
            env=environment(clone),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        ) as server,
    ):
        try:
            wait_until(lambda: answers(port), "an answer")
            yield
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
    assert "Traceback" not in log.read_text()


def test_a_stranger(tmp_path: Path) -> None:
    (run, _), (*registering, chat_alice), (chat_bob,) = blocks()
    assert run == ["scripts/run"]
    clone = tmp_path / "messageu"
    check_out(clone)
    give_port(clone)
    log = tmp_path / "log"
    with running(clone, log):
        for words in registering:
            done = subprocess.run(
                words,
                cwd=clone,
                env=environment(clone),
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        with (
            Terminal(clone / "alice", command=chat_alice, environment=environment(clone)) as alice,
            Terminal(clone / "bob", command=chat_bob, environment=environment(clone)) as bob,
        ):
            alice.until("connected").types("hello bob").until(" you [stored]: hello bob")
            bob.until(" alice: hello bob").types("hi alice").until(" you [stored]: hi alice")
            alice.until(" bob: hi alice").types("/quit")
            assert alice.ends() == 0
    # What it says to a stranger is what README says.
    for words in (*registering, chat_alice, chat_bob):
        assert shlex.join(words) in log.read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/security.md", "docs/client.md"])
def test_what_verified_does_not_cover_is_said_where_it_is_spoken_of(page: str) -> None:
    """As `verify` says it, in its help and of every verified contact (trust.story)."""
    words = "server can still cut, repeat and alter messages"
    assert words in VERIFIED_OF_PUBLISHED
    assert words in " ".join((ROOT / page).read_text(encoding="utf-8").split())
