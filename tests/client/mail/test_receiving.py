"""Waiting for mail, and following another process that receives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.mail import inbox
from client.messenger import KeyReceived, KeyRequested, Messenger, SavedFile, Text, Unreadable
from common.client_protocol.requests import FetchRequest
from tests.client.conftest import NOW
from tests.client.fake_gateway import (
    ExtendedMailroom,
    FakeGateway,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def waits(gateway: FakeGateway) -> list[int]:
    return [request.wait for request in gateway.requests if isinstance(request, FetchRequest)]


def test_waiting_for_mail(pair: tuple[Messenger, Messenger], gateway: FakeGateway, mailroom: ExtendedMailroom) -> None:
    _alice, bob = pair

    def mail_comes(request: object) -> None:
        if isinstance(request, FetchRequest) and request.wait:
            mailroom.put(mailroom.id_of("alice"), mailroom.id_of("bob"), 1, b"")

    gateway.on_request = mail_comes
    assert [message.content for message in bob.receive(wait=20)] == [KeyRequested()]
    assert waits(gateway) == [0, 20, 0]


def test_nothing_is_waited_for_where_mail_is(pair: tuple[Messenger, Messenger], gateway: FakeGateway) -> None:
    pair[0].home.sending.send_text("bob", "here")
    assert [message.content for message in pair[1].receive(wait=20)] == [Text("here")]
    assert waits(gateway) == [0, 0]


def test_a_wait_that_ends_without_mail(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, make: Callable[..., Messenger]
) -> None:
    now = [0.0]

    def time_passes(request: object) -> None:
        if isinstance(request, FetchRequest):
            now[0] += request.wait

    gateway.on_request = time_passes
    pair[1].close()
    # The clock on the wall stands still meanwhile, or goes back.
    waiting = make("bob", clock=lambda: NOW - now[0], monotonic=lambda: now[0])
    assert list(waiting.receive(wait=700)) == []
    assert waits(gateway) == [0, 300, 300, 100]
    assert inbox.LONGEST_SERVER_WAIT == 300
    # Half a second is as near as it comes.
    assert list(waiting.receive(wait=0.4)) == list(waiting.receive(wait=1.4)) == []
    assert waits(gateway)[4:] == [0, 0, 1]


def test_a_server_of_part_1_can_not_wait(tmp_path: Path, make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    alice = make("alice")
    alice.home.published_only(wanted=True)
    alice.register("alice")
    assert list(alice.receive(wait=1000)) == []
    assert gateway.codes() == ["Register", "Pull"]


def test_a_process_beside_follows(
    pair: tuple[Messenger, Messenger], make: Callable[..., Messenger], tmp_path: Path, gateway: FakeGateway
) -> None:
    alice, bob = pair
    beside = make("bob")
    (tmp_path / "file").write_text("data")
    alice.request_key("bob")
    alice.home.sending.send_text("bob", "hi")
    alice.home.sending.send_file("bob", tmp_path / "file")
    gateway.mailroom.put(alice.identity().client_id, bob.identity().client_id, 4, b"damaged")
    gateway.mailroom.put(alice.identity().client_id, bob.identity().client_id, 3, b"damaged")
    receiving = bob.receive()
    next(receiving)
    # What is being shown counts as seen with the next one.
    assert [message.content for message in beside.seen()] == [KeyReceived()]
    given = list(receiving)
    followed = list(beside.seen(after=1))
    assert [message.content for message in followed[1:3]] == [message.content for message in given[:2]]
    assert [type(message.content) for message in followed] == [KeyRequested, Text, SavedFile, Unreadable, Unreadable]
    assert [message.number for message in followed] == [2, 3, 4, 5, 6]
