"""Recorded sessions of real programs: the codec reads every byte, the ciphers open every
content.
"""

from __future__ import annotations

import base64
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from client.crypto import ciphers
from common.client_protocol import responses
from common.client_protocol.client_connection import ClientConnection, ContentPart, ListBegins, ListEnd, MessageEnd
from common.client_protocol.requests import Request, SendRequest, encode
from common.client_protocol.responses import (
    MessageHead,
    PublicKeyResponse,
    RegisteredResponse,
    ResponseCode,
    StoredResponse,
    UserListed,
)
from common.client_protocol.server_connection import Limits, Malformed, Phase, PipelinedSends, ServerConnection
from common.values import MessageKind

VECTORS = Path(__file__).parent / "vectors"
PEERS = sorted(path.name.removesuffix(".jsonl") for path in VECTORS.glob("recorded-*.jsonl"))


def bursts(peer: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / f"{peer}.jsonl").read_text("utf-8").splitlines()]


def secrets(peer: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{peer}.vectors.json").read_text("utf-8"))
    return loaded


def streams(peer: str, direction: str) -> list[bytes]:
    """The bytes of one direction, one stream for each connection of each client."""

    def connection(burst: dict[str, Any]) -> tuple[str, int]:
        return burst["client"], burst["conn"]

    chosen = sorted((burst for burst in bursts(peer) if burst["dir"] == direction), key=connection)
    return [b"".join(bytes.fromhex(burst["hex"]) for burst in group) for _, group in groupby(chosen, connection)]


def decode_requests(stream: bytes, step: int) -> list[Request]:
    connection = ServerConnection(Limits(16 << 20))
    requests: list[Request] = []
    for start in range(0, len(stream), step):
        connection.receive_data(stream[start : start + step])
        while (event := connection.next_event()) is not None:
            assert not isinstance(event, Malformed)
            requests += event.requests() if isinstance(event, PipelinedSends) else [event]  # type: ignore[list-item]
    assert connection.phase is Phase.BETWEEN
    return requests


def decode_responses(stream: bytes, step: int) -> list[object]:
    connection = ClientConnection()
    events: list[object] = []
    for start in range(0, len(stream), step):
        connection.receive_data(stream[start : start + step])
        while (event := connection.next_event()) is not None:
            events.append(event)
    assert connection.idle
    return events


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_every_recorded_request_decodes_and_encodes_to_the_same_bytes(peer: str, step: int) -> None:
    found = streams(peer, "c2s")
    assert found
    for stream in found:
        version = stream[16]
        # What some clients leave in the name field behind the NUL is the only thing that is not
        # kept.
        assert b"".join(encode(request, version) for request in decode_requests(stream, step)) == stream


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_every_recorded_response_decodes_and_is_what_we_would_answer(peer: str, step: int) -> None:
    found = streams(peer, "s2c")
    assert found
    for stream in found:
        assert encode_as_ours(decode_responses(stream, step)) == stream


def encode_as_ours(events: list[object]) -> bytes:
    out = b""
    for event in events:
        match event:
            case RegisteredResponse(client_id):
                out += responses.encode_registered(client_id)
            case PublicKeyResponse(client_id, key):
                assert client_id is not None
                out += responses.encode_public_key(client_id, key)
            case StoredResponse(recipient, number):
                out += responses.encode_stored(recipient, number)
            case ListBegins(code, size):
                out += responses.encode_head(ResponseCode(code), size)
            case UserListed(client_id, name):
                out += responses.encode_user(client_id, name)
            case MessageHead(sender, number, kind, size):
                out += responses.encode_pulled_head(sender, number, kind, size)
            case ContentPart(data):
                out += data
            case _:
                assert isinstance(event, MessageEnd | ListEnd)
    return out


@pytest.mark.parametrize("peer", PEERS)
def test_every_recorded_content_decrypts_to_the_recorded_plain_text(peer: str) -> None:
    recorded = secrets(peer)
    opened = 0
    for message in recorded["messages"]:
        content = bytes.fromhex(message["content_hex"])
        match message["type"]:
            case MessageKind.KEY_REQUEST:
                assert content == b""
            case MessageKind.KEY:
                der = base64.b64decode(recorded["users"][message["to"]]["private_key_pkcs8_b64"])
                key = ciphers.PrivateKey.from_der(der).open_key(content)
                assert key.hex() == message["oaep_sha1_plain_hex"]
                opened += 1
            case _:
                key = ciphers.symmetric_key(bytes.fromhex(message["aes_key_hex"]))
                assert ciphers.decrypt_text(key, content) == message["plain"]
                assert ciphers.encrypt(key, message["plain"].encode()) == content
                opened += 1
    assert opened >= 3


@pytest.mark.parametrize("peer", PEERS)
def test_the_recorded_private_keys_belong_to_the_registered_public_keys(peer: str) -> None:
    for user in secrets(peer)["users"].values():
        key = ciphers.PrivateKey.from_der(base64.b64decode(user["private_key_pkcs8_b64"]))
        assert bytes.fromhex(user["register_request"])[-160:] == key.public_key()


@pytest.mark.parametrize("peer", PEERS)
def test_what_was_sent_is_what_the_secrets_list(peer: str) -> None:
    sent = [
        (request.kind, request.content.hex())
        for stream in streams(peer, "c2s")
        for request in decode_requests(stream, 1 << 20)
        if isinstance(request, SendRequest)
    ]
    assert sorted(sent) == sorted((m["type"], m["content_hex"]) for m in secrets(peer)["messages"])
