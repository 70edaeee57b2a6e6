"""What a drill with users of the library takes for honest, for named, and for wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.messenger import KeyReceived, KeyRequested, Received, Renewed, SavedFile, Text, UnknownKind, Unreadable
from common.values import ClientId
from torture.drill_messages import DrillMessage
from torture.people import Clock, Judge, Judgement

if TYPE_CHECKING:
    from pathlib import Path

    from client.messages import Content


def shown(content: Content, sender: str | None = "alice", suite: int = 1) -> Received:
    return Received(
        1, ClientId(bytes(16)), sender, content, 0, None, sender_proven=True, late=False, repeated=False, suite=suite
    )


def text_of(message: DrillMessage) -> Text:
    return Text(message.content(100).decode("latin-1"))


def test_a_message_is_honest_once() -> None:
    judge = Judge()
    first, second = (judge.message("alice", "bob") for _ in range(2))
    assert judge.look("bob", shown(text_of(second))).judgement is Judgement.HONEST
    assert judge.missing() == [first]
    assert judge.look("bob", shown(text_of(second))).judgement is Judgement.WRONG
    assert judge.look("bob", shown(text_of(first))) == (Judgement.HONEST, shown(text_of(first)), first)
    assert judge.missing() == []


def test_a_file_is_judged_by_its_content(tmp_path: Path) -> None:
    judge, path = Judge(), tmp_path / "file"
    message = judge.message("alice", "bob")
    path.write_bytes(message.content(1000))
    assert judge.look("bob", shown(SavedFile(path))).judgement is Judgement.HONEST
    path.write_bytes(b"something else")
    assert judge.look("bob", shown(SavedFile(path))).judgement is Judgement.WRONG
    assert not path.exists()


@pytest.mark.parametrize("what", ["altered", "another sender", "another recipient", "never sent", "another suite"])
def test_everything_else_that_looks_like_a_message_is_wrong(what: str) -> None:
    judge = Judge()
    message = judge.message("alice", "bob")
    seen = {
        "altered": shown(Text(text_of(message).text[:-1])),
        "another sender": shown(text_of(message), "carol"),
        "another recipient": shown(text_of(message._replace(recipient="carol"))),
        "never sent": shown(text_of(message._replace(number=2))),
        "another suite": shown(text_of(message), suite=0),
    }[what]
    assert judge.look("bob", seen).judgement is Judgement.WRONG
    to_carol = judge.message("alice", "carol")
    assert judge.look("bob", shown(text_of(to_carol))).judgement is Judgement.WRONG


@pytest.mark.parametrize("content", [KeyReceived(), KeyRequested(), Renewed(1, 1)])
def test_what_is_about_keys_is_of_the_suite_that_they_have(content: Content) -> None:
    assert Judge().look("bob", shown(content)).judgement is Judgement.OF_KEYS
    assert Judge().look("bob", shown(content, suite=0)).judgement is Judgement.WRONG
    assert Judge(0).look("bob", shown(content, suite=0)).judgement is Judgement.OF_KEYS


def test_what_says_of_itself_that_it_is_not_to_be_believed_is_named() -> None:
    for suite in (0, 1):
        assert Judge().look("bob", shown(Unreadable("it was altered"), suite=suite)).judgement is Judgement.NAMED
        assert Judge().look("bob", shown(UnknownKind(9), suite=suite)).judgement is Judgement.WRONG


def test_the_clock_stands_still() -> None:
    clock = Clock()
    before = clock()
    assert clock() == before
    clock.pass_hours(0.5)
    assert clock() == before + 1800
