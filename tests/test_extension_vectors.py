"""The extension's vectors: bytes that were written from the document alone, against the
codec and both ends' proofs.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from client.crypto import ciphers
from common.client_protocol import responses
from common.client_protocol.client_connection import (
    ClientConnection,
    ContentPart,
    Event,
    ListBegins,
    ListEnd,
    MessageEnd,
)
from common.client_protocol.requests import (
    AboutRequest,
    BlockRequest,
    CertificatesRequest,
    ClaimKeyRequest,
    DeleteAccountRequest,
    FetchRequest,
    HelloRequest,
    ProveRequest,
    PublishKeysRequest,
    RegisterInvitedRequest,
    Request,
    SendRequest,
    encode,
)
from common.client_protocol.responses import (
    AboutResponse,
    AuthenticatedResponse,
    BlockSetResponse,
    CertificatesResponse,
    DeletedResponse,
    ErrorResponse,
    HelloResponse,
    KeyClaimedResponse,
    KeysKeptResponse,
    MessageHead,
    ResponseCode,
)
from common.client_protocol.server_connection import Limits, Phase, PipelinedSends, ServerConnection
from common.errors import ResponseMalformed
from common.values import ONE_TIME_KEY_SIZE, ClientId
from gateway import authentication

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "extension.json").read_text("utf-8"))
STEPS = [1, 7, 1 << 20]


def named(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[kind]]


def request_fields(request: Request) -> dict[str, object]:
    match request:
        case HelloRequest(_, version, features):
            fields: dict[str, object] = {"code": 640, "extension_version": version, "features": features}
        case ProveRequest(_, signature):
            fields = {"code": 641, "signature": signature.hex()}
        case SendRequest(_, recipient, kind, content, token) if token is not None:
            fields = {
                "code": 642, "token": token.hex(), "recipient": recipient.hex(), "type": kind, "content": content.hex(),
            }  # fmt: skip
        case FetchRequest(_, ack, max_bytes, wait):
            fields = {"code": 643, "ack": ack, "max_bytes": max_bytes, "wait_seconds": wait}
        case PublishKeysRequest(_, forget, bundle, keys):
            one_by_one = [keys[at : at + ONE_TIME_KEY_SIZE].hex() for at in range(0, len(keys), ONE_TIME_KEY_SIZE)]
            fields = {"code": 644, "forget": forget, "bundle": bundle.hex(), "one_time_keys": one_by_one}
        case ClaimKeyRequest(_, subject):
            fields = {"code": 645, "subject": subject.hex()}
        case RegisterInvitedRequest(_, name, key, invitation):
            fields = {"code": 646, "name": name, "public_key": key.hex(), "invitation": invitation.hex()}
        case DeleteAccountRequest(_, confirmed):
            fields = {"code": 647, "confirmed": confirmed.hex()}
        case AboutRequest():
            fields = {"code": 648}
        case CertificatesRequest():
            fields = {"code": 649}
        case BlockRequest(_, blocked, sender):
            fields = {"code": 651, "blocked": blocked, "sender": sender.hex()}
        case _:
            raise AssertionError(request)
    return {"requester": request.requester.hex(), **fields}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("vector", named("requests"))
def test_requests(vector: dict[str, Any], step: int) -> None:
    stream = bytes.fromhex(vector["hex"])
    connection = ServerConnection(Limits(16 << 20))
    found: list[Request | PipelinedSends] = []
    for start in range(0, len(stream), step):
        connection.receive_data(stream[start : start + step])
        while (event := connection.next_event()) is not None:
            found.append(event)  # type: ignore[arg-type]
    assert connection.phase is Phase.BETWEEN
    (event,) = found
    # A 642 comes in a run of as many as there are, of which it has its frame.
    (request,) = event.requests() if isinstance(event, PipelinedSends) else (event,)
    assert request_fields(request) == vector["fields"]
    assert encode(request) == stream


def response_fields(events: list[Event]) -> tuple[dict[str, object], bytes]:
    """What a response says, and the server's own encoding of that."""
    match events:
        case [HelloResponse(version, features, max_payload, idle, server_id, generation, nonce)]:
            fields: dict[str, object] = {
                "code": 2140, "extension_version": version, "features": features, "max_payload": max_payload,
                "idle_seconds": idle, "server_id": server_id.hex(), "store_generation": generation,
                "nonce": nonce.hex(),
            }  # fmt: skip
            encoded = responses.encode_hello(version, features, max_payload, idle, server_id, generation, nonce)
            return fields, encoded
        case [AuthenticatedResponse()]:
            return {"code": 2141}, responses.AUTHENTICATED
        case [DeletedResponse()]:
            return {"code": 2147}, responses.DELETED
        case [AboutResponse() as about]:
            encoded = responses.encode_about(*about[:-1], about.text.encode())
            return {"code": 2148, **about._asdict()}, encoded
        case [BlockSetResponse()]:
            return {"code": 2151}, responses.BLOCK_SET
        case [CertificatesResponse(digests)]:
            return {"code": 2149, "digests": [digest.hex() for digest in digests]}, responses.encode_certificates(
                digests
            )
        case [KeysKeptResponse(kept)]:
            return {"code": 2144, "kept": kept}, responses.encode_keys_kept(kept)
        case [KeyClaimedResponse(bundle, one_time_key)]:
            fields = {"code": 2145, "bundle": bundle.hex(), "one_time_key": one_time_key.hex()}
            return fields, responses.encode_key_claimed(bundle, one_time_key)
        case [ErrorResponse(int(reason), retry_after)]:
            fields = {"code": 9001, "reason": reason, "retry_after": retry_after}
            return fields, responses.encode_reason(reason, retry_after)
        case [ListBegins(ResponseCode.FETCHED, size), *entries, ListEnd()]:
            return fetched_fields(size, entries)
    raise AssertionError(events)


