"""What the drills' client does if a server refuses it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import HelloRequest, ProveRequest
from common.client_protocol.responses import AuthenticatedResponse, ErrorResponse, HelloResponse
from common.values import ClientId, RefusalReason
from torture.caller import Account, Caller, Refused, new_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.client_protocol.client_connection import Event
    from common.client_protocol.requests import Request

ALICE = Account(ClientId(b"a" * 16), "alice", new_key("alice").export_key("DER"))
TOO_OLD = ErrorResponse(RefusalReason.PROOF_NEEDED)


def greeting(nonce: bytes) -> HelloResponse:
    return HelloResponse(1, 0, 0, 0, b"s" * 16, 1, nonce * 32)


class Scripted(Caller):
    """Gets prepared answers, and keeps what it asked."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.answers: list[Event] = []
        self.asked: list[bytes | Request] = []

    def ask(self, request: bytes | Request) -> Event:
        self.asked.append(request)
        return self.answers.pop(0)


@pytest.fixture
def caller() -> Iterator[Scripted]:
    with socket.create_server(("127.0.0.1", 0)) as listener, Scripted(listener.getsockname()[1]) as scripted:
        yield scripted


def test_a_nonce_that_was_too_old_is_replaced_once(caller: Scripted) -> None:
    caller.answers = [greeting(b"1"), TOO_OLD, greeting(b"2"), AuthenticatedResponse()]
    caller.prove(ALICE)
    assert [type(request) for request in caller.asked] == [HelloRequest, ProveRequest, HelloRequest, ProveRequest]
    assert caller.asked[1] != caller.asked[3]


def test_a_second_refusal_is_one(caller: Scripted) -> None:
    caller.answers = [greeting(b"1"), TOO_OLD, greeting(b"2"), TOO_OLD]
    with pytest.raises(Refused) as refused:
        caller.prove(ALICE)
    assert refused.value.reason == RefusalReason.PROOF_NEEDED
    assert caller.answers == []


def test_another_refusal_is_final(caller: Scripted) -> None:
    caller.answers = [greeting(b"1"), ErrorResponse(RefusalReason.REQUESTER_UNKNOWN)]
    with pytest.raises(Refused):
        caller.prove(ALICE)


def test_who_brings_a_greeting_is_refused_at_once(caller: Scripted) -> None:
    caller.answers = [TOO_OLD]
    with pytest.raises(Refused):
        caller.prove(ALICE, greeting(b"1"))
