"""The two paths of a message to the server: through the outbox, or directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.client_context import ClientContext
from client.connection.retry import Retry
from client.errors import OutcomeUnknown, ServerAnsweredError, ServerUnreachable
from client.mail.send_path import SendPath
from client.store.sent import Outgoing
from common.values import MessageKind
from tests.client.conftest import NOW
from tests.client.exchange import NOWHERE, sends
from tests.client.fake_gateway import CLOSE, ERROR, ExtendedMailroom, FakeGateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.messenger import Messenger

TEXT = Outgoing("hi", None)
NOW_MS = int(NOW * 1000)


@pytest.fixture
def alice(alice: Messenger, gateway: FakeGateway) -> Messenger:
    gateway.mailroom.register("bob")
    return alice


def path_of(messenger: Messenger) -> SendPath:
    """The way out of a home."""
    home = messenger.home
    context = ClientContext(home.account, home.store, home.link, home.greeting)
    retry = Retry(lambda _: None, lambda _: None, ())
    return SendPath(context, home.contacts, home.outbox, retry, lambda _: None, lambda: NOW_MS)


def send(messenger: Messenger) -> int:
    """One text, as its ciphertext; the server's number for it."""
    path = path_of(messenger)
    contact = messenger.home.directory.contact("bob")
    return path.send(contact, MessageKind.TEXT, b"x" * 16, path.catch_up(), outgoing=TEXT).message_id or 0


def test_with_the_published_protocol_it_goes_straight(alice: Messenger, gateway: FakeGateway) -> None:
    assert path_of(alice).catch_up() is None
    assert not path_of(alice).goes_through_the_outbox(None)
    assert send(alice) == 1
    [request] = sends(gateway)
    assert request.token is None
    [row] = alice.home.store.sent.all()
    assert (row.message_id, row.outbox, row.problem) == (1, None, None)


def test_straight_what_was_refused_is_noted_and_what_is_unknown_is_not(alice: Messenger, gateway: FakeGateway) -> None:
    send(alice)
    gateway.script.append(ERROR)
    with pytest.raises(ServerAnsweredError):
        send(alice)
    gateway.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown, match="unknown") as caught:
        send(alice)
    assert "it might come twice" in caught.value.advice
    _, refused, unknown = alice.home.store.sent.all()
    assert refused.problem is not None
    assert (unknown.problem, unknown.stored_at, unknown.waiting) == (None, None, False)


@pytest.mark.mailroom(kind=ExtendedMailroom)
def test_of_an_account_that_signs_in_it_goes_through_the_outbox(alice: Messenger, gateway: FakeGateway) -> None:
    assert path_of(alice).catch_up() is None
    assert path_of(alice).goes_through_the_outbox(None)
    assert send(alice) == 1
    [request] = sends(gateway)
    assert request.token is not None
    [row] = alice.home.store.sent.all()
    assert (row.message_id, row.outbox is not None) == (1, True)
    assert alice.home.store.outbox.waiting_count() == 0


@pytest.mark.mailroom(kind=ExtendedMailroom)
def test_without_a_server_the_outbox_keeps_it_and_the_failure_says_so(
    alice: Messenger, make: Callable[..., Messenger], gateway: FakeGateway
) -> None:
    send(alice)
    alice.close()
    away = make("alice", NOWHERE)
    offline = path_of(away).catch_up()
    assert isinstance(offline, ServerUnreachable)
    assert path_of(away).goes_through_the_outbox(offline)
    contact = away.home.directory.contact("bob")
    with pytest.raises(ServerUnreachable) as caught:
        path_of(away).send(contact, MessageKind.TEXT, b"y" * 16, offline, outgoing=TEXT)
    assert caught.value.kept
    assert "The message is kept" in caught.value.advice
    assert away.home.store.outbox.waiting_count() == 1
    away.close()
    back = make("alice")
    assert path_of(back).catch_up() is None
    assert back.home.store.outbox.waiting_count() == 0
    assert len({request.token for request in sends(gateway)}) == 2


def test_without_a_server_an_account_of_the_published_protocol_gives_up(
    alice: Messenger, make: Callable[..., Messenger]
) -> None:
    alice.close()
    with pytest.raises(ServerUnreachable):
        path_of(make("alice", NOWHERE)).catch_up()
