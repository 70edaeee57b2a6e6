"""Numbering, resending, and recognising what was applied already: the rules of both ends of the storage link.

Owns: the gateway's `BatchSender` (which batch is on its way, when it goes again, when it is given up) and the
worker's `judge` (what a batch's epoch and number mean).
Promises: pure: time is passed in as monotonic seconds, incarnations as bytes; nothing is sent from here.
Exposure: none of its own; it sees decoded messages only.

    gateway's side          on its way           ends with
    ─────────────────────   ──────────────────   ──────────────────────────────────────────────
    greeting                Hello                Welcome of this incarnation → ready, number 0
    ready                   nothing              `take` → a batch under the next number
    ready                   batch n              Reply n → outcomes; BatchRefused n → none done;
                                                 deadline → unknown, greeting; GreetAgain, Superseded → the same

The two ends should work at the same time, on what they gave each other before. Clients send again when they are
answered, so if a batch took all that waits, everything would come back together and find one end idle, again and
again. So a batch takes about half of what waits and was just answered (`share`): two halves take turns.

Source: docs/storage-protocol.md, "Batches".
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, NamedTuple, TypeVar

from common.errors import GatewaySuperseded
from common.ipc.schema import (
    Batch,
    BatchRefused,
    GreetAgain,
    Hello,
    Reply,
    StoreFacts,
    Superseded,
    Welcome,
    encode_batch,
    encode_hello,
)
from common.operations import Operation, Outcome

RESEND_AFTER: Final = 2.0
DEADLINE: Final = 15.0
LATE_GREETINGS: Final = 3
"""How often, within `LATE_GREETINGS_WITHIN` seconds, a gateway greets again that hears of a successor on its slot.

