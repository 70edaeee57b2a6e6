"""What tests of sending and receiving share."""

from __future__ import annotations

from client.messenger import Messenger
from common.client_protocol.requests import SendRequest
from common.server_address import ServerAddress
from tests.client.fake_gateway import (
    FakeGateway,
)

NOWHERE = ServerAddress("127.0.0.1", 1)


def receive(messenger: Messenger) -> list[object]:
    return [message.content for message in messenger.receive()]


def sends(gateway: FakeGateway) -> list[SendRequest]:
    return [request for request in gateway.requests if isinstance(request, SendRequest)]
