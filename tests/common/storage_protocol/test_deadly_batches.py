"""Batches that end the worker: what kills it is found, nothing else is lost, done twice
or put out of order.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from common.storage_protocol.batch_order import SlotState, Verdict, judge
from common.storage_protocol.batch_sender import (
    Answered,
    BatchSender,
    Deadly,
    Event,
    GivenUp,
    Greeted,
    LinkChange,
)
from common.storage_protocol.frames import Batch, GreetAgain, Hello, Reply, StoreFacts, Welcome, decode_to_worker
from common.storage_protocol.message_format import pack_frame, walk_frames
from common.storage_protocol.operations import Done, Operation, Outcome, Release, StoreMessages
from common.storage_protocol.send_run import SendRun

FACTS = StoreFacts(bytes(16), 1, 0)


def run_of(numbers: Sequence[int]) -> StoreMessages:
    return StoreMessages(False, b"".join([pack_frame(bytes(16), bytes(16), 3, b"%d" % number) for number in numbers]))


def numbers_of(operation: Operation) -> list[int]:
    """What is in an operation: a release's lease, or a run's contents."""
    if isinstance(operation, StoreMessages):
        return [int(frame.content) for frame in walk_frames(operation.frames)]
    assert isinstance(operation, Release)
    return [operation.lease]


class Worker:
    """Keeps what it applied, as the storage worker does, and ends where it is given one
    of `deadly`.
    """

    def __init__(self, deadly: set[int]) -> None:
        self.deadly = deadly
        self.applied: list[int] = []
        self.given: list[int] = []
        self.state = SlotState(0, 0)
        self._kept: dict[int, list[Outcome]] = {}

    def take(self, frames: list[bytes]) -> list[Welcome | Reply | GreetAgain] | None:
        """One turn: all of it is done and answered, or, where it kills, nothing: None."""
        state, applied, kept = self.state, [], dict(self._kept)
        answers: list[Welcome | Reply | GreetAgain] = []
        dies = False
        for frame in frames:
            message = decode_to_worker(frame)
            if isinstance(message, Hello):
                state, kept = SlotState(state.epoch + 1, 0), {}
                answers.append(Welcome(3, state.epoch, message.incarnation, b"w" * 16, FACTS))
                continue
            assert isinstance(message, Batch)
            _slot, epoch, number, operations = message
            verdict = judge(state, epoch, number)
            if verdict is Verdict.APPLY:
                numbers = [number for operation in operations for number in numbers_of(operation)]
                self.given += numbers
                dies = dies or not self.deadly.isdisjoint(numbers)
                applied += numbers
                state, kept[number] = SlotState(epoch, number), [Done() for _ in operations]
            elif verdict is not Verdict.ANSWER_AGAIN or len(kept[number]) != len(operations):
                answers.append(GreetAgain(3, epoch, number))
                continue
            answers.append(Reply(3, epoch, number, b"w" * 16, kept[number]))
        if dies:
            return None
        self.state, self._kept = state, kept
        self.applied += applied
        return answers


Sender = BatchSender[int, int]


class Sends(NamedTuple):
    """One connection's messages."""

    frames: bytes
    recipients: list[bytes]
    once: bool = False


def frame_of(sender: Sender) -> bytes | None:
    """The frame that leaves now."""
    outgoing = sender.data_to_send(0)
    return outgoing.frame if outgoing is not None else None


def run(sender: Sender, worker: Worker) -> list[Event[int, int]]:
    """Until nothing more leaves."""
    events = sender.receive([], 0)
    while True:
        frames = []
        while (frame := frame_of(sender)) is not None:
            frames.append(frame)
        if not frames:
            return events
        answers = worker.take(frames)
        events += sender.receive([LinkChange.UP] if answers is None else answers, 0)


def new_sender(worker: Worker) -> Sender:
    sender: Sender = BatchSender(3, lambda: bytes(16))
    sender.receive([LinkChange.UP], 0)
    assert run(sender, worker) == [Greeted(FACTS, b"w" * 16)]
    return sender


def submit(sender: Sender, *numbers: int) -> None:
    """A release where it is one number, else a run of one connection, which is its first number."""
    if len(numbers) == 1:
        sender.submit(Release(numbers[0]), numbers[0], 0)
    else:
        frames = run_of(numbers).frames
        sender.submit_sends(Sends(frames, [bytes(16)] * len(numbers)), numbers[0], 0, len(frames), authenticated=False)


