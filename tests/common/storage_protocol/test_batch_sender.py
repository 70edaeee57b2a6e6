"""Numbering and resending: the gateway's end step by step, the worker's verdicts, and
both ends over a bad link.
"""

import random
from itertools import count

import pytest

from common.errors import GatewaySuperseded
from common.storage_protocol.batch_order import MOST_ON_THEIR_WAY, SlotState, Verdict, judge
from common.storage_protocol.batch_sender import (
    DEADLINE,
    LATE_GREETINGS,
    LATE_GREETINGS_WITHIN,
    LEAST_SIZE,
    RESEND_AFTER,
    SMALLEST_SHARE,
    Answered,
    BatchSender,
    GivenUp,
    Greeted,
    Half,
    WorkerChanged,
)
from common.storage_protocol.frames import (
    Batch,
    BatchRefused,
    GreetAgain,
    Hello,
    Reply,
    StoreFacts,
    Superseded,
    Welcome,
    decode_to_worker,
)
from common.storage_protocol.operations import Done, Outcome, Release, StoreMessages

FACTS = StoreFacts(bytes(16), 1, 0)
WORKER = b"w" * 16
OTHER_WORKER = b"v" * 16


def no_runs(_operation: StoreMessages, _waiter: str) -> tuple[Half[str], Half[str]]:
    raise AssertionError("there is no run to halve")


def new_sender() -> BatchSender[str]:
    numbers = count(1)
    return BatchSender(3, lambda: next(numbers).to_bytes(16, "big"), no_runs)


def greeted(sender: BatchSender[str], epoch: int = 1, now: float = 0.0) -> None:
    frame = sender.frame_to_send(now)
    assert frame is not None
    hello = decode_to_worker(frame)
    assert isinstance(hello, Hello)
    events = sender.receive(Welcome(3, epoch, hello.incarnation, WORKER, FACTS))
    assert events == [Greeted(FACTS, WORKER)]


def sent(sender: BatchSender[str], now: float = 0.0) -> Batch:
    frame = sender.frame_to_send(now)
    assert frame is not None
    batch = decode_to_worker(frame)
    assert isinstance(batch, Batch)
    return batch


def sent_two(sender: BatchSender[str]) -> tuple[Batch, Batch]:
    """Batches of one operation, one behind the other."""
    sender.submit(Release(1), "a", 0)
    first = sent(sender)
    sender.submit(Release(2), "b", 0)
    return first, sent(sender)


@pytest.fixture
def sender() -> BatchSender[str]:
    sender = new_sender()
    greeted(sender)
    return sender


