"""A user with a key of their own, and connections that sign in as this user."""

from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from common.client_protocol.requests import HelloRequest, ProveRequest
from common.storage_protocol.operations import (
    GetProofKey,
    KeyFound,
    Operation,
    Outcome,
)
from common.values import ClientId, Token
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Peer

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
ZERO = ClientId(bytes(16))
TOKEN = Token(b"t" * 16)
KEY = RSA.generate(1024, e=17)
OTHER_KEY = RSA.generate(1024, e=17)
PUBLIC = KEY.public_key().export_key("DER")
NONCE = bytes(32)
"""What the harness gives for random bytes."""
CERTIFICATE_HASH = SHA256.new(b"the server's certificate").digest()


def signature(
    client_id: bytes = ALICE,
    key: RSA.RsaKey = KEY,
    server_id: bytes = SERVER_ID,
    nonce: bytes = NONCE,
    binding: bytes = bytes(32),
) -> bytes:
    message = b"MessageU prove 1\0" + server_id + nonce + client_id + binding
    return pss.new(key, salt_bytes=32).sign(SHA256.new(message))


def knows_alice(operation: Operation) -> Outcome:
    return KeyFound(ALICE, PUBLIC) if isinstance(operation, GetProofKey) else default_decision(operation)


def greet(peer: Peer, features: int = 0) -> bytes:
    peer.send(HelloRequest(ZERO, 1, features))
    code, payload = peer.response()
    assert code == 2140
    return payload


def prove(peer: Peer) -> None:
    greet(peer)
    peer.send(ProveRequest(ALICE, signature()))
    assert peer.response() == (2141, b"")
