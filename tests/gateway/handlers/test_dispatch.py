"""Requests that one operation answers: what of the connection goes into the operation."""

from common.client_protocol.requests import RegisterRequest
from common.storage_protocol.operations import (
    Register,
)
from common.values import PublicKey, Username
from tests.gateway.authenticated import ALICE, ZERO, greet
from tests.gateway.harness import Gate


def test_registering_again_is_for_greeted_connections(gate: Gate) -> None:
    peer = gate.peer()
    register = RegisterRequest(ZERO, Username("alice"), PublicKey(b"k" * 160))
    peer.send(register)
    peer.response()
    greet(peer)
    peer.send(register)
    peer.response()
    asked = gate.storage.asked(Register)
    assert [operation.again for operation in asked if isinstance(operation, Register)] == [False, True]


def test_an_id_is_wanted_on_greeted_connections_alone(gate: Gate) -> None:
    peer = gate.peer()
    register = RegisterRequest(ALICE, Username("alice"), PublicKey(b"k" * 160))
    peer.send(register)
    peer.response()
    greet(peer)
    for wanted in (ALICE, ZERO):
        peer.send(register._replace(requester=wanted))
        peer.response()
    asked = gate.storage.asked(Register)
    assert [operation.wanted for operation in asked if isinstance(operation, Register)] == [None, ALICE, None]
