"""One request of every kind that the storage worker is asked about."""

from common.client_protocol.requests import (
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PullRequest,
    SendRequest,
    encode,
)
from common.values import ClientId
from tests.gateway.authenticated import ALICE, BOB
from tests.gateway.harness import Peer

HELLO = encode(HelloRequest(ClientId(bytes(16)), 1, 0))

EVERY_KIND = {
    "send": encode(SendRequest(ALICE, BOB, 3, b"x")),
    "large send": encode(SendRequest(ALICE, BOB, 3, bytes(100_000))),
    "key": encode(PublicKeyRequest(ALICE, BOB)),
    "list": encode(ListUsersRequest(ALICE)),
    "pull": encode(PullRequest(ALICE)),
    "fetch": encode(FetchRequest(ALICE, 0, 1000, 60)),
    "proof": HELLO + encode(ProveRequest(ALICE, bytes(128))),
}


def skip_greeting(peer: Peer, kind: str) -> None:
    if kind == "proof":
        assert peer.response()[0] == 2140
