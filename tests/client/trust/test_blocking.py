"""Blocking and muting: in the home at once, at the server when it is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import NameUnknown, ServerUnreachable
from client.trust.blocking import Told
from common.client_protocol.responses import ErrorResponse
from common.client_protocol.versions import Feature
from common.values import RefusalReason
from tests.client.fake_gateway import ExtendedMailroom

if TYPE_CHECKING:
    from client.messenger import Messenger
    from tests.client.fake_gateway import FakeGateway

pytestmark = [pytest.mark.mailroom(kind=ExtendedMailroom), pytest.mark.usefixtures("bob")]


def received(messenger: Messenger) -> list[str]:
    return [getattr(message.content, "text", "") for message in messenger.receive()]


def test_the_server_is_told_at_the_next_sign_in_and_not_again(
    alice: Messenger, mailroom: ExtendedMailroom, gateway: FakeGateway
) -> None:
    mailroom.features |= Feature.BLOCKING
    blocking = alice.home.blocking
    contact, told = blocking.block("bob")
    assert told is Told.YES
    me = alice.home.account.identity().client_id
    assert mailroom.blocked == {(me, contact.client_id)}
    [one] = blocking.all()
    assert (one.contact, one.blocked, one.muted, one.server_refuses) == (contact, True, False, True)
    asked = gateway.codes().count("Block")
    alice.home.link.close()
    alice.users()
    assert gateway.codes().count("Block") == asked
    # A store of another generation may have lost it.
    mailroom.generation += 1
    mailroom.blocked.clear()
    alice.home.link.close()
    alice.users()
    assert mailroom.blocked == {(me, contact.client_id)}
    assert blocking.block("bob", blocked=False) == (contact, Told.YES)
    assert mailroom.blocked == set()
    assert blocking.all() == []


def test_a_server_without_the_request(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom) -> None:
    assert alice.home.blocking.block("bob")[1] is Told.NEVER
    bob.send("alice", "hello")
    assert received(alice) == []
    [one] = alice.home.blocking.all()
    assert not one.server_refuses
    alice.home.blocking.block("bob", blocked=False)
    bob.send("alice", "hello again")
    assert len(received(alice)) == 1


def test_a_server_that_refuses_it(alice: Messenger, mailroom: ExtendedMailroom) -> None:
    mailroom.features |= Feature.BLOCKING
    mailroom.block_refusal = ErrorResponse(RefusalReason.TOO_LARGE)
    assert alice.home.blocking.block("bob")[1] is Told.REFUSED
    mailroom.block_refusal = None
    alice.home.link.close()
    alice.users()
    assert len(mailroom.blocked) == 1
    assert alice.home.blocking.all()[0].server_refuses


def test_a_server_that_does_not_know_the_sender_has_nothing_to_refuse(
    alice: Messenger, mailroom: ExtendedMailroom
) -> None:
    mailroom.features |= Feature.BLOCKING
    mailroom.block_refusal = ErrorResponse(RefusalReason.RECIPIENT_UNKNOWN)
    assert alice.home.blocking.block("bob")[1] is Told.YES


def test_without_a_server_it_holds_in_the_home(alice: Messenger, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise ServerUnreachable("nobody is there")

    alice.users()
    monkeypatch.setattr(alice.home.link, "connect", unreachable)
    assert alice.home.blocking.block("bob")[1] is Told.LATER
    assert [one.blocked for one in alice.home.blocking.all()] == [True]


def test_whom(alice: Messenger) -> None:
    with pytest.raises(NameUnknown):
        alice.home.blocking.block("nobody")
    with pytest.raises(NameUnknown, match="your own name"):
        alice.home.blocking.mute("alice")
    assert alice.home.blocking.all() == []


def test_muted_messages_are_received_and_seen(alice: Messenger, bob: Messenger) -> None:
    contact = alice.home.blocking.mute("bob")
    assert alice.home.blocking.is_silent(contact.client_id)
    bob.send("alice", "hello")
    assert "hello" in received(alice)
    alice.home.blocking.mute("bob", muted=False)
    assert not alice.home.blocking.is_silent(contact.client_id)


def test_the_library_has_it_as_the_commands_do(alice: Messenger, bob: Messenger, mailroom: ExtendedMailroom) -> None:
    mailroom.features |= Feature.BLOCKING
    assert alice.silenced() == []
    blocked = alice.block("bob")
    assert (blocked.contact.name, blocked.blocked, blocked.muted, blocked.server_refuses) == ("bob", True, False, True)
    both = alice.mute("bob")
    assert (both.blocked, both.muted) == (True, True)
    assert alice.silenced() == [both]
    bob.send("alice", "while blocked")
    assert received(alice) == []
    assert not alice.unblock("bob").blocked
    assert [(one.blocked, one.muted) for one in alice.silenced()] == [(False, True)]
    assert not alice.unmute("bob").muted
    assert alice.silenced() == []
    with pytest.raises(NameUnknown):
        alice.mute("nobody")
