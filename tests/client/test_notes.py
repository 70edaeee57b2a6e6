"""Notes to oneself: what is sent to the own name, with both protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.errors import NameUnknown
from client.messages import Received, SavedFile, SentMessage, Text
from client.trust.contacts import Contact
from common.values import MessageKind, Username
from tests.client.fake_gateway import ExtendedMailroom, Mailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger


@pytest.fixture(params=[Mailroom, ExtendedMailroom])
def mailroom(request: pytest.FixtureRequest) -> Mailroom:
    made: Mailroom = request.param()
    return made


def texts(messages: list[Received | SentMessage]) -> list[tuple[type, str | None]]:
    """Which way each message of a history went, and its text."""
    found: list[tuple[type, str | None]] = []
    for one in messages:
        if isinstance(one, SentMessage):
            found.append((SentMessage, one.text))
        elif isinstance(one.content, Text):
            found.append((Received, one.content.text))
    return found


def test_a_note_comes_once_and_its_key_is_not_shown(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    own = Contact(alice.identity().client_id, "alice")
    (tmp_path / "plan.txt").write_text("the plan")
    assert alice.send("alice", "buy milk").recipient == own
    alice.send("alice", tmp_path / "plan.txt")
    text, file = alice.receive()
    assert (text.sender_name, text.content) == ("alice", Text("buy milk"))
    assert isinstance(file.content, SavedFile)
    assert file.content.path.read_text() == "the plan"
    assert not list(alice.receive())
    assert [message.number for message in alice.seen()] == [text.number, file.number]
    assert bob.is_registered()
    assert not list(bob.receive())


def test_the_history_has_a_note_once(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    own = Contact(alice.identity().client_id, "alice")
    (tmp_path / "plan.txt").write_text("the plan")
    for text in ("one", "two", "two"):
        alice.send("alice", text)
    alice.send("alice", tmp_path / "plan.txt")
    bob.send("alice", "one")
    assert len(list(alice.receive())) == 6
    # What bob wrote, behind his key; his message ids may be the same as those of notes.
    kept = [(SentMessage, "one"), (SentMessage, "two"), (SentMessage, "two"), (SentMessage, None), (Received, "one")]
    assert texts(alice.history()) == kept
    assert texts(alice.recent(own, 20)) == kept[:4]
    assert texts(alice.recent(own, 2)) == kept[2:4]


def test_what_another_program_sent_with_this_identity_is_shown(alice: Messenger, mailroom: Mailroom) -> None:
    alice.send("alice", "mine")
    me = alice.identity().client_id
    mailroom.put(me, me, MessageKind.TEXT, mailroom.boxes[me][-1].content)
    assert len(list(alice.receive())) == 2
    assert texts(alice.history()) == [(SentMessage, "mine"), (Received, "mine")]


def test_a_key_in_our_own_name_that_is_not_ours_does_not_encrypt(alice: Messenger, mailroom: Mailroom) -> None:
    """A server can put anything into a mailbox, in the name of its owner too."""
    alice.send("alice", "one")
    me = alice.identity().client_id
    own = alice.home.store.keys.of(me)
    forged = b"F" * 16
    sealed = ciphers.seal_key(ciphers.symmetric_key(forged), alice.identity().private_key.public_key(), bytes)
    mailroom.put(me, me, MessageKind.KEY, sealed)
    assert len(list(alice.receive())) == 2
    alice.send("alice", "two")
    assert ciphers.decrypt_text(own[0].key, mailroom.boxes[me][-1].content) == "two"
    assert [message.content for message in alice.receive()] == [Text("two")]


def test_a_server_is_not_asked_who_we_are(alice: Messenger, mailroom: Mailroom, bob: Messenger) -> None:
    me = alice.identity().client_id
    mailroom.keys[me] = bob.identity().private_key.public_key()
    mailroom.names[bob.identity().client_id] = Username("alice")
    assert alice.fetch_public_key("alice") == (Contact(me, "alice"), False)
    assert alice.fingerprint("alice") == alice.own_fingerprint()
    alice.send("alice", "hello")
    assert alice.contact("alice") == Contact(me, "alice")


def test_there_is_nobody_to_compare_the_own_key_with(alice: Messenger) -> None:
    for method in (alice.verification, alice.mark_verified, alice.accept_new_key):
        with pytest.raises(NameUnknown, match=r"^That is your own name\.$"):
            method("alice")


@pytest.mark.parametrize("mailroom", [ExtendedMailroom], indirect=True)
def test_a_note_that_waits_in_the_outbox(alice: Messenger) -> None:
    alice.home.directory.meet("alice")
    assert alice.keep_text("alice", "later").waiting
    alice.send_waiting()
    assert [message.content for message in alice.receive()] == [Text("later")]


def test_me_is_a_name_as_any_other(alice: Messenger, make: Callable[..., Messenger]) -> None:
    with pytest.raises(NameUnknown) as unknown:
        alice.contact("me")
    assert unknown.value.advice.endswith(" Your own name is alice.")
    with pytest.raises(NameUnknown) as unknown:
        alice.contact("mx")
    assert "Your own name" not in unknown.value.advice
    me = make("me")
    me.register("me")
    alice.send("me", "hello")
    assert [message.sender_name for message in me.receive()] == ["alice", "alice"]
