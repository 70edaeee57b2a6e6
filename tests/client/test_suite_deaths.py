"""The client dies at each of its fail points while messages go under cipher suite 1, between the
real programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from common.fail_points import VARIABLE, FailPoint
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGKILLED = -9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        yield running


class People:
    """Runs `messageu` in homes, perhaps to die at a fail point."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port

    def run(self, home: str, *arguments: str, dies_at: FailPoint | None = None, passes: int = 1) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGEU")}
        if dies_at is not None:
            environment[VARIABLE] = f"{dies_at}:{passes}"
        server = f"127.0.0.1:{self._port}"
        done = subprocess.run(
            [sys.executable, "-m", "client", "--home", str(self._folder / home), "--server", server, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )
        assert done.returncode == (0 if dies_at is None else SIGKILLED), done.stderr
        return done.stdout

    def texts(self, home: str) -> list[str]:
        """The texts that a home receives now, all of suite 1."""
        found = [json.loads(line) for line in self.run(home, "recv", "--json").splitlines()]
        assert {one["kind"] for one in found} <= {"text"}
        assert {one["suite"] for one in found} <= {1}
        return [one["text"] for one in found]


@pytest.fixture
def people(tmp_path: Path, server: Server) -> People:
    return People(tmp_path, server.port)


@pytest.mark.parametrize("point", [FailPoint.CLIENT_KEYS_MADE, FailPoint.CLIENT_KEYS_PUBLISHED])
def test_deaths_while_keys_are_published(people: People, point: FailPoint) -> None:
    people.run("bob", "register", "bob")
    people.run("alice", "register", "alice", dies_at=point)
    people.run("alice", "users")
    people.run("bob", "send", "alice", "hello")
    assert people.texts("alice") == ["hello"]
    people.run("alice", "send", "bob", "and back")
    assert people.texts("bob") == ["and back"]


@pytest.mark.parametrize(
    ("point", "is_kept"),
    [
        (FailPoint.CLIENT_KEY_CLAIMED, False),
        (FailPoint.CLIENT_PAYLOAD_KEPT, True),
        (FailPoint.CLIENT_SEALED, True),
        (FailPoint.CLIENT_SENT, True),
    ],
)
def test_deaths_while_something_is_sent(people: People, point: FailPoint, is_kept: bool) -> None:
    for name in ("alice", "bob"):
        people.run(name, "register", name)
    people.run("alice", "send", "bob", "first", dies_at=point)
    people.run("alice", "send", "bob", "second")
    assert people.texts("bob") == (["first", "second"] if is_kept else ["second"])
    # And in a session that goes both ways.
    people.run("bob", "send", "alice", "answer")
    assert people.texts("alice") == ["answer"]
    if is_kept:
        people.run("alice", "send", "bob", "third", dies_at=point)
        people.run("alice", "send", "bob", "fourth")
        assert people.texts("bob") == ["third", "fourth"]


@pytest.mark.parametrize("point", [FailPoint.CLIENT_FETCHED, FailPoint.CLIENT_OPENED])
@pytest.mark.parametrize("passes", [1, 2])
def test_deaths_while_something_is_received(people: People, point: FailPoint, passes: int) -> None:
    for name in ("alice", "bob"):
        people.run(name, "register", name)
    people.run("bob", "send", "alice", "hello")
    assert people.texts("alice") == ["hello"]
    shown = list[str]()
    for number in range(2):
        people.run("alice", "send", "bob", f"text {number}")
    if point is FailPoint.CLIENT_FETCHED:
        passes = 1
    printed = people.run("bob", "recv", "--json", dies_at=point, passes=passes)
    shown = [json.loads(line)["text"] for line in printed.splitlines()]
    shown += people.texts("bob")
    # What was on the screen when it died is shown once more, and marked.
    assert list(dict.fromkeys(shown)) == ["text 0", "text 1"]
    assert len(shown) <= 3
    people.run("alice", "send", "bob", "after")
    assert people.texts("bob") == ["after"]


def test_deaths_while_a_note_to_oneself_is_sent_and_received(people: People) -> None:
    people.run("alice", "register", "alice")
    expected = list[str]()
    for point in (FailPoint.CLIENT_PAYLOAD_KEPT, FailPoint.CLIENT_SEALED, FailPoint.CLIENT_SENT):
        people.run("alice", "send", "alice", f"dies at {point}", dies_at=point)
        people.run("alice", "send", "alice", f"after {point}")
        expected += [f"dies at {point}", f"after {point}"]
    printed = people.run("alice", "recv", "--json", dies_at=FailPoint.CLIENT_FETCHED)
    printed += people.run("alice", "recv", "--json", dies_at=FailPoint.CLIENT_OPENED)
    shown = [json.loads(line)["text"] for line in printed.splitlines()] + people.texts("alice")
    # What was on the screen when it died is shown once more.
    assert list(dict.fromkeys(shown)) == expected
    assert len(shown) <= len(expected) + 1


def test_two_processes_of_one_home_at_once(people: People, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        people.run(name, "register", name)
    people.run("alice", "send", "bob", "first")
    running = [
        subprocess.Popen(
            [
                sys.executable, "-m", "client", "--home", str(tmp_path / "alice"), "send", "bob", f"text {number}",
            ],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for number in range(6)
    ]  # fmt: skip
    assert [one.wait(HANG_SECONDS) for one in running] == [0] * 6
    texts = people.texts("bob")
    assert texts[0] == "first"
    assert sorted(texts[1:]) == [f"text {number}" for number in range(6)]
