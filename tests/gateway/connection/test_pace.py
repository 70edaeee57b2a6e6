"""How slow a payload may come, and how long a large one may take: under a clock of our own."""

from collections.abc import Callable

from common.client_protocol.requests import SendRequest, encode
from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    GetUploadProgress,
    Operation,
    Outcome,
    UploadProgress,
)
from common.values import ClientId
from gateway.settings import Settings
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer, push

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
LIMITS = Settings()
LARGE = encode(SendRequest(ALICE, BOB, 4, bytes(1 << 20)))


def trickle(gate: Gate, peer: Peer, rest: bytes, size: int, seconds: float) -> float:
    """Send `size` bytes every so many seconds until the gateway ends the connection or
    all is sent; the seconds.
    """
    began = gate.clock.time
    while rest and not peer.is_ended():
        peer.send(rest[:size])
        rest = rest[size:]
        gate.turns(5)
        gate.pass_time(seconds, seconds / 4)
    return gate.clock.time - began


def test_a_trickle_ends_as_if_it_were_silence(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(LARGE[:1000])
    gate.turns(5)
    took = trickle(gate, peer, LARGE[1000:], 1, 12)
    assert peer.is_ended()
    assert LIMITS.payload_silence <= took <= LIMITS.payload_silence + 2 * 12
    gate.turn_until(lambda: bool(gate.storage.asked(AbortUpload)))
    assert not gate.storage.asked(CommitUpload)


def test_what_came_early_buys_no_more_than_a_silence(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(LARGE[:900_000])
    gate.turns(20)
    gate.pass_time(LIMITS.payload_silence - 1)
    assert not peer.is_ended()
    gate.pass_time(2)
    assert peer.is_ended()


def test_just_fast_enough_is_accepted(gate: Gate) -> None:
    peer = gate.peer()
    size = int(LIMITS.slowest_upload) * 10
    took = trickle(gate, peer, LARGE, size, 10)
    assert took > 400
    assert peer.response()[0] == 2103


def test_who_is_slow_because_of_us_loses_nothing(gate: Gate) -> None:
    behind = LIMITS.unsynced_content + 1
    unsynced = behind

    def decide(operation: Operation) -> Outcome:
        return (
            UploadProgress(unsynced)
            if isinstance(operation, Chunk | GetUploadProgress)
            else default_decision(operation)
        )

    gate.storage.decide = decide
    peer = gate.peer()
    request = encode(SendRequest(ALICE, BOB, 4, bytes(30 << 20)))
    sent = push(gate, request)
    assert sent < len(request), "the rest stays with the client, for the disk is behind"
    gate.pass_time(5 * LIMITS.payload_silence, 1)
    assert not peer.is_ended()
    unsynced = 0
    gate.pass_time(1)
    peer.send(request[sent:])
    assert peer.response()[0] == 2103


def test_a_large_one_has_a_longest_time(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(longest_upload=60.0))
    peer = gate.peer()
    size = int(LIMITS.slowest_upload) * 10
    took = trickle(gate, peer, LARGE, size, 10)
    assert peer.is_ended()
    assert 60 <= took <= 70
    gate.turn_until(lambda: bool(gate.storage.asked(AbortUpload)))
    [begun] = gate.storage.asked(BeginUpload)
    assert isinstance(begun, BeginUpload)
    assert gate.storage.asked(AbortUpload) == [AbortUpload(begun.upload)]
    assert not gate.storage.asked(CommitUpload)


def test_one_that_ended_in_time_leaves_no_clock_behind(gate: Gate) -> None:
    peer = gate.peer()
    before = len(gate.loop.timers)
    for _ in range(200):
        peer.send(encode(SendRequest(ALICE, BOB, 4, bytes(70_000))))
        assert peer.response()[0] == 2103
    assert len(gate.loop.timers) < before + 150, "those that were cancelled are cleared away"
    gate.pass_time(LIMITS.longest_upload + 1, 1000)
    assert not peer.is_ended()
