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
    assert [operation.greeted for operation in asked if isinstance(operation, Register)] == [False, True]


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


def test_a_name_beyond_ascii_is_malformed_where_nobody_greeted(gate: Gate) -> None:
    register = RegisterRequest(ZERO, Username("Zoë"), PublicKey(b"k" * 160))
    peer = gate.peer()
    peer.send(register)
    assert peer.response() == (9000, b"")
    greet(peer)
    peer.send(register)
    assert peer.response()[0] == 2100
    asked = gate.storage.asked(Register)
    assert [operation.name for operation in asked if isinstance(operation, Register)] == ["Zoë"]


def test_such_names_end_a_connection_as_other_malformed_frames_do(gate: Gate) -> None:
    register = RegisterRequest(ZERO, Username("Zoë"), PublicKey(b"k" * 160))
    known = RegisterRequest(ZERO, Username("alice"), PublicKey(b"k" * 160))
    peer = gate.peer()
    most = gate.context.settings.malformed_frames
    for _ in range(most):
        peer.send(register)
    peer.send(known)
    assert [peer.response() for _ in range(most)] == [(9000, b"")] * most
    gate.turn_until(peer.is_ended)
    assert not gate.storage.asked(Register)


def test_it_is_answered_behind_what_was_asked_before(gate: Gate) -> None:
    peer = gate.peer()
    for name in ("alice", "Zoë", "bob"):
        peer.send(RegisterRequest(ZERO, Username(name), PublicKey(b"k" * 160)))
    assert [peer.response()[0] for _ in range(3)] == [2100, 9000, 2100]
