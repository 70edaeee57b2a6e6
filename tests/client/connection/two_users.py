"""A server that knows two users, and requests for tests of the link."""

from common.client_protocol.requests import PullRequest, SendRequest
from common.values import ClientId, MessageKind, PublicKey
from tests.client.fake_gateway import FakeGateway

ME = ClientId(b"\x01" * 16)
BOB = ClientId(b"\x02" * 16)
KEY = PublicKey(b"k" * 160)
PULL = PullRequest(ME)
SEND = SendRequest(ME, BOB, MessageKind.TEXT, b"x" * 16)


def with_two(server: FakeGateway) -> FakeGateway:
    """Register both: alice, who is `ME`, and bob."""
    server.mailroom.register("alice", KEY)
    server.mailroom.register("bob", KEY)
    return server
