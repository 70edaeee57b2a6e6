"""Users and their keys: what a server may say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import (
    InvalidServerResponse,
)
from client.messenger import Messenger
from client.trust import directory
from common.client_protocol import responses
from common.client_protocol.responses import ResponseCode
from common.values import ClientId, Username
from tests.client.fake_gateway import (
    Answer,
    ExtendedMailroom,
    FakeGateway,
    Mailroom,
    user_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.messenger import Messenger

pytestmark = pytest.mark.mailroom(kind=ExtendedMailroom)


def test_more_users_than_anybody_takes(
    pair: tuple[Messenger, Messenger], gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _ = pair
    monkeypatch.setattr(directory, "MOST_USERS", 1)
    alice.users()
    two = [(ClientId(b"x" * 16), Username("x")), (ClientId(b"y" * 16), Username("y"))]
    gateway.script.append(Answer(user_list(two)))
    with pytest.raises(InvalidServerResponse, match="lists 2 users, and this program takes 1 at most"):
        alice.users()
    assert alice.contact("bob").name == "bob"


@pytest.mark.mailroom(kind=Mailroom)
def test_a_public_key_without_its_id(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    alice = make("alice")
    alice.register("alice")
    bob = make("bob")
    bob.register("bob")
    alice.users()
    key = gateway.mailroom.keys[gateway.mailroom.id_of("bob")]
    gateway.script.append(Answer(responses.encode_head(ResponseCode.PUBLIC_KEY, 160) + key))
    alice.fetch_public_key("bob")
    assert alice.fingerprint("bob") == bob.own_fingerprint()
