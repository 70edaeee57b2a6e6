"""A bug that one connection's bytes find ends that connection alone, wherever it is found."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import (
    FetchRequest,
    HelloRequest,
    ProveRequest,
    PublicKeyRequest,
    SendRequest,
    encode,
)
from common.storage_protocol.operations import StoreMessage
from common.values import ClientId
from gateway.connection import events, session
from gateway.connection.output import Output
from gateway.connection.session import Session
from gateway.handlers import dispatch, upload
from gateway.handlers import prove as prove_handler
from gateway.handlers.mail import FetchHandler
from tests.gateway.authenticated import ALICE, knows_alice, prove

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.harness import Gate, Peer

BOB = ClientId(b"b" * 16)
SEND = encode(SendRequest(ALICE, BOB, 3, b"x"))
LARGE = encode(SendRequest(ALICE, BOB, 3, bytes(300_000)))
KEY = encode(PublicKeyRequest(ALICE, BOB))


class Unforeseen(Exception):
    """A bug."""


def fail(*_arguments: object, **_more: object) -> None:
    raise Unforeseen("secret bytes of a stranger")


def is_served(peer: Peer) -> bool:
    peer.send(PublicKeyRequest(ALICE, BOB))
    return peer.response()[0] == 2102


def break_reading(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(events, "begin", fail)


def break_answering(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dispatch, "encode_public_key", fail)


def break_a_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "encode_stored_run", fail)


def break_flushing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Output, "write", fail)


def break_an_upload(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(upload, "encode_stored", fail)


@pytest.mark.parametrize(
    ("break_it", "request_bytes"),
    [
        (break_reading, KEY),
        (break_answering, KEY),
        (break_a_run, SEND),
        (break_flushing, SEND),
        (break_an_upload, LARGE),
    ],
)
def test_one_connection_ends_and_the_others_go_on(
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[pytest.MonkeyPatch], None],
    request_bytes: bytes,
) -> None:
    innocent, unlucky = gate.peer(), gate.peer()
    assert is_served(innocent)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        break_it(patch)
        unlucky.send(request_bytes)
        gate.turn_until(unlucky.is_ended)
    assert unlucky.reset
    assert is_served(innocent)
    (line,) = [record.getMessage() for record in caplog.records if "a bug ends" in record.getMessage()]
    assert "Unforeseen" in line
    assert "secret" not in line


def test_those_of_one_run_are_told_apart(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [gate.peer() for _ in range(3)]
    gate.turns()
    real = Session.sends_answered
    unlucky: list[Session] = []

    def fail_once(one: Session, *arguments: object) -> None:
        if not unlucky:
            unlucky.append(one)
            raise Unforeseen
        real(one, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "sends_answered", fail_once)
    gate.storage.answering = False
    for peer in peers:
        peer.send(SEND)
    gate.turns()
    for batch in gate.storage.held:
        gate.storage.answer(batch)
    gate.turn_until(lambda: len(gate.context.sessions) == 2)
    gate.turns()
    assert len(gate.storage.asked(StoreMessage)) == 3
    for peer in peers:
        peer.read()
    assert sorted(peer.reset for peer in peers) == [False, False, True]


def test_a_timer_of_one_connection(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.storage.decide = knows_alice
    innocent, unlucky = gate.peer(), gate.peer()
    prove(unlucky)
    unlucky.send(FetchRequest(ALICE, 0, 1000, 10))
    gate.turns()
    monkeypatch.setattr(FetchHandler, "end_wait", fail)
    monkeypatch.setattr(FetchHandler, "look_again", fail)
    gate.pass_time(11, 1.0)
    gate.turn_until(unlucky.is_ended)
    assert is_served(innocent)


def test_a_proof_that_fails_in_the_library(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    innocent, unlucky = gate.peer(), gate.peer()
    monkeypatch.setattr(prove_handler, "signature_is_valid", fail)
    gate.storage.decide = knows_alice
    unlucky.send(HelloRequest(ClientId(bytes(16)), 1, 0))
    assert unlucky.response()[0] == 2140
    unlucky.send(ProveRequest(ALICE, bytes(128)))
    gate.turn_until(unlucky.is_ended)
    assert is_served(innocent)


def test_what_the_worker_has_of_it_is_no_news_later(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    innocent, unlucky = gate.peer(), gate.peer()
    gate.turns()
    gate.storage.answering = False
    unlucky.send(KEY)
    gate.turn_until(lambda: bool(gate.storage.held))
    with monkeypatch.context() as patch:
        patch.setattr(events, "begin", fail)
        unlucky.send(KEY)
        gate.turn_until(unlucky.is_ended)
    gate.storage.answering = True
    for batch in gate.storage.held:
        gate.storage.answer(batch)
    assert is_served(innocent)
