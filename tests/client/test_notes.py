"""Notes to oneself: what is sent to the own name, with both protocols and under both suites."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from client.crypto import ciphers
from client.errors import NameUnknown
from client.identity.archive import export_home, import_home
from client.messages import Received, SavedFile, SentMessage, Text, Unreadable
from client.trust.contacts import Contact
from common.client_protocol.requests import ClaimKeyRequest
from common.values import MessageKind, Username
from tests.client.exchange import receive
from tests.client.fake_gateway import ExtendedMailroom, FakeGateway, Mailroom, SuiteMailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger


@pytest.fixture(params=[Mailroom, ExtendedMailroom, SuiteMailroom])
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


def test_the_history_has_a_note_once(alice: Messenger, bob: Messenger, mailroom: Mailroom, tmp_path: Path) -> None:
    own = Contact(alice.identity().client_id, "alice")
    (tmp_path / "plan.txt").write_text("the plan")
    for text in ("one", "two", "two"):
        alice.send("alice", text)
    alice.send("alice", tmp_path / "plan.txt")
    bob.send("alice", "one")
    # What bob wrote, behind his key where it needs one; his message ids may be the same as those of
    # notes.
    assert len(list(alice.receive())) == (5 if isinstance(mailroom, SuiteMailroom) else 6)
    kept = [(SentMessage, "one"), (SentMessage, "two"), (SentMessage, "two"), (SentMessage, None), (Received, "one")]
    assert texts(alice.history()) == kept
    assert texts(alice.recent(own, 20)) == kept[:4]
    assert texts(alice.recent(own, 2)) == kept[2:4]


@pytest.mark.parametrize("mailroom", [Mailroom, ExtendedMailroom], indirect=True)
def test_what_another_program_sent_with_this_identity_is_shown(alice: Messenger, mailroom: Mailroom) -> None:
    alice.send("alice", "mine")
    me = alice.identity().client_id
    mailroom.put(me, me, MessageKind.TEXT, mailroom.boxes[me][-1].content)
    assert len(list(alice.receive())) == 2
    assert texts(alice.history()) == [(SentMessage, "mine"), (Received, "mine")]


@pytest.mark.parametrize("mailroom", [Mailroom, ExtendedMailroom], indirect=True)
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


@pytest.mark.parametrize("mailroom", [ExtendedMailroom, SuiteMailroom], indirect=True)
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
    assert {message.sender_name for message in me.receive()} == {"alice"}


# --- under cipher suite 1
# ------------------------------------------------------------------------------------------------


UNDER_SUITE_1 = pytest.mark.parametrize("mailroom", [SuiteMailroom], indirect=True)


@UNDER_SUITE_1
def test_notes_go_under_suite_1_and_nobody_is_asked_for_keys(
    alice: Messenger, mailroom: SuiteMailroom, gateway: FakeGateway, tmp_path: Path
) -> None:
    (tmp_path / "plan.txt").write_bytes(b"the plan" * 20_000)
    assert alice.send("alice", "buy milk").suite == 1
    assert alice.send("alice", tmp_path / "plan.txt").suite == 1
    me = alice.identity().client_id
    assert [message.kind for message in mailroom.boxes[me]] == [MessageKind.SEALED] * 2
    assert not [request for request in gateway.requests if isinstance(request, ClaimKeyRequest)]
    text, file = alice.receive()
    assert (text.content, text.suite, text.sender_verified) == (Text("buy milk"), 1, True)
    assert isinstance(file.content, SavedFile)
    assert file.content.path.read_bytes() == b"the plan" * 20_000
    assert [(one.suite, isinstance(one, SentMessage)) for one in alice.history()] == [(1, True)] * 2


@UNDER_SUITE_1
def test_what_a_server_writes_in_our_name_is_no_note(alice: Messenger, bob: Messenger, mailroom: SuiteMailroom) -> None:
    me = alice.identity().client_id
    bob.send("alice", "of bob")
    assert receive(alice) == [Text("of bob")]
    forged = []
    for _ in range(2):
        bob.send("alice", "to be passed off")
        forged.append(mailroom.boxes[me].pop().content)
    keys = alice.home.suite_keys.own()
    # Before the first note, and after it; and under the published suite.
    for content in forged:
        mailroom.put(me, me, MessageKind.SEALED, content)
        (message,) = alice.receive()
        assert isinstance(message.content, Unreadable)
        assert not message.sender_verified
        assert alice.home.suite_keys.own() == keys
        assert alice.home.store.outbox.waiting_count() == 0
        alice.send("alice", "a note")
        assert receive(alice) == [Text("a note")]
        keys = alice.home.suite_keys.own()
    mailroom.put(me, me, MessageKind.TEXT, bytes(16))
    (message,) = alice.receive()
    assert "does not use any more" in str(message.content)
    assert not message.sender_verified


@UNDER_SUITE_1
def test_a_note_is_shown_once_however_often_it_comes(alice: Messenger, mailroom: SuiteMailroom) -> None:
    me = alice.identity().client_id
    alice.send("alice", "once")
    (message,) = mailroom.boxes[me]
    assert receive(alice) == [Text("once")]
    mailroom.put(me, me, MessageKind.SEALED, message.content, bytes([7]) * 16)
    assert receive(alice) == []


@UNDER_SUITE_1
def test_notes_of_before_are_still_read(make: Callable[..., Messenger]) -> None:
    alice = make("alice", suite_1=False)
    alice.register("alice")
    alice.send("alice", "fetched")
    assert receive(alice) == [Text("fetched")]
    alice.send("alice", "waiting")
    alice.close()
    alice = make("alice")
    alice.send("alice", "sealed")
    assert receive(alice) == [Text("waiting"), Text("sealed")]


@UNDER_SUITE_1
def test_a_restored_home_reads_what_it_can_and_asks_itself_for_nothing(
    make: Callable[..., Messenger], tmp_path: Path, cheap: None
) -> None:
    alice = make("alice")
    alice.register("alice")
    alice.send("alice", "before")
    alice.close()
    export_home(tmp_path / "alice", tmp_path / "export", "pass")
    with make("alice") as alice:
        alice.send("alice", "after")
    shutil.rmtree(tmp_path / "alice")
    import_home(tmp_path / "alice", tmp_path / "export", "pass")
    alice = make("alice")
    first, second = receive(alice)
    assert first == Text("before")
    assert isinstance(second, Unreadable)
    alice.send("alice", "and on")
    assert receive(alice) == [Text("and on")]
