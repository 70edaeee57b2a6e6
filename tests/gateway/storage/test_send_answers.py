"""Sends of many connections as one operation: which connection gets which answer."""

from collections.abc import Mapping
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol.server_connection import PipelinedSends
from common.storage_protocol.message_format import pack_frame, pack_frame_once, walk_frames
from common.storage_protocol.operations import (
    Done,
    MessagesStored,
    Outcome,
    Refused,
    RefusedFrame,
    RepeatedFrame,
    Stored,
    StoreMessagesOnce,
)
from common.storage_protocol.send_run import RunOfSends, SendRun
from gateway.storage import send_answers
from gateway.storage.send_answers import answer


class Sender:
    """Notes what it hears: for each message its recipient, and its sequence or its refusal."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, int | Refused | Stored]] = []
        self.costs: list[int] = []
        self.broken = False
        self.divided = 0

    def sends_answered(
        self, recipients: list[bytes], cost: int, first: int, others: Mapping[int, Refused | Stored]
    ) -> None:
        self.costs.append(cost)
        for index, recipient in enumerate(recipients):
            if index in others:
                self.heard.append((recipient, others[index]))
            else:
                self.heard.append((recipient, first))
                first += 1

    def sends_divided(self) -> None:
        self.divided += 1

    def abort(self) -> None:
        self.broken = True


def recipient(number: int) -> bytes:
    return number.to_bytes(16, "little")


def run_of(*recipients: int) -> PipelinedSends:
    return PipelinedSends(
        b"s" * 16,
        [recipient(number) for number in recipients],
        b"".join([pack_frame(b"s" * 16, recipient(number), 3, b"text") for number in recipients]),
    )


Run = SendRun[send_answers.Sender]


def put(run: Run, sends: PipelinedSends, cost: int, sender: Sender) -> None:
    """As `BatchSender.submit_sends` does with a run that is open."""
    run.size += len(sends.frames)
    run.cost += cost
    run.frames.append(sends.frames)
    run.shares.append((sender, sends.recipients, cost))


def answered(shares: list[int], outcome: Outcome) -> tuple[list[Sender], RunOfSends]:
    """Senders with so many messages each, to recipients 0, 1, 2 …, after `outcome`."""
    run: Run = SendRun(0.0, authenticated=False)
    senders = []
    at = 0
    for count in shares:
        sender = Sender()
        senders.append(sender)
        put(run, run_of(*range(at, at + count)), count, sender)
        at += count
    operation = run.complete()
    answer(run, outcome)
    return senders, operation


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_everyone_hears_of_his_own_in_order(shares: list[int], data: st.DataObject) -> None:
    count = sum(shares)
    indexes = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    before = sorted(data.draw(st.sets(st.integers(0, count - 1))) - set(indexes))
    refused = [RefusedFrame(index, 3, index) for index in indexes]
    repeated = [RepeatedFrame(index, 40 + index) for index in before]
    senders, operation = answered(shares, MessagesStored(100, refused, repeated))
    assert [frame.recipient for frame in walk_frames(operation.frames)] == [recipient(n) for n in range(count)]
    expected: list[tuple[bytes, int | Refused | Stored]] = []
    sequence = 100
    for number in range(count):
        if number in indexes:
            expected.append((recipient(number), Refused(3, number)))
        elif number in before:
            expected.append((recipient(number), Stored(40 + number)))
        else:
            expected.append((recipient(number), sequence))
            sequence += 1
    assert [heard for sender in senders for heard in sender.heard] == expected
    assert [sender.costs for sender in senders] == [[share] for share in shares]


def test_a_run_that_is_refused_as_a_whole() -> None:
    senders, _operation = answered([2, 1], Refused(8, 30))
    assert [[heard[1] for heard in sender.heard] for sender in senders] == [[Refused(8, 30)] * 2, [Refused(8, 30)]]


@pytest.mark.parametrize(
    "outcome",
    [
        Done(),
        MessagesStored(1, [RefusedFrame(3, 1)]),
        MessagesStored(1, [RefusedFrame(1, 1), RefusedFrame(1, 1)]),
        MessagesStored(1, [RefusedFrame(1, 1)], [RepeatedFrame(1, 1)]),
        MessagesStored(1, [], [RepeatedFrame(3, 1)]),
    ],
)
def test_an_outcome_that_does_not_fit_leaves_everyone_without_an_answer(outcome: Outcome) -> None:
    senders, _operation = answered([2, 1], outcome)
    assert all(sender.broken and not sender.heard for sender in senders)


def costs(run: Run) -> list[int]:
    return [cost for _sender, _recipients, cost in run.shares]


@pytest.mark.parametrize(
    ("limit", "kept", "rest"),
    [(0, [10], [20, 30]), (29, [10], [20, 30]), (30, [10, 20], [30]), (59, [10, 20], [30]), (60, [10, 20, 30], [])],
)
def test_a_part_of_a_run_leaves(limit: int, kept: list[int], rest: list[int]) -> None:
    run: Run = SendRun(3.0, authenticated=False)
    senders = [Sender(), Sender(), Sender()]
    for number, sender in enumerate(senders):
        put(run, run_of(number), 10 * (number + 1), sender)
    other = run.split(limit, now=8.0)
    assert costs(run) == kept
    assert run.cost == sum(kept)
    parts = [run]
    if other is None:
        assert rest == []
    else:
        assert costs(other) == rest
        assert other.cost == sum(rest)
        assert (run.opened_at, other.opened_at) == (3.0, 8.0)
        parts.append(other)
        # What is left takes more, behind what is there.
        put(other, run_of(9), 5, senders[0])
        assert other.cost == sum(rest) + 5
    first = 100
    for part in parts:
        operation = part.complete()
        count = len(list(walk_frames(operation.frames)))
        answer(part, MessagesStored(first, []))
        first += count
    heard = [entry for sender in senders for entry in sender.heard]
    assert sorted(heard, key=itemgetter(0))[:3] == [(recipient(number), 100 + number) for number in range(3)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6).filter(lambda shares: sum(shares) > 1))
def test_a_run_in_halves_tells_everyone_the_same(shares: list[int]) -> None:
    run: Run = SendRun(0.0, authenticated=True)
    senders = [Sender() for _ in shares]
    at = 0
    for sender, share in zip(senders, shares, strict=True):
        put(run, run_of(*range(at, at + share)), 10 * share + 1, sender)
        at += share
    whole = run.complete()
    *halves, divided = run.halve(whole)
    if divided is not None:
        divided.sends_divided()
    assert b"".join([half.operation.frames for half in halves]) == whole.frames
    assert sum([half.run.cost for half in halves]) == 10 * at + len(shares)
    counts = [len(list(walk_frames(half.operation.frames))) for half in halves]
    assert counts == [at - at // 2, at // 2]
    first = 100
    for half, count in zip(halves, counts, strict=True):
        assert half.operation.authenticated
        answer(half.run, MessagesStored(first, []))
        first += count
    assert [heard for sender in senders for heard in sender.heard] == [(recipient(n), 100 + n) for n in range(at)]
    for sender, share in zip(senders, shares, strict=True):
        assert len(sender.costs) == 1 + sender.divided
        assert sum(sender.costs) == 10 * share + 1
    assert sum([sender.divided for sender in senders]) <= 1


def test_a_run_with_tokens_is_halved_at_a_message() -> None:
    run: Run = SendRun(0.0, authenticated=True, once=True)
    frames = [pack_frame_once(b"s" * 16, bytes([n]) * 16, recipient(n), 3, bytes(n * 100)) for n in range(5)]
    run.frames.append(b"".join(frames))
    run.shares.append((Sender(), [recipient(n) for n in range(5)], 10))
    first, second, _divided = run.halve(run.complete())
    assert [first.operation, second.operation] == [
        StoreMessagesOnce(True, b"".join(frames[:3])),
        StoreMessagesOnce(True, b"".join(frames[3:])),
    ]
    assert isinstance(first.run.complete(), StoreMessagesOnce)
