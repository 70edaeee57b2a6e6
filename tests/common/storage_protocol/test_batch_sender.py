"""Numbering and resending: the gateway's end step by step, the worker's verdicts, and
both ends over a bad link.
"""

import random
from itertools import count
from typing import NamedTuple

import pytest

from common.storage_protocol import batch_sender
from common.storage_protocol.batch_order import MOST_IN_FLIGHT, SlotState, Verdict, judge
from common.storage_protocol.batch_sender import (
    DEADLINE,
    LATE_GREETINGS,
    LATE_GREETINGS_WITHIN,
    LEAST_SIZE,
    RESEND_AFTER,
    SMALLEST_SHARE,
    Answered,
    BatchSender,
    Event,
    GivenUp,
    Greeted,
    Incoming,
    LinkChange,
    SlotLost,
    Unsent,
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
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    Done,
    GetAbout,
    MessagesStored,
    Outcome,
    Release,
    StoreMessages,
    StoreMessagesOnce,
)
from common.storage_protocol.send_run import LARGEST, SendRun

FACTS = StoreFacts(bytes(16), 1, 0)
WORKER = b"w" * 16
OTHER_WORKER = b"v" * 16


Sender = BatchSender[str, str]


def new_sender() -> Sender:
    numbers = count(1)
    sender: Sender = BatchSender(3, lambda: next(numbers).to_bytes(16, "big"))
    assert heard(sender, LinkChange.UP) == []
    return sender


def heard(sender: Sender, *messages: Incoming, now: float = 0.0) -> list[Event[str, str]]:
    return sender.receive(messages, now)


def frame_of(sender: Sender, now: float = 0.0) -> bytes | None:
    """The frame that leaves now."""
    outgoing = sender.data_to_send(now)
    return outgoing.frame if outgoing is not None else None


def is_greeting(sender: Sender, now: float = 1e9) -> bool:
    """Whether the worker has to welcome this gateway: all that leaves is a greeting."""
    frame = frame_of(sender, now)
    return frame is not None and isinstance(decode_to_worker(frame), Hello)


def greeted(sender: Sender, epoch: int = 1, now: float = 0.0) -> None:
    frame = frame_of(sender, now)
    assert frame is not None
    hello = decode_to_worker(frame)
    assert isinstance(hello, Hello)
    events = heard(sender, Welcome(3, epoch, hello.incarnation, WORKER, FACTS), now=now)
    assert events == [Greeted(FACTS, WORKER)]


def sent(sender: Sender, now: float = 0.0) -> Batch:
    frame = frame_of(sender, now)
    assert frame is not None
    batch = decode_to_worker(frame)
    assert isinstance(batch, Batch)
    return batch


def sent_two(sender: Sender) -> tuple[Batch, Batch]:
    """Batches of one operation, one behind the other."""
    sender.submit(Release(1), "a", 0)
    first = sent(sender)
    sender.submit(Release(2), "b", 0)
    return first, sent(sender)


@pytest.fixture
def sender() -> Sender:
    sender = new_sender()
    greeted(sender)
    return sender