class TestSender:
    def test_greets_first(self) -> None:
        sender = new_sender()
        sender.submit(Release(1), "a", 0)
        frame = sender.frame_to_send(0)
        assert frame is not None
        assert decode_to_worker(frame) == Hello(3, (1).to_bytes(16, "big"))
        assert not sender.ready
        assert sender.frame_to_send(RESEND_AFTER - 0.1) is None
        assert sender.frame_to_send(RESEND_AFTER) == frame

    def test_a_welcome_of_another_greeting_or_slot_is_none(self) -> None:
        sender = new_sender()
        assert sender.receive(Welcome(3, 1, bytes(16), WORKER, FACTS)) == []
        assert sender.receive(Welcome(4, 1, (1).to_bytes(16, "big"), WORKER, FACTS)) == []
        greeted(sender)
        assert sender.ready
        assert sender.receive(Welcome(3, 9, (1).to_bytes(16, "big"), WORKER, FACTS)) == []

    def test_nothing_to_send(self, sender: BatchSender[str]) -> None:
        assert sender.frame_to_send(0) is None
        assert sender.next_deadline(connected=True) is None
        assert sender.expire(10**6) == []

    def test_collects_while_a_batch_is_on_its_way(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0, 3 * LEAST_SIZE)
        assert (sender.collected, sender.waiting) == (1, False)
        assert sent(sender) == Batch(3, 1, 1, [Release(1)])
        sender.submit(Release(2), "b", 0)
        sender.submit(Release(3), "c", 0)
        assert not sender.has_place(0)
        assert sender.has_place(1), "any operation counts as the least size"
        assert sender.frame_to_send(0) is None
        assert (sender.collected, sender.waiting) == (2, True)
        assert sender.receive(Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert sent(sender) == Batch(3, 1, 2, [Release(2), Release(3)])

    def test_as_large_a_batch_leaves_behind_the_first_and_no_third_one(self, sender: BatchSender[str]) -> None:
        assert sender.has_place(0)
        sender.submit(Release(1), "a", 0, 600)
        sent(sender)
        sender.submit(Release(2), "b", 0, 599)
        assert sender.frame_to_send(0) is None
        sender.submit(Release(3), "c", 0, 1)
        assert sent(sender) == Batch(3, 1, 2, [Release(2), Release(3)])
        sender.submit(Release(4), "d", 0, 10_000)
        assert sender.frame_to_send(0) is None
        assert not sender.has_place(10_000)
        assert sender.receive(Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert sent(sender) == Batch(3, 1, 3, [Release(4)])
        assert sender.receive(BatchRefused(3, 1, 2)) == [Answered([Release(2), Release(3)], ["b", "c"], None)]
        assert sender.receive(Reply(3, 1, 3, WORKER, [Done()])) == [Answered([Release(4)], ["d"], [Done()])]
        assert not sender.waiting

    @pytest.mark.parametrize(
        "answer", [Reply(3, 1, 2, WORKER, [Done()]), BatchRefused(3, 1, 2), GreetAgain(3, 1, 2)], ids=type
    )
    def test_both_go_again_where_the_second_is_answered_first(
        self, sender: BatchSender[str], answer: Reply | BatchRefused | GreetAgain
    ) -> None:
        first, second = sent_two(sender)
        assert sender.frame_to_send(0) is None
        assert sender.receive(answer) == []
        assert [sent(sender), sent(sender)] == [first, second]
        assert sender.frame_to_send(0) is None
        # They do not go in circles where the first is never answered.
        assert sender.receive(answer) == []
        assert sender.frame_to_send(0) is None
        assert sender.receive(Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert sender.receive(Reply(3, 1, 2, WORKER, [Done()])) == [Answered([Release(2)], ["b"], [Done()])]

    def test_only_what_was_not_sent_goes_again(self, sender: BatchSender[str]) -> None:
        _, second = sent_two(sender)
        sender.not_sent()
        assert sent(sender) == second
        assert sender.frame_to_send(0) is None

    def test_both_go_again_in_their_order(self, sender: BatchSender[str]) -> None:
        first, second = sent_two(sender)
        sender.reconnected()
        assert [sent(sender), sent(sender)] == [first, second]
        assert sender.frame_to_send(0) is None

    def test_nothing_goes_again_for_the_time_it_takes_and_the_first_gives_both_up(
        self, sender: BatchSender[str]
    ) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        sender.submit(Release(2), "b", 1)
        sent(sender, 1)
        assert sender.next_deadline(connected=False) == sender.next_deadline(connected=True) == DEADLINE
        for now in (RESEND_AFTER, 2 * RESEND_AFTER, DEADLINE - 0.1):
            assert sender.frame_to_send(now) is None
            assert sender.expire(now) == []
        assert len(sender.expire(DEADLINE)) == 2

    @pytest.mark.parametrize("end", [GreetAgain(3, 1, 1), Superseded(3, 1), Reply(3, 1, 1, WORKER, []), None], ids=str)
    def test_both_are_given_up_together(
        self, sender: BatchSender[str], end: GreetAgain | Superseded | Reply | None
    ) -> None:
        sent_two(sender)
        events = sender.expire(DEADLINE) if end is None else sender.receive(end)
        assert events == [GivenUp([Release(1)], ["a"]), GivenUp([Release(2)], ["b"])]
        assert not sender.ready
        assert sender.size == 0
        greeted(sender, epoch=2)
        sender.submit(Release(3), "c", 0)
        assert sent(sender) == Batch(3, 2, 1, [Release(3)])

    def test_what_is_leaving(self, sender: BatchSender[str]) -> None:
        sent_two(sender)
        assert sender.leaving == [Release(2)]
        sender.reconnected()
        sent(sender)
        assert sender.leaving == [Release(1)]
        sender.receive(GreetAgain(3, 1, 1))
        sender.frame_to_send(0)
        assert sender.leaving == []

    def test_the_number_stays_when_it_goes_again(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        first = sent(sender)
        sender.reconnected()
        assert sent(sender, RESEND_AFTER) == first
        sender.not_sent()
        assert sent(sender, RESEND_AFTER) == first

    def test_late_answers_are_no_news(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        for late in (
            Reply(3, 1, 0, WORKER, []),
            Reply(3, 2, 1, WORKER, [Done()]),
            Reply(4, 1, 1, WORKER, [Done()]),
            BatchRefused(3, 1, 2),
            GreetAgain(3, 1, 2),
            Superseded(3, 0),
            Superseded(2, 1),
        ):
            assert sender.receive(late) == []
        assert sender.waiting
        sender.receive(Reply(3, 1, 1, WORKER, [Done()]))
        assert sender.receive(Reply(3, 1, 1, WORKER, [Done()])) == []
        assert sender.receive(BatchRefused(3, 1, 1)) == []
        assert sender.receive(GreetAgain(3, 1, 1)) == []

    def test_refused(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert sender.receive(BatchRefused(3, 1, 1)) == [Answered([Release(1)], ["a"], None)]
        sender.submit(Release(2), "b", 0)
        assert sent(sender).number == 2

    def test_deadline(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        sender.submit(Release(2), "b", 1)
        assert sender.expire(DEADLINE - 0.1) == []
        assert sender.next_deadline(connected=False) == DEADLINE
        assert sender.expire(DEADLINE) == [GivenUp([Release(1)], ["a"])]
        assert not sender.ready
        assert sender.expire(DEADLINE + 1) == [GivenUp([Release(2)], ["b"])]
        greeted(sender, epoch=2, now=DEADLINE + 1)
        sender.submit(Release(3), "c", 20)
        assert sent(sender, 20) == Batch(3, 2, 1, [Release(3)])

    def test_what_is_behind_an_answered_batch_has_its_time_from_there(self, sender: BatchSender[str]) -> None:
        sent_two(sender)
        sender.submit(Release(3), "c", 0)
        assert sender.receive(Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert sender.expire(10) == []
        sender.submit(Release(4), "d", 11)
        sent(sender, RESEND_AFTER + 10)
        assert sender.expire(DEADLINE + 9.9) == []
        assert sender.next_deadline(connected=False) == DEADLINE + 10
        assert sender.expire(DEADLINE + 10) == [
            GivenUp([Release(2)], ["b"]),
            GivenUp([Release(3), Release(4)], ["c", "d"]),
        ]

    def test_what_never_runs_empty_does_not_grow_old(self, sender: BatchSender[str]) -> None:
        size = SMALLEST_SHARE * 2
        sender.submit(Release(0), "a", 0, size)
        batch = sent(sender)
        for waiter in ("b", "c"):
            sender.submit(Release(0), waiter, 0, size)
        # Three clients that send again when they are answered: one is always on its way, and two
        # wait.
        for second in range(1, int(DEADLINE) + 5):
            [answered] = sender.receive(Reply(3, 1, batch.number, WORKER, [Done()]))
            assert isinstance(answered, Answered)
            assert sender.expire(second) == []
            batch = sent(sender, second)
            assert (len(batch.operations), sender.collected) == (1, 1)
            sender.submit(Release(0), answered.waiters[0], second, size)

    def test_greet_again(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert sender.receive(GreetAgain(3, 1, 1)) == [GivenUp([Release(1)], ["a"])]
        assert not sender.ready

    def test_superseded_once_by_a_greeting_of_the_dead(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert sender.receive(Superseded(3, 1)) == [GivenUp([Release(1)], ["a"])]
        # The same once more is no news.
        assert sender.receive(Superseded(3, 1)) == []
        greeted(sender, epoch=3)
        sender.submit(Release(2), "b", 0)
        assert sent(sender) == Batch(3, 3, 1, [Release(2)])

    def test_superseded_again_and_again_by_one_that_lives(self, sender: BatchSender[str]) -> None:
        for number in range(LATE_GREETINGS):
            sender.submit(Release(1), "a", 10.0 * number)
            sent(sender, 10.0 * number)
            assert sender.receive(Superseded(3, 1 + 2 * number)) == [GivenUp([Release(1)], ["a"])]
            greeted(sender, epoch=3 + 2 * number, now=10.0 * number)
        sender.submit(Release(1), "a", 50.0)
        sent(sender, 50.0)
        with pytest.raises(GatewaySuperseded, match="slot 3"):
            sender.receive(Superseded(3, 1 + 2 * LATE_GREETINGS))

    def test_superseded_now_and_then_is_no_reason_to_end(self, sender: BatchSender[str]) -> None:
        for number in range(3 * LATE_GREETINGS):
            now = LATE_GREETINGS_WITHIN * number
            sender.submit(Release(1), "a", now)
            sent(sender, now)
            assert sender.receive(Superseded(3, 1 + number)) == [GivenUp([Release(1)], ["a"])]
            greeted(sender, epoch=2 + number, now=now)

    def test_superseded_is_old_news_while_greeting(self) -> None:
        assert new_sender().receive(Superseded(3, 0)) == []

    def test_another_worker(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert sender.receive(Reply(3, 1, 1, OTHER_WORKER, [Done()])) == [
            WorkerChanged(OTHER_WORKER),
            Answered([Release(1)], ["a"], [Done()]),
        ]
        sender.submit(Release(2), "b", 0)
        sent(sender)
        assert len(sender.receive(Reply(3, 1, 2, OTHER_WORKER, [Done()]))) == 1

    def test_sizes_are_those_of_what_was_not_answered(self, sender: BatchSender[str]) -> None:
        assert sender.size == 0
        sender.submit(Release(1), "a", 0, 1000)
        sender.submit(Release(2), "b", 0)
        assert sender.size == 1000 + LEAST_SIZE
        sent(sender)
        sender.submit(Release(3), "c", 0, 500)
        assert sender.size == 1500 + LEAST_SIZE
        sender.receive(Reply(3, 1, 1, WORKER, [Done(), Done()]))
        assert sender.size == 500
        sender.give_up_collected()
        assert sender.size == 0
        sender.submit(Release(4), "d", 0, 700)
        sent(sender)
        sender.receive(GreetAgain(3, 1, 2))
        assert sender.size == 0

    def test_sizes_of_both_that_are_on_their_way(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0, 1000)
        sent(sender)
        sender.submit(Release(2), "b", 0, 2000)
        sent(sender)
        assert sender.size == 3000
        sender.receive(Reply(3, 1, 1, WORKER, [Done()]))
        assert sender.size == 2000

    def test_all_that_waits_leaves_where_nothing_was_just_answered(self, sender: BatchSender[str]) -> None:
        for number in range(100):
            sender.submit(Release(number), "a", 0, 1000)
        assert sender.share(5000) == 105_000
        assert len(sent(sender).operations) == 100

    def test_half_of_what_waits_and_was_answered_leaves(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(0), "a", 0, 100_000)
        sent(sender)
        for number in range(1, 41):
            sender.submit(Release(number), "a", 0, 10_000)
        sender.receive(Reply(3, 1, 1, WORKER, [Done()]))
        # 400,000 wait and 100,000 were answered.
        assert sender.share(0) == 250_000
        assert sent(sender).operations == [Release(number) for number in range(1, 26)]
        for number in range(41, 51):
            sender.submit(Release(number), "a", 0, 10_000)
        sender.receive(Reply(3, 1, 2, WORKER, [Done()] * 25))
        # From here on two halves take turns.
        assert sent(sender).operations == [Release(number) for number in range(26, 51)]

    def test_what_was_answered_counts_only_at_once(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(0), "a", 0, 50_000)
        sent(sender)
        sender.receive(Reply(3, 1, 1, WORKER, [Done()]))
        assert sender.frame_to_send(0) is None
        for number in range(1, 101):
            sender.submit(Release(number), "a", 0, 1000)
        assert len(sent(sender).operations) == 100

    def test_what_was_answered_counts_for_one_batch(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(0), "a", 0, 100_000)
        sent(sender)
        for number in range(40):
            sender.submit(Release(number), "a", 0, 10_000)
        sender.receive(Reply(3, 1, 1, WORKER, [Done()]))
        assert len(sent(sender).operations) == 25
        for number in range(10):
            sender.submit(Release(number), "a", 0, 10_000)
        assert len(sent(sender).operations) == 25, "all that waits"

    def test_what_was_answered_does_not_count_for_the_next_greeting(self, sender: BatchSender[str]) -> None:
        sent_two(sender)
        for number in range(100):
            sender.submit(Release(number), "a", 0, 1000)
        sender.receive(Reply(3, 1, 1, WORKER, [Done()]))
        sender.receive(GreetAgain(3, 1, 2))
        greeted(sender, epoch=2)
        assert len(sent(sender).operations) == 100

    def test_little_is_not_divided_and_one_operation_never(self, sender: BatchSender[str]) -> None:
        for number, sizes in enumerate([[300, 300, 300], [100_000]], start=1):
            sender.submit(Release(0), "a", 0, 300)
            sent(sender)
            for size in sizes:
                sender.submit(Release(size), "a", 0, size)
            sender.receive(Reply(3, 1, 2 * number - 1, WORKER, [Done()]))
            assert sent(sender).operations == [Release(size) for size in sizes]
            sender.receive(Reply(3, 1, 2 * number, WORKER, [Done()] * len(sizes)))
            assert sender.frame_to_send(0) is None

    def test_a_reply_of_the_wrong_length_is_unknown(self, sender: BatchSender[str]) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert sender.receive(Reply(3, 1, 1, WORKER, [])) == [GivenUp([Release(1)], ["a"])]
        assert not sender.ready


class Counter:
    """A worker that does nothing but count how often each operation was done; it may
    forget what is in memory.
    """

    def __init__(self) -> None:
        self.state: SlotState | None = None
        self.incarnation = b""
        self.kept: dict[int, list[Outcome]] = {}
        self.done: list[int] = []

    def handle(self, frame: bytes) -> list[Welcome | Reply | Superseded | GreetAgain]:
        message = decode_to_worker(frame)
        if isinstance(message, Hello):
            if message.incarnation != self.incarnation:
                self.incarnation = message.incarnation
                self.state = SlotState(self.state.epoch + 1 if self.state else 1, 0)
                self.kept.clear()
            assert self.state is not None
            return [Welcome(3, self.state.epoch, message.incarnation, WORKER, FACTS)]
        assert isinstance(message, Batch)
        match judge(self.state, message.epoch, message.number):
            case Verdict.APPLY:
                self.state = SlotState(message.epoch, message.number)
                for operation in message.operations:
                    assert isinstance(operation, Release)
                    self.done.append(operation.lease)
                self.kept[message.number] = [Done()] * len(message.operations)
                self.kept.pop(message.number - MOST_ON_THEIR_WAY, None)
            case Verdict.IGNORE:
                return []
            case Verdict.SUPERSEDED:
                return [Superseded(3, message.epoch)]
            case Verdict.GREET_AGAIN:
                return [GreetAgain(3, message.epoch, message.number)]
            case Verdict.ANSWER_AGAIN:
                pass
        return [Reply(3, message.epoch, message.number, WORKER, self.kept[message.number])]


@pytest.mark.parametrize("seed", range(30))
def test_both_ends_over_a_link_that_loses_and_repeats(seed: int) -> None:
    """Answered is done exactly once, given up is done at most once, and the order is kept."""
    chance = random.Random(seed)
    sender, worker = new_sender(), Counter()
    answered: list[int] = []
    given_up: list[int] = []
    submitted = count(1)
    on_the_way: list[bytes] = []
    now = 0.0
    while len(answered) < 200:
        now += chance.choice([0.01, 0.5, 3.0])
        for _ in range(chance.randrange(4)):
            number = next(submitted)
            sender.submit(Release(number), str(number), now, chance.choice([0, SMALLEST_SHARE]))
        events = sender.expire(now)
        while (frame := sender.frame_to_send(now)) is not None:
            if chance.random() < 0.8:
                on_the_way += [frame] * chance.choice([1, 1, 2])
        # One connection keeps the order of what it does deliver.
        while on_the_way and chance.random() < 0.9:
            for answer in worker.handle(on_the_way.pop(0)):
                if chance.random() < 0.7:
                    events += sender.receive(answer)
        if chance.random() < 0.02:
            sender.reconnected()
        for event in events:
            if isinstance(event, Answered):
                assert event.outcomes is not None
                answered += [int(waiter) for waiter in event.waiters]
            elif isinstance(event, GivenUp):
                given_up += [int(waiter) for waiter in event.waiters]
    assert len(set(worker.done)) == len(worker.done)
    assert worker.done == sorted(worker.done)
    assert set(answered) <= set(worker.done)
    assert not set(answered) & set(given_up)