def done(events: list[Event[int, int]]) -> list[int]:
    """What was answered; of a run the connections hear of as many messages as there are."""
    found: list[int] = []
    for event in events:
        if isinstance(event, Answered):
            for operation, waiter in zip(event.operations, event.waiters, strict=True):
                numbers = numbers_of(operation)
                assert waiter.count == len(numbers) if isinstance(waiter, SendRun) else waiter == numbers[0]
                found += numbers
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("behind", [0, 1, 5])
def test_what_kills_is_found(count: int, behind: int) -> None:
    for deadly in {0, count // 2, count - 1, count + behind - 1}:
        worker = Worker({deadly})
        sender = new_sender(worker)
        for number in range(count):
            submit(sender, number)
        events: list[Event[int, int]] = []
        first = frame_of(sender)
        assert first is not None
        for number in range(count, count + behind):
            submit(sender, number)
        sender.receive([LinkChange.FULL], 0)
        events = run(sender, worker)
        others = [number for number in range(count + behind) if number != deadly]
        assert [event for event in events if isinstance(event, Deadly)] == [Deadly(Release(deadly), deadly)]
        assert worker.applied == done(events) == others
        assert not any(isinstance(event, GivenUp) for event in events)
        assert (sender.size, sender.is_idle) == (0, True)
        submit(sender, 1000)
        assert done(run(sender, worker)) == [1000]


def test_a_batch_that_ended_the_worker_twice_does_not_go_whole_again() -> None:
    worker = Worker({2})
    sender = new_sender(worker)
    for number in range(4):
        submit(sender, number)
    run(sender, worker)
    # Twice whole; then halves: 0 and 1 are done, 2 and 3 end it; then 2 alone, twice; then 3.
    assert worker.given == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 2, 2, 3]


def test_what_was_done_when_the_worker_ended_is_not_done_again() -> None:
    worker = Worker(set())
    sender = new_sender(worker)
    for number in range(4):
        submit(sender, number)
    frame = frame_of(sender)
    assert frame is not None
    assert worker.take([frame]) is not None
    sender.receive([LinkChange.UP], 0)
    assert frame_of(sender) == frame
    sender.receive([LinkChange.UP], 0)
    events = run(sender, worker)
    # Asked with an empty batch, the worker says that it has done it: with what outcome is not known
    # any more.
    assert events == [GivenUp([Release(n) for n in range(4)], [0, 1, 2, 3]), Greeted(FACTS, b"w" * 16)]
    assert worker.applied == [0, 1, 2, 3]


def test_an_answer_that_was_on_its_way_is_taken() -> None:
    worker = Worker(set())
    sender = new_sender(worker)
    submit(sender, 0)
    frame = frame_of(sender)
    assert frame is not None
    answers = worker.take([frame])
    assert answers is not None
    sender.receive([LinkChange.UP], 0)
    frame_of(sender)
    sender.receive([LinkChange.UP], 0)
    assert sender.receive(answers[:1], 0) == [Answered([Release(0)], [0], [Done()])]
    assert frame_of(sender) is None


@pytest.mark.parametrize("count", [2, 3, 8, 100])
def test_a_run_is_divided_until_the_message_that_kills_is_alone(count: int) -> None:
    for deadly in {0, count // 2, count - 1}:
        worker = Worker({deadly})
        sender = new_sender(worker)
        submit(sender, *range(count))
        events = run(sender, worker)
        [found] = [event for event in events if isinstance(event, Deadly)]
        assert found.operation == run_of([deadly])
        assert isinstance(found.waiter, SendRun)
        assert [sender for sender, _recipients, _cost in found.waiter.shares] == [0]
        assert worker.applied == done(events) == [number for number in range(count) if number != deadly]
        assert not any(isinstance(event, GivenUp) for event in events)
        assert (sender.size, sender.is_idle) == (0, True)


def test_how_often_a_run_goes_before_its_message_is_found() -> None:
    worker = Worker({2})
    sender = new_sender(worker)
    submit(sender, 0, 1, 2, 3)
    run(sender, worker)
    # Twice whole; then halves, each once: 0 and 1 are done, 2 and 3 end it; then 2 alone, twice;
    # then 3.
    assert worker.given == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 2, 2, 3]


def test_any_mixture_keeps_order_and_does_nothing_twice() -> None:
    rng = random.Random(1)
    for _ in range(200):
        total = rng.randrange(1, 60)
        deadly = {number for number in range(total) if rng.random() < 0.1}
        worker = Worker(deadly)
        sender = new_sender(worker)
        events: list[Event[int, int]] = []
        number = 0
        while number < total:
            for _ in range(rng.randrange(1, 10)):
                if number < total:
                    several = min(rng.choice([1, 1, 2, 7]), total - number)
                    submit(sender, *range(number, number + several))
                    number += several
            if rng.random() < 0.5:
                events += run(sender, worker)
            elif frame_of(sender) is not None:
                sender.receive([LinkChange.FULL], 0)
        events += run(sender, worker)
        assert worker.applied == done(events) == [n for n in range(total) if n not in deadly]
        assert [
            number for event in events if isinstance(event, Deadly) for number in numbers_of(event.operation)
        ] == sorted(deadly)