class TestRefusingWhatWasNotSent:
    """With `refuse_after`, as for a worker among others."""

    @pytest.fixture
    def impatient(self) -> Sender:
        numbers = count(1)
        sender: Sender = BatchSender(3, lambda: next(numbers).to_bytes(16, "big"), refuse_after=1.0)
        heard(sender, LinkChange.UP)
        greeted(sender)
        return sender

    def test_it_is_refused_when_the_link_was_down_so_long(self, impatient: Sender) -> None:
        impatient.submit(GetAbout(), "in flight", 0, 300)
        sent(impatient)
        assert heard(impatient, LinkChange.DOWN, now=10) == []
        impatient.submit(GetAbout(), "a", 10, 400)
        impatient.submit(Release(1), "ending", 10, 500)
        impatient.submit_sends(Frames([b"r" * 16], frame_of_603(1)), "s", 10, 600, authenticated=False)
        assert impatient.next_timeout() == 11
        assert heard(impatient, now=10.9) == []
        [event] = heard(impatient, now=11)
        assert isinstance(event, Unsent)
        assert [type(one) for one in event.operations] == [GetAbout, StoreMessages]
        assert event.waiters[0] == "a"
        assert isinstance(event.waiters[1], SendRun)
        assert impatient.size == 800
        assert impatient.next_timeout() == DEADLINE
        # Whatever comes now has waited long enough.
        impatient.submit(GetAbout(), "b", 12)
        assert heard(impatient, now=12) == [Unsent([GetAbout()], ["b"])]
        assert heard(impatient, LinkChange.UP, now=13) == []
        impatient.submit(GetAbout(), "c", 13)
        assert sent(impatient, 13).operations == [GetAbout()]
        assert heard(impatient, Reply(3, 1, 1, WORKER, [Done()]), now=13)
        assert sent(impatient, 13).operations == [Release(1), GetAbout()]

    def test_before_the_first_connection_too(self) -> None:
        sender: Sender = BatchSender(3, lambda: bytes(16), refuse_after=1.0)
        sender.submit(GetAbout(), "a", 5)
        assert heard(sender, now=5) == []
        assert heard(sender, now=6) == [Unsent([GetAbout()], ["a"])]
        assert sender.is_idle

    def test_endings_that_never_leave_end_with_a_greeting(self, impatient: Sender) -> None:
        heard(impatient, LinkChange.DOWN, now=10)
        impatient.submit(Release(1), "ending", 10)
        assert heard(impatient, now=12) == []
        assert heard(impatient, now=10 + DEADLINE) == [GivenUp([Release(1)], ["ending"], is_late=True)]
        heard(impatient, LinkChange.UP, now=30)
        assert is_greeting(impatient, 30)

    def test_a_short_interruption_is_not_noticed(self, impatient: Sender) -> None:
        for now in (10.0, 10.8, 11.6):
            heard(impatient, LinkChange.DOWN, now=now)
            impatient.submit(GetAbout(), "a", now)
            assert heard(impatient, now=now + 0.7) == []
            assert heard(impatient, LinkChange.UP, now=now + 0.75) == []


class Frames(NamedTuple):
    """Sends of one connection."""

    recipients: list[bytes]
    frames: bytes
    once: bool = False


def frame_of_603(number: int) -> bytes:
    return pack_frame(b"s" * 16, b"r" * 16, 3, bytes((number,)))


