"""Requests that one operation answers: what of the connection goes into the operation."""

import pytest

from common.client_protocol.requests import (
    ClaimKeyRequest,
    HelloRequest,
    PublishKeysRequest,
    RegisterRequest,
    Request,
    SendRequest,
)
from common.client_protocol.responses import encode_key_claimed, encode_keys_kept
from common.client_protocol.versions import EXTENSION_VERSION, Feature
from common.storage_protocol.operations import (
    ClaimKey,
    KeyClaimed,
    Operation,
    Outcome,
    PublishKeys,
    Refused,
    Register,
    StoreMessage,
)
from common.values import PublicKey, RefusalReason, Username
from tests.gateway.authenticated import ALICE, BOB, TOKEN, ZERO, greet, knows_alice, prove
from tests.gateway.fake_storage import default_decision
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


PUBLISH = PublishKeysRequest(ALICE, forget=True, bundle=b"bundle", one_time_keys=bytes(96) * 2)
CLAIM = ClaimKeyRequest(ALICE, BOB)


def decided(operation: Operation) -> Outcome:
    """A store that knows alice, and has keys of everybody."""
    return default_decision(operation) if isinstance(operation, PublishKeys | ClaimKey) else knows_alice(operation)


def test_keys_are_published_and_claimed(gate: Gate) -> None:
    gate.storage.decide = decided
    peer = gate.peer()
    prove(peer)
    for request in (PUBLISH, CLAIM, CLAIM):
        peer.send(request)
    assert [peer.response() for _ in range(3)] == [
        (2144, encode_keys_kept(50)[7:]),
        *[(2145, encode_key_claimed(b"bundle", b"1" * 96)[7:])] * 2,
    ]
    assert gate.storage.asked(PublishKeys) == [PublishKeys(ALICE, True, True, b"bundle", bytes(96) * 2)]
    assert gate.storage.asked(ClaimKey) == [ClaimKey(ALICE, True, BOB, True)] * 2


@pytest.mark.parametrize("request_", [PUBLISH._replace(requester=BOB), CLAIM._replace(requester=BOB)])
def test_keys_are_for_their_own_user(gate: Gate, request_: Request) -> None:
    gate.storage.decide = decided
    peer = gate.peer()
    prove(peer)
    peer.send(request_)
    assert peer.response() == (9000, b"")
    assert gate.storage.asked(PublishKeys) == gate.storage.asked(ClaimKey) == []


def test_the_worker_hears_that_nobody_has_signed_in(gate: Gate) -> None:
    gate.storage.decide = lambda _: Refused(RefusalReason.PROOF_NEEDED)
    peer = gate.peer()
    for request in (PUBLISH, CLAIM):
        peer.send(request)
        assert peer.response() == (9000, b"")
    assert gate.storage.asked(PublishKeys) == [PublishKeys(ALICE, False, True, b"bundle", bytes(96) * 2)]
    assert gate.storage.asked(ClaimKey) == [ClaimKey(ALICE, False, BOB, False)]


def test_an_answer_of_another_kind_ends_the_connection(gate: Gate) -> None:
    gate.storage.decide = lambda _: KeyClaimed(b"bundle", b"")
    peer = gate.peer()
    peer.send(PUBLISH)
    gate.turn_until(peer.is_ended)


def test_type_5_by_642_alone(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Refused(RefusalReason.NO_KEYS) if isinstance(operation, StoreMessage) else knows_alice(operation)
    )
    peer = gate.peer()
    peer.send(SendRequest(ALICE, BOB, 5, b"sealed"))
    assert peer.response() == (9000, b"")
    assert gate.storage.operations == []
    prove(peer)
    peer.send(HelloRequest(ZERO, EXTENSION_VERSION, int(Feature.REASONS)))
    peer.response()
    peer.send(SendRequest(ALICE, BOB, 5, b"sealed", TOKEN))
    assert peer.response() == (9001, b"\x10\0\0\0\0\0")
    [message] = gate.storage.asked(StoreMessage)
    assert message == StoreMessage(ALICE, True, BOB, 5, b"sealed", TOKEN)