The greeting of a gateway that was killed may reach the worker after that of its successor, which then is the one
that lives. A successor that lives comes back each time, and one of the two gives up."""
LATE_GREETINGS_WITHIN: Final = 600.0

SMALLEST_SHARE: Final = 32768
"""Bytes that are not worth another batch."""
LEAST_SIZE: Final = 256
"""Bytes that any operation counts as."""

Waiter = TypeVar("Waiter")


class Answered(NamedTuple, Generic[Waiter]):
    """A batch came to its end; `outcomes` is None where the worker could not decode it (nothing was done)."""

    operations: list[Operation]
    waiters: list[Waiter]
    outcomes: list[Outcome] | None


class GivenUp(NamedTuple, Generic[Waiter]):
    """Whether these operations were done is unknown, and will be settled as done or never by the next greeting."""

    operations: list[Operation]
    waiters: list[Waiter]


class Greeted(NamedTuple):
    """The worker welcomed this gateway under a new epoch."""

    facts: StoreFacts
    worker_incarnation: bytes


class WorkerChanged(NamedTuple):
    """Another process answers as the worker than before: its leases and watches are gone."""

    worker_incarnation: bytes


Event = Answered[Waiter] | GivenUp[Waiter] | Greeted | WorkerChanged


class BatchSender(Generic[Waiter]):
    """The gateway's end of the link for one slot: one batch on its way, the next one being collected.

    `new_incarnation` gives 16 fresh random bytes for each greeting. Sizes are the bytes that operations keep in memory.
    """

    __slots__ = (
        "_answered_size", "_collected_size", "_collecting_since", "_deadline", "_epoch", "_frame", "_greeting",
        "_incarnation", "_new_incarnation", "_number", "_on_its_way", "_on_its_way_size", "_operations",
        "_resend_after", "_sent_at", "_sizes", "_slot", "_started_at", "_superseded_at", "_waiters",
        "_worker_incarnation",
    )  # fmt: skip

    def __init__(
        self,
        slot: int,
        new_incarnation: Callable[[], bytes],
        resend_after: float = RESEND_AFTER,
        deadline: float = DEADLINE,
    ) -> None:
        self._slot = slot
        self._new_incarnation = new_incarnation
        self._resend_after = resend_after
        self._deadline = deadline
        self._operations: list[Operation] = []
        self._waiters: list[Waiter] = []
        self._sizes: list[int] = []
        self._collected_size = 0
        self._collecting_since = 0.0
        self._on_its_way: tuple[list[Operation], list[Waiter]] | None = None
        self._on_its_way_size = 0
        self._answered_size = 0
        self._epoch = 0
        self._number = 0
        self._worker_incarnation = b""
        self._sent_at = 0.0
        self._started_at = 0.0
        self._superseded_at: list[float] = []
        self._greet()

    def _greet(self) -> None:
        self._greeting = True
        self._incarnation = self._new_incarnation()
        self._frame = encode_hello(Hello(self._slot, self._incarnation))
        self._sent_at = float("-inf")

    @property
    def ready(self) -> bool:
        """Whether the worker has welcomed this gateway."""
        return not self._greeting

    @property
    def collected(self) -> int:
        """Operations that wait for the next batch."""
        return len(self._operations)

    @property
    def waiting(self) -> bool:
        """Whether a batch is on its way."""
        return self._on_its_way is not None

    @property
    def on_its_way(self) -> list[Operation]:
        """The operations of the batch that is on its way."""
        return self._on_its_way[0] if self._on_its_way else []

    @property
    def size(self) -> int:
        """Of all operations that were not answered."""
        return self._collected_size + self._on_its_way_size

    def share(self, more: int) -> int:
        """How much the next batch should take of what was collected and `more`; all of it where little was answered.

        That is half of both and of the batch whose answer was the last thing that happened.
        """
        waiting = self._collected_size + more
        return max((waiting + self._answered_size + 1) // 2, SMALLEST_SHARE) if self._answered_size else waiting

    def submit(self, operation: Operation, waiter: Waiter, now: float, size: int = 0) -> None:
        """Put an operation into the batch that is being collected; `waiter` comes back with its outcome."""
        if not self._operations:
            self._collecting_since = now
        size = max(size, LEAST_SIZE)
        self._operations.append(operation)
        self._waiters.append(waiter)
        self._sizes.append(size)
        self._collected_size += size

    def _take(self) -> tuple[list[Operation], list[Waiter]]:
        """The operations that leave now, as many as their share allows, and one at least."""
        share = self.share(0)
        self._answered_size = 0
        if self._collected_size <= share or len(self._operations) == 1:
            taken = self._operations, self._waiters
            self._on_its_way_size = self._collected_size
            self._operations, self._waiters, self._sizes, self._collected_size = [], [], [], 0
            return taken
        count, size = 1, self._sizes[0]
        while size + self._sizes[count] <= share:
            size += self._sizes[count]
            count += 1
        taken = self._operations[:count], self._waiters[:count]
        del self._operations[:count], self._waiters[:count], self._sizes[:count]
        self._collected_size -= size
        self._on_its_way_size = size
        return taken

    def frame_to_send(self, now: float) -> bytes | None:
        """What has to leave now: a greeting, the next batch, or once more what was not answered; None for nothing.

        The caller says `not_sent` where the frame could not be handed to the socket.
        """
        if self._frame:
            if now - self._sent_at < self._resend_after:
                return None
        elif self._operations:
            self._number += 1
            self._on_its_way = self._take()
            # What stays behind was not refused its turn: it came in while others had theirs, and is among the next.
            self._collecting_since = now
            self._frame = encode_batch(Batch(self._slot, self._epoch, self._number, self._on_its_way[0]))
            self._started_at = now
        else:
            self._answered_size = 0
            return None
        self._sent_at = now
        return self._frame

    def not_sent(self) -> None:
        """The socket did not take the frame: it goes again at the next call, with its number unchanged."""
        self._sent_at = float("-inf")

    reconnected = not_sent
    """The link came back: what was on its way may be lost, so it goes again."""

    def next_deadline(self, *, connected: bool) -> float | None:
        """When `frame_to_send` or `expire` next has something to do, in monotonic seconds; None for never.

        Without a connection nothing can be sent, so only `expire` counts.
        """
        moments = []
        if self._frame and connected:
            moments.append(self._sent_at + self._resend_after)
        if self._on_its_way:
            moments.append(self._started_at + self._deadline)
        if self._operations:
            moments.append(self._collecting_since + self._deadline)
        return min(moments, default=None)

    def expire(self, now: float) -> list[Event[Waiter]]:
        """Give up what has waited for longer than the deadline; after a batch was given up, greet again."""
        events: list[Event[Waiter]] = []
        if self._on_its_way and now - self._started_at >= self._deadline:
            events.append(self._give_up())
            self._greet()
        if self._operations and now - self._collecting_since >= self._deadline:
            events += self.give_up_collected()
        return events

    def give_up_collected(self) -> list[Event[Waiter]]:
        """Give up what has not left yet."""
        if not self._operations:
            return []
        given_up = GivenUp(self._operations, self._waiters)
        self._operations, self._waiters, self._sizes, self._collected_size = [], [], [], 0
        return [given_up]

    def _off_its_way(self) -> tuple[list[Operation], list[Waiter]]:
        """The batch that was on its way is so no more."""
        assert self._on_its_way is not None
        batch, self._on_its_way = self._on_its_way, None
        self._answered_size, self._on_its_way_size = self._on_its_way_size, 0
        self._frame = b""
        return batch

    def _give_up(self) -> GivenUp[Waiter]:
        given_up = GivenUp(*self._off_its_way())
        self._answered_size = 0
        return given_up

    def receive(self, message: Welcome | Reply | BatchRefused | Superseded | GreetAgain) -> list[Event[Waiter]]:
        """Take in what the worker said. Raises `GatewaySuperseded` where a later gateway has the slot and lives.

        Late answers to earlier numbers, epochs or greetings are no news and give no event.
        """
        match message:
            case Reply():
                return self._reply(message)
            case Welcome():
                return self._welcome(message)
            case Superseded(slot, epoch):
                if slot == self._slot and epoch == self._epoch and not self._greeting:
                    self._note_successor()
                    return self._greet_again()
            case BatchRefused(slot, epoch, number):
                if self._is_current(slot, epoch, number) and self._on_its_way:
                    return [Answered(*self._off_its_way(), None)]
            case GreetAgain(slot, epoch, number):
                if self._is_current(slot, epoch, number) and self._on_its_way:
                    return self._greet_again()
        return []

    def _note_successor(self) -> None:
        """The worker greeted another gateway after us. Once may be a dead one; again and again is one that lives."""
        recent = [moment for moment in self._superseded_at if self._started_at - moment < LATE_GREETINGS_WITHIN]
        if len(recent) >= LATE_GREETINGS:
            raise GatewaySuperseded(f"another gateway has taken slot {self._slot}")
        self._superseded_at = [*recent, self._started_at]

    def _greet_again(self) -> list[Event[Waiter]]:
        """Nothing of the present epoch is answered any more."""
        events: list[Event[Waiter]] = [self._give_up()] if self._on_its_way else []
        self._greet()
        return events

    def _is_current(self, slot: int, epoch: int, number: int) -> bool:
        return not self._greeting and (slot, epoch, number) == (self._slot, self._epoch, self._number)

    def _reply(self, reply: Reply) -> list[Event[Waiter]]:
        if not self._is_current(reply.slot, reply.epoch, reply.number) or self._on_its_way is None:
            return []
        events: list[Event[Waiter]] = []
        if reply.worker_incarnation != self._worker_incarnation:
            self._worker_incarnation = reply.worker_incarnation
            events.append(WorkerChanged(reply.worker_incarnation))
        operations, waiters = self._off_its_way()
        if len(reply.outcomes) != len(operations):
            self._greet()
            events.append(GivenUp(operations, waiters))
        else:
            events.append(Answered(operations, waiters, reply.outcomes))
        return events

    def _welcome(self, welcome: Welcome) -> list[Event[Waiter]]:
        if not self._greeting or welcome.slot != self._slot or welcome.incarnation != self._incarnation:
            return []
        self._greeting = False
        self._epoch = welcome.epoch
        self._number = 0
        self._frame = b""
        self._worker_incarnation = welcome.worker_incarnation
        return [Greeted(welcome.facts, welcome.worker_incarnation)]


class SlotState(NamedTuple):
    """What the worker has on disk of a slot: its epoch, and the last number it applied under it."""

    epoch: int
    number: int


class Verdict(Enum):
    """What the worker does with a batch."""

    APPLY = auto()
    """The next number: apply it and keep its outcomes."""
    ANSWER_AGAIN = auto()
    """The last number once more: answer with what was kept."""
    IGNORE = auto()
    """A late copy of an older number, which was answered: say nothing."""
    SUPERSEDED = auto()
    """An epoch of the past."""
    GREET_AGAIN = auto()
    """An epoch nobody was given, or a number whose predecessor is missing."""


def judge(state: SlotState | None, epoch: int, number: int) -> Verdict:
    """What the worker does with batch (`epoch`, `number`) of a slot in `state` (None: never greeted)."""
    if state is None or epoch > state.epoch:
        return Verdict.GREET_AGAIN
    if epoch < state.epoch:
        return Verdict.SUPERSEDED
    if number == state.number + 1:
        return Verdict.APPLY
    if number > state.number:
        return Verdict.GREET_AGAIN
    return Verdict.ANSWER_AGAIN if number == state.number and number > 0 else Verdict.IGNORE
