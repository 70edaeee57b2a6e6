"""640: what the gateway answers, when, and what a greeted connection gets from then on."""

import struct
from collections.abc import Callable

from common.client_protocol.requests import HelloRequest, PullRequest
from common.client_protocol.versions import SERVER_FEATURES
from common.storage_protocol.operations import (
    Refused,
)
from gateway.settings import Settings
from tests.gateway.authenticated import ALICE, NONCE, ZERO, greet
from tests.gateway.fake_storage import SERVER_ID
from tests.gateway.harness import Gate


def test_hello_tells_what_the_worker_told(gate: Gate) -> None:
    payload = greet(gate.peer())
    assert struct.unpack("<IIII16sQ32s", payload) == (1, SERVER_FEATURES, 1024**3 + 21, 0, SERVER_ID, 7, NONCE)


def test_an_unknown_extension_version_gets_ours_and_no_reasons(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 2, 8))
    code, payload = peer.response()
    assert (code, payload[:4]) == (2140, struct.pack("<I", 1))
    gate.storage.decide = lambda _: Refused(2)
    peer.send(PullRequest(ALICE))
    assert peer.response() == (9000, b"")


def test_hello_waits_for_the_first_greeting_of_the_worker(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings())
    gate.storage.welcoming = False
    peers = [gate.peer(), gate.peer()]
    for peer in peers:
        peer.send(HelloRequest(ZERO, 1, 0))
    gate.turn_until(lambda: bool(gate.storage.greetings))
    gate.turns()
    peers[1].close()
    gate.turns()
    gate.storage.welcoming = True
    gate.storage.welcome(gate.storage.greetings[0])
    assert peers[0].response()[0] == 2140


def test_hello_is_given_up_without_a_reply(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings())
    gate.storage.welcoming = False
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 1, 0))
    gate.turns()
    gate.pass_time(16, 1.0)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""


def test_reasons_where_they_were_asked_for(gate: Gate) -> None:
    gate.storage.decide = lambda _: Refused(7, 30)
    peer = gate.peer()
    greet(peer, features=8)
    peer.send(PullRequest(ALICE))
    assert peer.response() == (9001, struct.pack("<HI", 7, 30))
    peer.send(struct.pack("<16sBHI", ALICE, 2, 999, 0))
    assert peer.response() == (9001, struct.pack("<HI", 1, 0))
    peer.send(struct.pack("<16sBHI", ALICE, 2, 999, 0xFFFFFFFF))
    assert peer.response() == (9001, struct.pack("<HI", 5, 0))
