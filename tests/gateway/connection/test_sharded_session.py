"""Answers of several workers leave in the order of the requests, whatever comes first, is refused,
is divided, or never comes.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.client_protocol.requests import (
    HelloRequest,
    PublicKeyRequest,
    PullRequest,
    RequestCode,
    SendRequest,
    encode,
)
from common.client_protocol.versions import Feature
from common.shards import shard_of
from common.storage_protocol.message_format import walk_frames
from common.storage_protocol.operations import (
    Done,
    GetPublicKey,
    Operation,
    Outcome,
    Pull,
    Refused,
    Stored,
    StoreMessage,
    StoreMessages,
)
from common.values import ClientId, RefusalReason, Token
from gateway.settings import Settings
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer

SHARDS = 4
ZERO = ClientId(bytes(16))
SENDER = ClientId(b"\x00" + b"s" * 15)


def user(first: int) -> ClientId:
    """Somebody, whose id begins so."""
    return ClientId(bytes((first, *[9] * 15)))


def decide(operation: Operation) -> Outcome:
    """Some are refused, by what is in them."""
    if isinstance(operation, StoreMessage):
        number = int.from_bytes(operation.content, "little")
        return Refused(RefusalReason.MAILBOX_FULL, number) if number % 5 == 0 else Stored(number)
    return default_decision(operation)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path, Settings(connection_in_flight=60_000), shards=SHARDS)
    gate.turn_until(lambda: all(storage.greetings for storage in gate.storages) and gate.context.link.facts is not None)
    for storage in gate.storages:
        storage.decide = decide
    yield gate
    gate.close()


def with_reasons(gate: Gate) -> Peer:
    peer = gate.peer()
    peer.send(HelloRequest(ZERO, 1, int(Feature.REASONS)))
    assert peer.response()[0] == 2140
    return peer


def send(number: int, first: int) -> bytes:
    return encode(SendRequest(SENDER, user(first), 3, number.to_bytes(4, "little")))


def check(peer: Peer, numbers: list[int], firsts: list[int]) -> None:
    """The answers to these sends, in order."""
    for number, first in zip(numbers, firsts, strict=True):
        code, payload = peer.response()
        if number % 5 == 0:
            assert (code, payload[2:]) == (9001, number.to_bytes(4, "little"))
        else:
            assert (code, payload) == (2103, user(first) + number.to_bytes(4, "little"))


@pytest.mark.parametrize("seed", range(5))
def test_answers_are_in_the_order_of_the_requests(gate: Gate, seed: int) -> None:
    chance = random.Random(seed)
    peer = with_reasons(gate)
    # Sequences of a run are consecutive, so each shard's numbers are.
    counts = [1000 * (shard + 1) + 1 for shard in range(SHARDS)]
    numbers, firsts = [], []
    for storage in gate.storages:
        storage.answering = False
    for _ in range(40):
        burst = b""
        for _ in range(chance.randrange(1, 6)):
            first = chance.randrange(256)
            shard = shard_of(user(first), SHARDS)
            number = counts[shard]
            counts[shard] += 1
            numbers.append(number)
            firsts.append(first)
            burst += send(number, first)
        peer.send(burst)
        gate.turn()
        storage = chance.choice(gate.storages)
        while storage.held and chance.random() < 0.7:
            storage.answer(storage.held.pop(0))
    for storage in gate.storages:
        storage.answering = True

    def answered() -> bool:
        for storage in gate.storages:
            while storage.held:
                storage.answer(storage.held.pop(0))
        return gate.context.link.idle

    gate.turn_until(answered)
    got = []
    for _ in numbers:
        code, payload = peer.response()
        got.append((code, payload[:16] if code == 2103 else payload[2:]))
    assert [code for code, _ in got] == [9001 if number % 5 == 0 else 2103 for number in numbers]
    assert [who for code, who in got if code == 2103] == [
        user(first) for number, first in zip(numbers, firsts, strict=True) if number % 5
    ]


def test_messages_to_one_user_stay_in_order(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(b"".join(send(number, first) for number in range(1, 30) for first in (0x10, 0x90, 0xF0)))
    for _ in range(29 * 3):
        peer.response()
    for storage, first in ((gate.storages[0], 0x10), (gate.storages[2], 0x90), (gate.storages[3], 0xF0)):
        sent = [one for one in storage.asked(StoreMessage) if isinstance(one, StoreMessage)]
        assert [one.recipient for one in sent] == [user(first)] * 29
        assert [int.from_bytes(one.content, "little") for one in sent] == list(range(1, 30))


def test_other_requests_wait_until_all_before_them_are_answered(gate: Gate) -> None:
    gate.storages[3].answering = False
    peer = gate.peer()
    peer.send(
        send(1, 0xF0)
        + encode(PublicKeyRequest(user(0x10), user(0x20)))
        + encode(PullRequest(user(0x10)))
        + send(2, 0x90)
    )
    gate.turn_until(lambda: bool(gate.storages[0].asked(GetPublicKey)))
    gate.turns()
    assert gate.storages[0].asked(Pull) == gate.storages[2].asked(StoreMessage) == []
    peer.read()
    assert peer.received == b""
    gate.storages[3].answering = True
    gate.storages[3].answer(gate.storages[3].held.pop())
    assert [peer.response()[0] for _ in range(4)] == [2103, 2102, 2104, 2103]


def test_what_waits_in_the_queue_is_bounded(gate: Gate) -> None:
    gate.storages[3].answering = False
    peer = gate.peer()
    peer.send(send(1, 0xF0))
    gate.turn_until(lambda: bool(gate.storages[3].held))
    for number in range(1, 300):
        peer.send(send(number, 0x10))
        gate.turn()
    gate.turns()
    taken = len(gate.storages[0].asked(StoreMessage))
    # 1,024 bytes each besides its frame.
    assert 40 < taken < 60
    gate.storages[3].answering = True
    gate.storages[3].answer(gate.storages[3].held.pop())
    for _ in range(300):
        peer.response()


def test_an_outcome_that_is_unknown_ends_the_connection(gate: Gate) -> None:
    gate.storages[3].answering = False
    peer = gate.peer()
    peer.send(send(1, 0x10))
    peer.response()
    peer.send(send(1, 0x10) + send(1, 0xF0))
    gate.turn_until(lambda: bool(gate.storages[3].held))
    gate.pass_time(20)
    peer.read()
    assert peer.received == b""
    assert peer.reset


def test_a_run_that_ends_a_worker_is_divided(gate: Gate) -> None:
    storage = gate.storages[3]
    storage.deadly = (3).to_bytes(4, "little")
    peer = gate.peer()
    other = gate.peer()
    other.send(send(1, 0x10))
    assert other.response()[0] == 2103
    peer.send(b"".join(send(number, 0xF0) for number in (1, 2, 4)) + send(1, 0x10))
    assert [peer.response()[0] for _ in range(4)] == [2103] * 4
    peer.send(b"".join(send(number, first) for number in (1, 2, 3, 4) for first in (0xF0, 0x10)))

    def ended() -> bool:
        if storage.socket is None:
            storage.bind()
        peer.read()
        return peer.ended

    gate.turn_until(ended)
    assert peer.reset
    assert peer.received == b""
    kept = [frame.content for batch in storage.batches for run in batch.operations if isinstance(run, StoreMessages)
            for frame in walk_frames(run.frames)]  # fmt: skip
    assert kept.count(storage.deadly) >= 2
    other.send(send(6, 0xF0))
    assert other.response()[0] == 2103


def test_an_outcome_of_another_kind_ends_the_connection(gate: Gate) -> None:
    gate.storages[0].decide = lambda _operation: Done()
    peer = gate.peer()
    peer.send(PublicKeyRequest(user(0x10), user(0x20)))
    gate.turn_until(peer.is_ended)
    assert peer.reset


def test_answers_to_642s_are_in_order_whatever_was_sent_before(gate: Gate) -> None:
    peer = with_reasons(gate)
    numbers = list(range(1001, 1030))
    firsts = [number * 37 % 256 for number in numbers]
    frames = []
    given = dict.fromkeys(range(SHARDS), 2000)
    expected = []
    for number, first in zip(numbers, firsts, strict=True):
        shard = shard_of(user(first), SHARDS)
        if number % 4 == 0:
            gate.storages[shard].known[number.to_bytes(16, "little")] = number
            expected.append(number)
        elif number % 5 == 0:
            expected.append(0)
        else:
            given[shard] += 1
            expected.append(given[shard])
        frames.append(
            encode(
                SendRequest(SENDER, user(first), 3, number.to_bytes(4, "little"), Token(number.to_bytes(16, "little")))
            )
        )

    def counting(shard: int) -> Callable[[Operation], Outcome]:
        sequences = iter(range(2001, 3000))

        def decide(operation: Operation) -> Outcome:
            assert isinstance(operation, StoreMessage)
            number = int.from_bytes(operation.content, "little")
            return Refused(RefusalReason.MAILBOX_FULL, 7) if number % 5 == 0 else Stored(next(sequences))

        return decide

    for shard, storage in enumerate(gate.storages):
        storage.decide = counting(shard)
    peer.send(b"".join(frames))
    for first, sequence in zip(firsts, expected, strict=True):
        code, payload = peer.response()
        if sequence:
            assert (code, payload) == (2103, user(first) + sequence.to_bytes(4, "little"))
        else:
            assert (code, payload[2:]) == (9001, (7).to_bytes(4, "little"))
    assert gate.context.link.sends_once_answered == len(numbers)
    assert gate.context.link.sends_answered == 0


def test_refusals_are_counted(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(send(5, 0xF0) + send(1, 0x10))
    assert [peer.response()[0], peer.response()[0]] == [9000, 2103]
    assert gate.context.counts.refusals[RefusalReason.MAILBOX_FULL] == 1
    assert gate.context.link.sends_answered == 2
    assert gate.context.counts.requests[RequestCode.SEND] == 0
