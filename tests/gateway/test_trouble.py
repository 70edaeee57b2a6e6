"""What goes wrong around a session: slow readers, silent and confused workers, clients
that vanish, no descriptors.
"""

import socket
import struct

import pytest

from common.client_protocol.requests import PublicKeyRequest, encode
from common.storage_protocol.operations import (
    NO_MAIL,
    BeginUpload,
    Done,
    Outcome,
    Pulled,
)
from tests.gateway.authenticated import ALICE, BOB
from tests.gateway.every_kind import EVERY_KIND, skip_greeting
from tests.gateway.harness import Gate


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_silent_worker_leaves_every_request_without_a_reply(gate: Gate, kind: str) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND[kind])
    skip_greeting(peer, kind)
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.pass_time(16)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    assert not gate.context.sessions


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_outcome_of_the_wrong_kind_ends_the_connection_without_a_reply(gate: Gate, kind: str) -> None:
    wrong: Outcome = Done() if kind not in ("large send", "proof") else Pulled(0, 0, 0, 0, NO_MAIL)
    gate.storage.decide = lambda operation: wrong if not isinstance(operation, BeginUpload) else Done()
    peer = gate.peer()
    peer.send(EVERY_KIND[kind])
    skip_greeting(peer, kind)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_client_that_is_gone_before_the_answer_disturbs_nobody(gate: Gate, kind: str) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND[kind])
    skip_greeting(peer, kind)
    gate.turn_until(lambda: bool(gate.storage.held))
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
    gate.storage.answering = True
    for batch in gate.storage.held:
        gate.storage.answer(batch)
    other = gate.peer()
    other.send(EVERY_KIND["send"])
    assert other.response()[0] == 2103


@pytest.mark.slow
def test_answers_wait_for_a_client_that_reads_late(gate: Gate) -> None:
    count = 200_000
    peer = gate.peer()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
    request = encode(PublicKeyRequest(ALICE, BOB))
    frame = request * count
    sent = 0
    for _ in range(600):
        try:
            sent += peer.sock.send(frame[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
    assert gate.context.holdings.size > 0
    assert sent < len(frame), "it is not read any more"
    assert len(gate.storage.operations) < count
    answer = b"\x02\x36\x08\xb0\x00\x00\x00" + BOB + b"K" * 160
    received = bytearray()
    while len(received) < count * len(answer):
        try:
            sent += peer.sock.send(frame[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
        peer.read()
        received += peer.received
        peer.received = b""
        assert not peer.ended
    assert received == answer * count
    assert gate.context.holdings.size == 0


def test_stopping_answers_what_was_asked_and_takes_nothing_more(gate: Gate) -> None:
    gate.storage.answering = False
    peers = {kind: gate.peer() for kind in ("send", "list", "fetch", "large send")}
    for kind, peer in peers.items():
        peer.send(EVERY_KIND[kind][:-1000] if kind == "large send" else EVERY_KIND[kind])
    idle = gate.peer()
    gate.turn_until(lambda: bool(gate.storage.held) and len(gate.context.sessions) == 5)
    gate.turns()
    for session in list(gate.context.sessions):
        session.stop()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    assert [peers[kind].response()[0] for kind in ("send", "list", "fetch")] == [2103, 2101, 2143]
    for peer in (*peers.values(), idle):
        gate.turn_until(peer.is_ended)
    assert not gate.context.sessions


@pytest.mark.parametrize("late", [0, 1, 500])
def test_a_refused_padded_request_gets_a_padded_answer(gate: Gate, late: int) -> None:
    peer = gate.peer()
    frame = struct.pack("<16sBHI", ALICE, 2, 999, 0).ljust(1024, b"\0")
    peer.send(frame[: 1024 - late])
    gate.turns()
    peer.send(frame[1024 - late :])
    assert peer.take(1024) == struct.pack("<BHI", 2, 9000, 0).ljust(1024, b"\0")
    gate.turn_until(peer.is_ended)
    assert not peer.reset