def fetched_fields(size: int, entries: list[Event]) -> tuple[dict[str, object], bytes]:
    encoded = responses.encode_head(ResponseCode.FETCHED, size)
    messages: list[dict[str, object]] = []
    for event in entries:
        match event:
            case MessageHead(sender, number, kind, length, token, at, authenticated):
                assert token is not None
                assert at is not None
                encoded += responses.encode_fetched_head(sender, token, number, at, authenticated, kind, length)
                messages.append(
                    {
                        "sender": sender.hex(), "token": token.hex(), "sequence": number, "accepted_at": at,
                        "flags": int(authenticated), "type": kind, "content": "",
                    }
                )  # fmt: skip
            case ContentPart(data):
                messages[-1]["content"] = str(messages[-1]["content"]) + data.hex()
                encoded += data
            case _:
                assert isinstance(event, MessageEnd)
    return {"code": 2143, "messages": messages}, encoded


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("vector", named("responses"))
def test_responses(vector: dict[str, Any], step: int) -> None:
    stream = bytes.fromhex(vector["hex"])
    connection = ClientConnection()
    events: list[Event] = []
    for start in range(0, len(stream), step):
        connection.receive_data(stream[start : start + step])
        while (event := connection.next_event()) is not None:
            events.append(event)
    assert connection.idle
    assert response_fields(events) == (vector["fields"], stream)


def test_every_code_of_the_extension_has_a_vector() -> None:
    codes = {vector["fields"]["code"] for kind in ("requests", "responses") for vector in VECTORS[kind]}
    assert codes == {
        640, 641, 642, 643, 644, 645, 646, 647, 648, 649, 651,
        2140, 2141, 2143, 2144, 2145, 2147, 2148, 2149, 2151, 9001,
    }  # fmt: skip


def test_the_proof_is_what_both_ends_make_of_it() -> None:
    vector: dict[str, Any] = VECTORS["proof"]
    server_id, nonce, client_id, bind, signed, signature, public_key = (
        bytes.fromhex(vector[name])
        for name in ("server_id", "nonce", "client_id", "bind", "signed", "signature", "public_key")
    )
    assert authentication.signed_string(server_id, nonce, client_id, bind) == signed
    assert len(signed) == 113
    assert authentication.signature_is_valid(public_key, signature, signed)
    assert not authentication.signature_is_valid(public_key, signature, signed[:-1] + b"\1")
    key = ciphers.PrivateKey.from_der(base64.b64decode(vector["private_key_pkcs8_base64"]))
    assert key.public_key() == public_key
    # The salt is random, so that every signature is another one; each is good for the same string.
    assert authentication.signature_is_valid(public_key, key.prove(server_id, nonce, ClientId(client_id), bind), signed)


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack("<H", 0) + struct.pack("<H", 96) + bytes(96),
        struct.pack("<H", 4097) + bytes(4097) + struct.pack("<H", 0),
        struct.pack("<H", 3) + bytes(3) + struct.pack("<H", 95) + bytes(95),
        struct.pack("<H", 3) + bytes(3) + struct.pack("<H", 0) + b"x",
        struct.pack("<H", 3) + bytes(3) + struct.pack("<H", 96) + bytes(95),
        struct.pack("<H", 4) + bytes(4) + b"x",
        struct.pack("<H", 65535) + bytes(200),
    ],
)
def test_a_2145_whose_sizes_do_not_fit_is_refused(payload: bytes) -> None:
    connection = ClientConnection()
    connection.receive_data(responses.encode_head(ResponseCode.KEY_CLAIMED, len(payload)) + payload)
    with pytest.raises(ResponseMalformed):
        connection.next_event()


@pytest.mark.parametrize("payload", [b"\x02" + bytes(32), b"\x01" + bytes(64), b"\x00" + bytes(32)])
def test_a_2149_that_counts_wrong_is_refused(payload: bytes) -> None:
    connection = ClientConnection()
    connection.receive_data(responses.encode_head(ResponseCode.CERTIFICATES, len(payload)) + payload)
    with pytest.raises(ResponseMalformed):
        connection.next_event()
