"""Unexpected errors in a thread of a chat or on its screen: the status bar reports them, and what
to do.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from client.chat.conversation import Conversation
from client.chat.events import Broken, Line, Said, TextJob
from client.chat.screen import Screen
from client.chat.workers import Receiver, Sender
from client.connection.handshake import Greeting
from client.mail.inbox import Inbox
from client.messenger import Contact, Messenger
from client.trust.key_exchange import KeyExchange
from common.values import ClientId

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.chat.events import Event

BOB = Contact(ClientId(bytes(16)), "bob")


def conversation() -> Conversation:
    return Conversation(BOB, lambda: 0, lambda: 0.0)


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("of a\x1bpath")


@pytest.mark.parametrize("part", ["sender", "receiver"])
def test_a_thread_that_ends_says_so(
    alice: Messenger, monkeypatch: pytest.MonkeyPatch, part: str, make: Callable[..., Messenger]
) -> None:
    posted: list[Event] = []
    if part == "receiver":
        monkeypatch.setattr(Inbox, "seen", fail)
    else:
        monkeypatch.setattr(KeyExchange, "agree_on_key", fail)
    monkeypatch.setattr(Greeting, "has_signed_in", False)
    sender = Sender("bob", alice.home.another, posted.append)
    receiver = Receiver(0, BOB.client_id, alice.home.another, posted.append, lambda: None)
    worker = receiver if part == "receiver" else sender
    sender.give(TextJob(1, "text"))
    worker.start()
    worker.join(20)
    (broken,) = [event for event in posted if isinstance(event, Broken)]
    assert broken.part == part
    assert broken.error.startswith("ZeroDivisionError: of a\x1bpath (test_workers.py, line ")


def test_the_bar_says_so_from_then_on() -> None:
    talk = conversation()
    assert not talk.is_broken
    said = talk.broken(Broken("receiver", "TypeError: what"))
    assert said.startswith("The receiver of this chat ended with an unexpected error: TypeError: what.")
    assert "start the chat again" in said
    talk.line(Line("connected", good=True))
    left, _, good = talk.bar(100)
    assert (left, good) == (" the receiver has stopped: leave, and start the chat again", False)
    assert talk.is_broken


def shown(alice: Messenger, monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> str:
    sink = io.StringIO()
    with (
        create_pipe_input() as typed,
        create_app_session(input=typed, output=Vt100_Output(sink, lambda: Size(rows=24, columns=200))),
    ):
        talk = conversation()
        screen = Screen(alice.home, talk, "never")
        # The first event is one that the screen can't show.
        monkeypatch.setattr(talk, "line", fail)

        def begin() -> None:
            for event in events:
                screen.post(event)
            typed.send_text("/quit\r")

        screen.run(lambda _: None, begin, [], [])
    return sink.getvalue()


def test_an_event_that_can_not_be_shown_ends_nothing(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(alice, monkeypatch, [Line("connected", good=True), Said("goes on"), Broken("sender", "E\x1b[2J")])
    assert "* The screen of this chat ended with an unexpected error: ZeroDivisionError: of a\\x1bpath" in screen
    assert "* goes on\r\n" in screen
    assert "unexpected error: E\\x1b[2J" in screen
    # Nothing asks where the cursor is.
    assert "\x1b[6n" not in screen


def test_one_bell_a_second() -> None:
    now = iter([0.0, 0.5, 1.0, 1.9, 2.0])
    talk = Conversation(BOB, lambda: 0, lambda: next(now))
    assert [talk.rings() for _ in range(5)] == [True, False, True, False, True]