class TestSender:
    def test_greets_first(self) -> None:
        sender = new_sender()
        sender.submit(Release(1), "a", 0)
        frame = frame_of(sender)
        assert frame is not None
        assert decode_to_worker(frame) == Hello(3, (1).to_bytes(16, "big"))
        assert frame_of(sender, RESEND_AFTER - 0.1) is None
        assert frame_of(sender, RESEND_AFTER) == frame

    def test_a_welcome_of_another_greeting_or_slot_is_none(self) -> None:
        sender = new_sender()
        assert heard(sender, Welcome(3, 1, bytes(16), WORKER, FACTS)) == []
        assert heard(sender, Welcome(4, 1, (1).to_bytes(16, "big"), WORKER, FACTS)) == []
        greeted(sender)
        assert frame_of(sender, RESEND_AFTER) is None
        assert heard(sender, Welcome(3, 9, (1).to_bytes(16, "big"), WORKER, FACTS)) == []

    def test_nothing_to_send(self, sender: Sender) -> None:
        assert frame_of(sender) is None
        assert sender.next_timeout() is None
        assert heard(sender, now=10**6) == []

    def test_collects_while_a_batch_is_on_its_way(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0, 3 * LEAST_SIZE)
        assert sender.collects
        assert sent(sender) == Batch(3, 1, 1, [Release(1)])
        sender.submit(Release(2), "b", 0)
        sender.submit(Release(3), "c", 0)
        assert frame_of(sender) is None
        assert sender.collects
        assert not sender.is_idle
        assert heard(sender, Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert sent(sender) == Batch(3, 1, 2, [Release(2), Release(3)])

    def test_as_large_a_batch_leaves_behind_the_first_and_no_third_one(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0, 600)
        sent(sender)
        sender.submit(Release(2), "b", 0, 599)
        assert frame_of(sender) is None
        sender.submit(Release(3), "c", 0, 1)
        assert sent(sender) == Batch(3, 1, 2, [Release(2), Release(3)])
        sender.submit(Release(4), "d", 0, 10_000)
        assert frame_of(sender) is None
        assert heard(sender, Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert sent(sender) == Batch(3, 1, 3, [Release(4)])
        assert heard(sender, BatchRefused(3, 1, 2)) == [Answered([Release(2), Release(3)], ["b", "c"], None)]
        assert heard(sender, Reply(3, 1, 3, WORKER, [Done()])) == [Answered([Release(4)], ["d"], [Done()])]
        assert sender.is_idle

    @pytest.mark.parametrize(
        "answer", [Reply(3, 1, 2, WORKER, [Done()]), BatchRefused(3, 1, 2), GreetAgain(3, 1, 2)], ids=type
    )
    def test_both_go_again_where_the_second_is_answered_first(
        self, sender: Sender, answer: Reply | BatchRefused | GreetAgain
    ) -> None:
        first, second = sent_two(sender)
        assert frame_of(sender) is None
        assert heard(sender, answer) == []
        assert [sent(sender), sent(sender)] == [first, second]
        assert frame_of(sender) is None
        # They do not go in circles where the first is never answered.
        assert heard(sender, answer) == []
        assert frame_of(sender) is None
        assert heard(sender, Reply(3, 1, 1, WORKER, [Done()])) == [Answered([Release(1)], ["a"], [Done()])]
        assert heard(sender, Reply(3, 1, 2, WORKER, [Done()])) == [Answered([Release(2)], ["b"], [Done()])]

    def test_only_what_was_not_sent_goes_again(self, sender: Sender) -> None:
        _, second = sent_two(sender)
        heard(sender, LinkChange.FULL)
        assert sent(sender) == second
        assert frame_of(sender) is None

    def test_both_go_again_in_their_order(self, sender: Sender) -> None:
        first, second = sent_two(sender)
        heard(sender, LinkChange.UP)
        assert [sent(sender), sent(sender)] == [first, second]
        assert frame_of(sender) is None

    def test_nothing_goes_again_for_the_time_it_takes_and_the_first_gives_both_up(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        sender.submit(Release(2), "b", 1)
        sent(sender, 1)
        assert sender.next_timeout() == DEADLINE
        for now in (RESEND_AFTER, 2 * RESEND_AFTER, DEADLINE - 0.1):
            assert frame_of(sender, now) is None
            assert heard(sender, now=now) == []
        assert len(heard(sender, now=DEADLINE)) == 2

    @pytest.mark.parametrize("end", [GreetAgain(3, 1, 1), Superseded(3, 1), Reply(3, 1, 1, WORKER, []), None], ids=str)
    def test_both_are_given_up_together(self, sender: Sender, end: GreetAgain | Superseded | Reply | None) -> None:
        sent_two(sender)
        events = heard(sender, now=DEADLINE) if end is None else heard(sender, end)
        late = end is None
        assert events == [GivenUp([Release(1)], ["a"], late), GivenUp([Release(2)], ["b"], late)]
        assert sender.size == 0
        greeted(sender, epoch=2)
        sender.submit(Release(3), "c", 0)
        assert sent(sender) == Batch(3, 2, 1, [Release(3)])

    def test_what_is_leaving(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        first = sender.data_to_send(0)
        assert first is not None
        assert (first.operations, first.is_new) == ([Release(1)], True)
        heard(sender, LinkChange.UP)
        again = sender.data_to_send(0)
        assert again is not None
        assert (again.frame, again.operations, again.is_new) == (first.frame, [Release(1)], False)
        heard(sender, GreetAgain(3, 1, 1))
        greeting = sender.data_to_send(0)
        assert greeting is not None
        assert (greeting.operations, greeting.is_new) == ([], False)

    def test_nothing_leaves_while_the_link_is_down(self, sender: Sender) -> None:
        heard(sender, LinkChange.DOWN)
        sender.submit(Release(1), "a", 3)
        assert sender.data_to_send(3) is None
        assert sender.next_timeout() == 3 + DEADLINE
        assert heard(sender, LinkChange.UP, now=4) == []
        assert sent(sender, 4) == Batch(3, 1, 1, [Release(1)])
        heard(sender, LinkChange.UP)
        assert sender.next_timeout() == float("-inf")
        heard(sender, LinkChange.DOWN)
        assert sender.next_timeout() == 4 + DEADLINE

    def test_another_store_gives_up_what_has_not_left(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        sender.submit(Release(2), "b", 0)
        sender.submit_sends(Sends(b"f", [b"r"]), "c", 0, 10, authenticated=False)
        assert heard(sender, GreetAgain(3, 1, 1)) == [GivenUp([Release(1)], ["a"])]
        hello = decode_to_worker(frame_of(sender) or b"")
        assert isinstance(hello, Hello)
        other = StoreFacts(b"o" * 16, 1, 0)
        [given_up, welcomed] = heard(sender, Welcome(3, 2, hello.incarnation, WORKER, other))
        assert isinstance(given_up, GivenUp)
        assert given_up.operations == [Release(2), StoreMessages(False, b"f")]
        assert welcomed == Greeted(other, WORKER, is_other_store=True)
        assert sender.is_idle

    def test_the_number_stays_when_it_goes_again(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        first = sent(sender)
        heard(sender, LinkChange.UP)
        assert sent(sender, RESEND_AFTER) == first
        heard(sender, LinkChange.FULL)
        assert sent(sender, RESEND_AFTER) == first

    def test_late_answers_are_no_news(self, sender: Sender) -> None:
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
            assert heard(sender, late) == []
        assert not sender.is_idle
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        assert heard(sender, Reply(3, 1, 1, WORKER, [Done()])) == []
        assert heard(sender, BatchRefused(3, 1, 1)) == []
        assert heard(sender, GreetAgain(3, 1, 1)) == []

    def test_refused(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert heard(sender, BatchRefused(3, 1, 1)) == [Answered([Release(1)], ["a"], None)]
        sender.submit(Release(2), "b", 0)
        assert sent(sender).number == 2

    def test_deadline(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        sender.submit(Release(2), "b", 1)
        assert heard(sender, now=DEADLINE - 0.1) == []
        assert sender.next_timeout() == DEADLINE
        assert heard(sender, now=DEADLINE) == [GivenUp([Release(1)], ["a"], is_late=True)]
        assert heard(sender, now=DEADLINE + 1) == [GivenUp([Release(2)], ["b"], is_late=True)]
        greeted(sender, epoch=2, now=DEADLINE + 1)
        sender.submit(Release(3), "c", 20)
        assert sent(sender, 20) == Batch(3, 2, 1, [Release(3)])

    def test_what_is_behind_an_answered_batch_has_its_time_from_there(self, sender: Sender) -> None:
        sent_two(sender)
        sender.submit(Release(3), "c", 0)
        assert heard(sender, Reply(3, 1, 1, WORKER, [Done()]), now=10) == [Answered([Release(1)], ["a"], [Done()])]
        sender.submit(Release(4), "d", 11)
        sent(sender, RESEND_AFTER + 10)
        assert heard(sender, now=DEADLINE + 9.9) == []
        assert sender.next_timeout() == DEADLINE + 10
        assert heard(sender, now=DEADLINE + 10) == [
            GivenUp([Release(2)], ["b"], is_late=True),
            GivenUp([Release(3), Release(4)], ["c", "d"], is_late=True),
        ]

    def test_what_never_runs_empty_does_not_grow_old(self, sender: Sender) -> None:
        size = SMALLEST_SHARE * 2
        sender.submit(Release(0), "a", 0, size)
        batch = sent(sender)
        for waiter in ("b", "c"):
            sender.submit(Release(0), waiter, 0, size)
        # Three clients that send again when they are answered: one is always on its way, and two
        # wait.
        for second in range(1, int(DEADLINE) + 5):
            [answered] = heard(sender, Reply(3, 1, batch.number, WORKER, [Done()]), now=second)
            assert isinstance(answered, Answered)
            batch = sent(sender, second)
            assert len(batch.operations) == 1
            assert sender.collects
            sender.submit(Release(0), answered.waiters[0], second, size)

    def test_a_step_hands_out_answers_and_gives_what_leaves(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        first = sender.step([], 1)
        assert first.outgoing is not None
        assert first.outgoing.operations == [Release(1)]
        assert first[::2] == ([], False)
        assert first.next_timeout == 1 + DEADLINE
        sender.submit(Release(2), "b", 1)
        sender.submit(Release(3), "c", 1)
        second = sender.step([Reply(3, 1, 1, WORKER, [Done()])], 2)
        assert second.events == [Answered([Release(1)], ["a"], [Done()])]
        assert second.outgoing is not None
        assert second.outgoing.operations == [Release(2), Release(3)]

    def test_what_waits_to_leave_is_left_for_the_next_step(self, sender: Sender) -> None:
        sent_two(sender)
        sender.submit(Release(3), "c", 0)
        assert sender.step([], 0)[:3] == ([], None, True)
        heard(sender, LinkChange.DOWN)
        back = sender.step([LinkChange.UP], 1)
        assert back.outgoing is not None
        assert back.outgoing.operations == [Release(1)]
        assert back.waits, "the one behind it goes again too"
        behind = sender.step([], 1)
        assert behind.outgoing is not None
        assert behind.outgoing.operations == [Release(2)]

    def test_events_that_may_change_what_leaves_are_handed_out_first(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        step = sender.step([GreetAgain(3, 1, 1)], 1)
        assert step[:3] == ([GivenUp([Release(1)], ["a"])], None, True)
        greeting = sender.step([], 1).outgoing
        assert greeting is not None
        assert isinstance(decode_to_worker(greeting.frame), Hello)

    def test_greet_again(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert heard(sender, GreetAgain(3, 1, 1)) == [GivenUp([Release(1)], ["a"])]
        assert is_greeting(sender)

    def test_superseded_once_by_a_greeting_of_the_dead(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert heard(sender, Superseded(3, 1)) == [GivenUp([Release(1)], ["a"])]
        # The same once more is no news.
        assert heard(sender, Superseded(3, 1)) == []
        greeted(sender, epoch=3)
        sender.submit(Release(2), "b", 0)
        assert sent(sender) == Batch(3, 3, 1, [Release(2)])

    def test_superseded_again_and_again_by_one_that_lives(self, sender: Sender) -> None:
        for number in range(LATE_GREETINGS):
            sender.submit(Release(1), "a", 10.0 * number)
            sent(sender, 10.0 * number)
            assert heard(sender, Superseded(3, 1 + 2 * number)) == [GivenUp([Release(1)], ["a"])]
            greeted(sender, epoch=3 + 2 * number, now=10.0 * number)
        sender.submit(Release(1), "a", 50.0)
        sent(sender, 50.0)
        assert heard(sender, Superseded(3, 1 + 2 * LATE_GREETINGS)) == [SlotLost(3)]

    def test_superseded_now_and_then_is_no_reason_to_end(self, sender: Sender) -> None:
        for number in range(3 * LATE_GREETINGS):
            now = LATE_GREETINGS_WITHIN * number
            sender.submit(Release(1), "a", now)
            sent(sender, now)
            assert heard(sender, Superseded(3, 1 + number)) == [GivenUp([Release(1)], ["a"])]
            greeted(sender, epoch=2 + number, now=now)

    def test_superseded_is_old_news_while_greeting(self) -> None:
        assert heard(new_sender(), Superseded(3, 0)) == []

    def test_another_worker(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert heard(sender, Reply(3, 1, 1, OTHER_WORKER, [Done()])) == [
            WorkerChanged(OTHER_WORKER),
            Answered([Release(1)], ["a"], [Done()]),
        ]
        sender.submit(Release(2), "b", 0)
        sent(sender)
        assert len(heard(sender, Reply(3, 1, 2, OTHER_WORKER, [Done()]))) == 1

    def test_sizes_are_those_of_what_was_not_answered(self, sender: Sender) -> None:
        assert sender.size == 0
        sender.submit(Release(1), "a", 0, 1000)
        sender.submit(Release(2), "b", 0)
        assert sender.size == 1000 + LEAST_SIZE
        sent(sender)
        sender.submit(Release(3), "c", 0, 500)
        assert sender.size == 1500 + LEAST_SIZE
        heard(sender, Reply(3, 1, 1, WORKER, [Done(), Done()]))
        assert sender.size == 500
        heard(sender, now=DEADLINE)
        assert sender.size == 0
        sender.submit(Release(4), "d", 0, 700)
        sent(sender)
        heard(sender, GreetAgain(3, 1, 2))
        assert sender.size == 0

    def test_sizes_of_both_that_are_on_their_way(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0, 1000)
        sent(sender)
        sender.submit(Release(2), "b", 0, 2000)
        sent(sender)
        assert sender.size == 3000
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        assert sender.size == 2000

    def test_all_that_waits_leaves_where_nothing_was_just_answered(self, sender: Sender) -> None:
        for number in range(100):
            sender.submit(Release(number), "a", 0, 1000)
        assert len(sent(sender).operations) == 100

    def test_half_of_what_waits_and_was_answered_leaves(self, sender: Sender) -> None:
        sender.submit(Release(0), "a", 0, 100_000)
        sent(sender)
        for number in range(1, 41):
            sender.submit(Release(number), "a", 0, 10_000)
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        # 400,000 wait and 100,000 were answered: half of it are 250,000.
        assert sent(sender).operations == [Release(number) for number in range(1, 26)]
        for number in range(41, 51):
            sender.submit(Release(number), "a", 0, 10_000)
        heard(sender, Reply(3, 1, 2, WORKER, [Done()] * 25))
        # From here on two halves take turns.
        assert sent(sender).operations == [Release(number) for number in range(26, 51)]

    def test_what_was_answered_counts_only_at_once(self, sender: Sender) -> None:
        sender.submit(Release(0), "a", 0, 50_000)
        sent(sender)
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        assert frame_of(sender) is None
        for number in range(1, 101):
            sender.submit(Release(number), "a", 0, 1000)
        assert len(sent(sender).operations) == 100

    def test_what_was_answered_counts_for_one_batch(self, sender: Sender) -> None:
        sender.submit(Release(0), "a", 0, 100_000)
        sent(sender)
        for number in range(40):
            sender.submit(Release(number), "a", 0, 10_000)
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        assert len(sent(sender).operations) == 25
        for number in range(10):
            sender.submit(Release(number), "a", 0, 10_000)
        assert len(sent(sender).operations) == 25, "all that waits"

    def test_what_was_answered_does_not_count_for_the_next_greeting(self, sender: Sender) -> None:
        sent_two(sender)
        for number in range(100):
            sender.submit(Release(number), "a", 0, 1000)
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        heard(sender, GreetAgain(3, 1, 2))
        greeted(sender, epoch=2)
        assert len(sent(sender).operations) == 100

    def test_little_is_not_divided_and_one_operation_never(self, sender: Sender) -> None:
        for number, sizes in enumerate([[300, 300, 300], [100_000]], start=1):
            sender.submit(Release(0), "a", 0, 300)
            sent(sender)
            for size in sizes:
                sender.submit(Release(size), "a", 0, size)
            heard(sender, Reply(3, 1, 2 * number - 1, WORKER, [Done()]))
            assert sent(sender).operations == [Release(size) for size in sizes]
            heard(sender, Reply(3, 1, 2 * number, WORKER, [Done()] * len(sizes)))
            assert frame_of(sender) is None

    def test_a_reply_of_the_wrong_length_is_unknown(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0)
        sent(sender)
        assert heard(sender, Reply(3, 1, 1, WORKER, [])) == [GivenUp([Release(1)], ["a"])]
        assert is_greeting(sender)


class Sends(NamedTuple):
    """One connection's messages."""

    frames: bytes
    recipients: list[bytes]
    once: bool = False


class TestRuns:
    def test_sends_that_come_behind_each_other_are_one_operation(self, sender: Sender) -> None:
        sender.submit_sends(Sends(b"aa", [b"1", b"2"]), "a", 0, 20, authenticated=False)
        sender.submit_sends(Sends(b"b", [b"3"]), "b", 0, 10, authenticated=False)
        sender.submit(Release(1), "c", 0)
        sender.submit_sends(Sends(b"d", [b"4"]), "d", 0, 10, authenticated=False)
        assert sender.size == 3 * LEAST_SIZE - LEAST_SIZE + 10
        assert heard(sender) == []
        assert sent(sender).operations == [StoreMessages(False, b"aab"), Release(1), StoreMessages(False, b"d")]
        stored: list[Outcome] = [MessagesStored(1, []), Done(), MessagesStored(4, [])]
        [answered] = heard(sender, Reply(3, 1, 1, WORKER, stored))
        assert isinstance(answered, Answered)
        first, waiter, last = answered.waiters
        assert isinstance(first, SendRun)
        assert first.shares == [("a", [b"1", b"2"], 20), ("b", [b"3"], 10)]
        assert waiter == "c"
        assert isinstance(last, SendRun)
        assert last.shares == [("d", [b"4"], 10)]
        assert sender.is_idle

    def test_what_may_not_go_together(self, sender: Sender) -> None:
        large = bytes(LARGEST - 1)
        for frames, authenticated in ((b"a", False), (large, True), (b"b", True), (b"cc", True)):
            sender.submit_sends(Sends(frames, [b"1"]), "a", 0, 1, authenticated=authenticated)
        for frames, once in ((b"d", True), (b"e", True), (b"f", False)):
            sender.submit_sends(Sends(frames, [b"1"], once), "a", 0, 1, authenticated=True)
        heard(sender)
        assert sent(sender).operations == [
            StoreMessages(False, b"a"), StoreMessages(True, large + b"b"), StoreMessages(True, b"cc"),
            StoreMessagesOnce(True, b"de"), StoreMessages(True, b"f"),
        ]  # fmt: skip

    def test_what_may_not_be_larger_counts_what_is_left(self, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_sender, "LARGEST", 3)
        sender.submit(Release(0), "a", 0, 60_000)
        sent(sender)
        for _ in range(3):
            sender.submit_sends(Sends(b"a", [b"1"]), "a", 0, 30_000, authenticated=False)
        heard(sender, Reply(3, 1, 1, WORKER, [Done()]))
        # Two thirds of the run have left, so two more messages go behind the third, and no more.
        assert sent(sender).operations == [StoreMessages(False, b"aa")]
        for _ in range(3):
            sender.submit_sends(Sends(b"b", [b"1"]), "a", 0, 30_000, authenticated=False)
        heard(sender)
        assert sent(sender).operations == [StoreMessages(False, b"abb"), StoreMessages(False, b"b")]

    def test_a_run_stays_open_while_it_has_no_place(self, sender: Sender) -> None:
        sender.submit(Release(1), "a", 0, 1000)
        sent(sender)
        for _ in range(2):
            sender.submit_sends(Sends(b"a", [b"1"]), "b", 0, 400, authenticated=False)
            assert heard(sender) == []
            assert frame_of(sender) is None
        assert sender.collects
        sender.submit_sends(Sends(b"a", [b"1"]), "b", 0, 200, authenticated=False)
        assert heard(sender) == []
        assert sent(sender).operations == [StoreMessages(False, b"aaa")]

    def test_half_of_a_run_and_of_what_was_answered_leaves(self, sender: Sender) -> None:
        sender.submit(Release(0), "a", 0, 100_000)
        sent(sender)
        for number in range(3):
            sender.submit_sends(Sends(b"%d" % number, [b"1"]), "b", 1, 30_000, authenticated=False)
        assert len(heard(sender, Reply(3, 1, 1, WORKER, [Done()]), now=2)) == 1
        # 90,000 wait and 100,000 were answered: half of it are 95,000.
        assert sent(sender, 2).operations == [StoreMessages(False, b"012")]
        for number in range(6):
            sender.submit_sends(Sends(b"%d" % number, [b"1"]), "b", 3, 50_000, authenticated=False)
        assert len(heard(sender, Reply(3, 1, 2, WORKER, [MessagesStored(1, [])]), now=4)) == 1
        # 300,000 wait and 90,000 were answered.
        assert sent(sender, 4).operations == [StoreMessages(False, b"012")]
        assert sender.collects
        assert sender.size == 300_000


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
                self.kept.pop(message.number - MOST_IN_FLIGHT, None)
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
    sizes: dict[int, int] = {}
    now = 0.0
    while len(answered) < 200:
        now += chance.choice([0.01, 0.5, 3.0])
        for _ in range(chance.randrange(4)):
            number = next(submitted)
            size = chance.choice([0, SMALLEST_SHARE])
            sizes[number] = max(size, LEAST_SIZE)
            sender.submit(Release(number), str(number), now, size)
        events = heard(sender, now=now)
        while (frame := frame_of(sender, now)) is not None:
            if chance.random() < 0.8:
                on_the_way += [frame] * chance.choice([1, 1, 2])
        # One connection keeps the order of what it does deliver.
        while on_the_way and chance.random() < 0.9:
            for answer in worker.handle(on_the_way.pop(0)):
                if chance.random() < 0.7:
                    events += heard(sender, answer, now=now)
        if chance.random() < 0.02:
            events += heard(sender, LinkChange.UP, now=now)
        for event in events:
            if isinstance(event, Answered):
                assert event.outcomes is not None
                answered += [int(str(waiter)) for waiter in event.waiters]
            elif isinstance(event, GivenUp):
                given_up += [int(str(waiter)) for waiter in event.waiters]
        assert sender.size == sum(sizes.values()) - sum([sizes[number] for number in answered + given_up])
    assert len(set(worker.done)) == len(worker.done)
    assert worker.done == sorted(worker.done)
    assert set(answered) <= set(worker.done)
    assert not set(answered) & set(given_up)
