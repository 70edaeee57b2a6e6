"""Ctrl-C at every step of sending and of receiving: nothing is lost, nothing comes twice unmarked,
no half file stays.

A step is whatever touches the disk or the network. Each attempt is interrupted one step later than
the one before, until one comes through; each is a program that starts anew.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from client.connection.server_link import ServerLink
from client.connection.transport import PlainTransport
from client.messenger import KeyReceived, Messenger, SavedFile, SentMessage, Text
from client.store.database import Database
from tests.client.fake_gateway import ExtendedMailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


STEPS = (
    (ServerLink, "poll"),
    (PlainTransport, "send"),
    (Database, "run"),
    (Database, "rows"),
    (os, "fsync"),
    (os, "open"),
)
MUCH_LATER = 2**50
"""What an interrupt left beside the store is removed after a day."""


class Interrupts:
    """Raises KeyboardInterrupt before step number `at`; 0: never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 0
        self._passed = 0
        for owner, name in STEPS:
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def before(self, step: int) -> None:
        self.at, self._passed = step, 0

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **named: Any) -> Any:
            self._passed += 1
            if self._passed == self.at:
                raise KeyboardInterrupt
            return real(*given, **named)

        return step


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch) -> Interrupts:
    return Interrupts(monkeypatch)


def attempts(interrupts: Interrupts, work: Callable[[int], None]) -> int:
    """Do the work again and again, each time interrupted one step later, until it comes
    through; how often it was.
    """
    for step in itertools.count(1):
        interrupts.before(step)
        try:
            work(step)
        except KeyboardInterrupt:
            continue
        finally:
            interrupts.before(0)
        return step - 1
    raise AssertionError


def test_sending_a_text_with_its_first_key(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], interrupts: Interrupts
) -> None:
    def send(step: int) -> None:
        with make("alice") as messenger:
            # A key each time: agreeing on one is a part of what is interrupted.
            messenger.home.directory.meet("bob")
            messenger.send_key("bob")
            messenger.home.sending.send_text("bob", f"text {step}")

    assert attempts(interrupts, send) > 40
    again = make("alice")
    again.send_waiting()
    noted = [message.text for message in again.history() if isinstance(message, SentMessage)]
    came = [message.content.text for message in bob.receive() if isinstance(message.content, Text)]
    # Whatever the history has was stored, once; all that bob got is readable, and in order.
    assert came == noted
    assert len(set(came)) == len(came) > 5
    assert again.home.outbox.waiting_count() == 0
    assert all(message.stored_at for message in again.history() if isinstance(message, SentMessage))


def test_sending_a_file(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], interrupts: Interrupts, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"words" * 100_000)
    alice.agree_on_key("bob")

    def send(_: int) -> None:
        with make("alice") as messenger:
            messenger.home.sending.send_file("bob", tmp_path / "file")

    assert attempts(interrupts, send) > 10
    again = make("alice")
    again.send_waiting()
    files = [message.content for message in bob.receive() if isinstance(message.content, SavedFile)]
    assert len(files) == len([message for message in again.history() if isinstance(message, SentMessage)])
    assert {file.path.read_bytes() for file in files} == {b"words" * 100_000}
    again.home.store.sweep(MUCH_LATER)
    assert list((tmp_path / "alice" / "store.spool").iterdir()) == []


def test_receiving(
    alice: Messenger, bob: Messenger, make: Callable[..., Messenger], interrupts: Interrupts, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"words" * 100_000)
    alice.agree_on_key("bob")
    seen: list[tuple[object, bool]] = []
    sent: list[str] = []

    def receive(step: int) -> None:
        # Something new now and then, also between two interrupts.
        with_interrupts = interrupts.at
        interrupts.before(0)
        if step % 8 == 1 and step < 50:
            sent.append(f"text {step}")
            alice.home.sending.send_text("bob", sent[-1])
        if step % 24 == 1 and step < 50:
            alice.home.sending.send_file("bob", tmp_path / "file")
        interrupts.before(with_interrupts)
        with make("bob") as messenger:
            for message in messenger.receive():
                seen.append((message.content, message.repeated))  # noqa: PERF401 - those before the interrupt count

    assert attempts(interrupts, receive) > 30
    first = [content for content, repeated in seen if not repeated]
    texts = [content.text for content in first if isinstance(content, Text)]
    everything = {content.text for content, _ in seen if isinstance(content, Text)}
    # All came; what was given a second time is marked, unless the first time never got as far as
    # the user.
    assert everything == set(sent)
    assert len(set(texts)) == len(texts)
    assert any(isinstance(content, KeyReceived) for content, _ in seen)
    saved = {content.path for content, _ in seen if isinstance(content, SavedFile)}
    assert set((tmp_path / "saved").iterdir()) >= saved
    assert {path.read_bytes() for path in saved} == {b"words" * 100_000}
    assert not [path for path in (tmp_path / "saved").iterdir() if path.name.startswith(".")]
    bob.home.store.sweep(MUCH_LATER)
    assert list((tmp_path / "bob" / "store.spool").iterdir()) == []
