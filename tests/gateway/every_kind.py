"""One request of every kind that the storage worker is asked about."""

from common.client_protocol.requests import (
    AboutRequest,
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterInvitedRequest,
    SendRequest,
    encode,
)
from common.values import ClientId, Invitation, PublicKey, Username
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
    "about": encode(AboutRequest(ALICE)),
    "invited": encode(
        RegisterInvitedRequest(ClientId(bytes(16)), Username("x"), PublicKey(bytes(160)), Invitation(bytes(16)))
    ),
    "proof": HELLO + encode(ProveRequest(ALICE, bytes(128))),
}


def skip_greeting(peer: Peer, kind: str) -> None:
    if kind == "proof":
        assert peer.response()[0] == 2140
