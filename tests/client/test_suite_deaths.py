"""The client dies at each of its fail points while messages go under cipher suite 1, between the
real programs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from common.fail_points import FailPoint
from tests.client.people import People
from torture.patience import HANG_SECONDS
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        yield running


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


def test_two_processes_of_one_home_at_once(people: People) -> None:
    for name in ("alice", "bob"):
        people.run(name, "register", name)
    people.run("alice", "send", "bob", "first")
    running = [people.start("alice", "send", "bob", f"text {number}") for number in range(6)]
    for process in running:
        _, said = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, said
    texts = people.texts("bob")
    assert texts[0] == "first"
    assert sorted(texts[1:]) == [f"text {number}" for number in range(6)]
