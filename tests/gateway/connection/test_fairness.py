"""One client's flood is one client's wait: turns, malformed frames, and that nothing is
forgotten in the queue.
"""

import struct
from collections.abc import Callable

import pytest

from common.client_protocol.requests import PublicKeyRequest, SendRequest, encode
from common.storage_protocol.operations import GetPublicKey, Operation, Outcome, Stored, StoreMessage
from common.values import ClientId
from gateway.handlers.dispatch import cost_of
from gateway.settings import Settings
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer

INNOCENT = ClientId(b"i" * 16)
VILLAINS = [ClientId(bytes([number]) * 16) for number in range(1, 11)]
BOB = ClientId(b"b" * 16)
MALFORMED = struct.pack("<16sBHI", INNOCENT, 2, 999, 0)
ERROR = struct.pack("<BHI", 2, 9000, 0)
ANSWER_SIZE = 7 + 16 + 160


def key(requester: ClientId) -> bytes:
    return encode(PublicKeyRequest(requester, BOB))


def send(requester: ClientId) -> bytes:
    return encode(SendRequest(requester, BOB, 3, b"x"))


def requesters(gate: Gate) -> list[bytes]:
    """Who asked what the worker did, in its order."""
    asked: list[bytes] = []
    for operation in gate.storage.operations:
        assert isinstance(operation, GetPublicKey | StoreMessage)
        asked.append(operation.requester if isinstance(operation, GetPublicKey) else operation.sender)
    return asked


def flood(gate: Gate, frame: Callable[[ClientId], bytes], count: int) -> list[Peer]:
    """Ten connections with so many requests each in their sockets, none of which the
    gateway has looked at.
    """
    peers = [gate.peer() for _ in VILLAINS]
    gate.turn_until(lambda: len(gate.context.sessions) >= len(peers))
    for peer, villain in zip(peers, VILLAINS, strict=True):
        peer.sock.sendall(frame(villain) * count)
    return peers


@pytest.mark.parametrize("frame", [key, send])
def test_who_asks_for_one_thing_does_not_wait_behind_a_flood(gate: Gate, frame: Callable[[ClientId], bytes]) -> None:
    innocent = gate.peer()
    gate.turns()
    count = 1000
    flood(gate, frame, count)
    gate.turn_until(lambda: gate.context.turns.has_capacity is False)
    innocent.sock.sendall(frame(INNOCENT))
    gate.turn_until(lambda: INNOCENT in requesters(gate))
    before = requesters(gate).index(INNOCENT)
    assert before < 10 * count / 2, "it has overtaken most of what lay in the sockets before it came"


def test_what_the_worker_has_before_it_is_bounded(gate: Gate) -> None:
    gate.storage.answering = False
    peers = flood(gate, key, 1000)
    gate.turns(100)
    settings = Settings()
    one = cost_of(GetPublicKey(BOB, False, BOB))
    assert gate.link.bytes_in_flight < settings.work_in_flight + len(peers) * (settings.work_a_turn + one)
    assert gate.link.bytes_in_flight < len(peers) * 1000 * one


def test_connections_that_pipeline_are_served_in_turn(gate: Gate) -> None:
    count = 1000
    flood(gate, key, count)
    gate.turn_until(lambda: len(gate.storage.operations) >= 4 * count)
    asked = requesters(gate)[: 4 * count]
    shares = [asked.count(villain) for villain in VILLAINS]
    assert sum(shares) == 4 * count
    turn = Settings().work_a_turn // cost_of(GetPublicKey(BOB, False, BOB)) + 1
    assert max(shares) - min(shares) <= 2 * turn


@pytest.mark.parametrize("settings", [Settings(), Settings(work_in_flight=1, work_a_turn=1)])
def test_everything_is_answered_in_order_and_nothing_sleeps_on_an_answer(
    make_gate: Callable[[Settings], Gate], settings: Settings
) -> None:
    gate = make_gate(settings)
    gate.turn_until(lambda: gate.link.facts is not None)
    numbers = iter(range(1, 10_000))

    def decide(operation: Operation) -> Outcome:
        return Stored(next(numbers)) if isinstance(operation, StoreMessage) else default_decision(operation)

    gate.storage.decide = decide
    peers = flood(gate, send, 150)
    for peer in peers:
        peer.end()
    received: dict[Peer, bytes] = dict.fromkeys(peers, b"")

    def all_ended() -> bool:
        assert not gate.context.to_flush, "an answer waits although the turn has ended"
        for peer in peers:
            peer.read()
        return all(peer.ended for peer in peers)

    gate.turn_until(all_ended)
    for peer in received:
        assert not peer.reset
        sequences = [sequence for _, _, _, _, sequence in struct.iter_unpack("<BHI16sI", peer.received)]
        assert len(sequences) == 150
        assert sequences == sorted(sequences)
    assert gate.context.holdings.size == 0


def test_a_stop_answers_what_was_read_and_waits_for_its_turn(gate: Gate) -> None:
    peer = gate.peer()
    gate.turn_until(lambda: len(gate.context.sessions) == 1)
    gate.storage.answering = False
    peer.sock.sendall(key(INNOCENT) * 1000)
    gate.turn_until(lambda: bool(gate.storage.held))
    [session] = gate.context.sessions
    session.stop()
    gate.storage.answering = True
    for batch in gate.storage.held:
        gate.storage.answer(batch)
    gate.turn_until(peer.is_ended)
    assert len(peer.received) % ANSWER_SIZE == 0
    assert len(peer.received) == len(gate.storage.operations) * ANSWER_SIZE


def test_uploads_wait_for_their_turn_and_arrive(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(work_in_flight=1, inline_content=1000, chunk=2000))
    gate.turn_until(lambda: gate.link.facts is not None)
    peers = [gate.peer() for _ in range(3)]
    for peer in peers:
        peer.send(encode(SendRequest(INNOCENT, BOB, 4, bytes(100_000))))
    assert [peer.response()[0] for peer in peers] == [2103] * 3


def test_more_than_a_few_malformed_frames_end_a_connection(gate: Gate) -> None:
    most = Settings().malformed_frames
    peer = gate.peer()
    peer.send((MALFORMED + key(INNOCENT)) * most * 2)
    answers = b""
    gate.turn_until(peer.is_ended)
    answers += peer.received
    assert not peer.reset
    assert answers.count(ERROR) == most
    assert len(gate.storage.operations) == most - 1
    # What comes after is thrown away, and kept nowhere.
    peer.sock.sendall(MALFORMED * 1000)
    gate.turns()
    assert gate.context.holdings.size == 0
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)


def test_a_few_malformed_frames_are_forgiven(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(MALFORMED * (Settings().malformed_frames - 1) + key(INNOCENT))
    for _ in range(Settings().malformed_frames - 1):
        assert peer.response() == (9000, b"")
    assert peer.response()[0] == 2102
