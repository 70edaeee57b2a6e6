"""How messages are shown: a line for people, an object for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.cli import message_lines
from client.cli.output import Output
from client.messages import (
    KeyReceived,
    KeyRequested,
    Received,
    Renewed,
    SavedFile,
    SentMessage,
    Text,
    UnknownKind,
    Unreadable,
)
from client.trust.contacts import Contact
from common.values import ClientId, Username
from tests.client.fake_gateway import SuiteMailroom

if TYPE_CHECKING:
    from client.messenger import Messenger

BOB = ClientId(b"b" * 16)
NOW = 1_700_000_000_000


def received(content: object, name: str | None = "bob", **marks: bool) -> Received:
    given = {"sender_proven": True, "late": False, "repeated": False, "sender_verified": False} | marks
    sender_name = None if name is None else Username(name)
    return Received(7, BOB, sender_name, content, NOW, NOW, message_id=3, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Text("hi"), ": hi"),
        (Text("one\ntwo"), ": one\n    two"),
        (Text("a\x1b[2Jb"), ": a\\x1b[2Jb"),
        (SavedFile(Path("/tmp/a\x07b")), " sent a file: /tmp/a\\x07b"),
        (KeyRequested(), " asks for a symmetric key"),
        (KeyReceived(unasked=False), " sent a symmetric key"),
        (
            KeyReceived(unasked=True),
            " sent a symmetric key that was not asked for; it takes the place of the one in use",
        ),
        (UnknownKind(9), " sent a message of an unknown type (9)"),
        (Unreadable("no key", lost=False), " sent something that can't be decrypted: no key"),
    ],
)
def test_what_is_shown_behind_the_name(content: object, expected: str) -> None:
    assert message_lines.received_parts(received(content)) == ("bob", expected)


def test_a_key_that_came_unasked_from_a_verified_user_replaces_none() -> None:
    _, shown = message_lines.received_parts(received(KeyReceived(unasked=True, only_decrypts=True)))
    assert shown.endswith("that was not asked for; it only decrypts")


def test_marks_and_a_sender_without_a_name() -> None:
    marked = received(Text("x"), sender_proven=False, sender_verified=True, late=True, repeated=True)
    assert message_lines.received_parts(marked)[1] == " [verified, unproven, late, possibly repeated]: x"
    assert message_lines.received_parts(received(Text("x"), None))[0] == f"unknown user {BOB.hex()}"


def test_marks_of_suite_1() -> None:
    marked = received(Text("x"))._replace(suite=1, missing=2, new_session=True)
    assert message_lines.received_parts(marked)[1] == " [2 missing before it, new session]: x"
    overtaken = received(Text("x"))._replace(suite=1, overtaken=True)
    assert message_lines.received_parts(overtaken)[1] == " [sent before the last one]: x"
    # What says so itself has no mark of it.
    said = marked._replace(content=Renewed(0, 0))
    assert message_lines.received_parts(said)[1].startswith(" [2 missing before it] has begun new sessions")
    assert json.loads(message_lines.as_json(said))["new_session"]


@pytest.mark.parametrize(
    ("content", "kind", "more"),
    [
        (Text("hi"), "text", {"text": "hi"}),
        (SavedFile(Path("/tmp/a")), "file", {"path": "/tmp/a"}),
        (KeyRequested(), "key-request", {}),
        (KeyReceived(unasked=True), "key", {"unasked": True}),
        (UnknownKind(9), "unknown", {"kind_number": 9}),
        (Unreadable("damaged", lost=True), "unreadable", {"problem": "damaged", "advice": message_lines.LOST}),
        (Unreadable("no key", lost=False), "unreadable", {"problem": "no key", "advice": message_lines.NEXT_STEP}),
    ],
)
def test_as_an_object(content: object, kind: str, more: dict[str, object]) -> None:
    made = json.loads(message_lines.as_json(received(content)))
    expected = {"type": "message", "direction": "in", "number": 7, "name": "bob", "id": BOB.hex(), "kind": kind}
    assert expected.items() <= made.items()
    assert more.items() <= made.items()


def sent(**fields: object) -> SentMessage:
    message = SentMessage(5, Contact(BOB, "bob"), "hi", None, NOW, None, None, None, waiting=False)
    return message._replace(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (sent(waiting=True), "waiting"),
        (sent(waiting=True, stored_at=NOW), "waiting"),
        (sent(stored_at=NOW), "stored"),
        (sent(problem="refused"), "failed"),
        (sent(), "unknown"),
    ],
)
def test_how_far_a_message_of_ours_has_come(message: SentMessage, state: str) -> None:
    assert message_lines.state_of(message) == state


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (sent(), "hi"),
        (sent(text=None, path=Path("/tmp/a\x07")), "the file /tmp/a\\x07"),
        (sent(text=None), "the contents of a file"),
        (sent(damaged=True), "(its row in store.db was altered or is damaged)"),
    ],
)
def test_what_a_message_of_ours_held(message: SentMessage, shown: str) -> None:
    assert message_lines.sent_content(message) == shown


def test_a_received_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    message_lines.show_received(Output(as_json=False, quiet=False), received(Text("hi")))
    assert capsys.readouterr().out.endswith(" bob: hi\n")


def test_the_suite_is_shown_where_it_is_asked_for() -> None:
    message = received(Text("hi"), sender_verified=True)._replace(suite=1)
    assert message_lines.received_parts(message)[1] == " [verified]: hi"
    assert message_lines.received_parts(message, suite=True)[1] == " [verified, suite 1]: hi"
    assert message_lines.received_parts(message._replace(suite=0), suite=True)[1] == " [verified]: hi"


@pytest.mark.mailroom(kind=SuiteMailroom)
def test_the_history_has_the_suite_of_each_message(
    alice: Messenger, bob: Messenger, capsys: pytest.CaptureFixture[str]
) -> None:
    alice.send("bob", "hello")
    assert len(list(bob.receive())) == 1
    bob.send("alice", "and back")
    assert len(list(alice.receive())) == 1
    capsys.readouterr()
    message_lines.history(alice.home, Output(as_json=False, quiet=False), None, None)
    sent, came = capsys.readouterr().out.splitlines()
    assert sent.endswith(" to bob [suite 1]: hello")
    assert came.endswith(" bob [suite 1]: and back")
    message_lines.history(alice.home, Output(as_json=True, quiet=False), None, None)
    assert [json.loads(line)["suite"] for line in capsys.readouterr().out.splitlines()] == [1, 1]
