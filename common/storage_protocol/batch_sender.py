"""Numbering and resending: the rules of the gateway's end of the storage link.

Owns: `BatchSender`: which sends become one run, which batch is in flight, when it is resent, and
when it is given up. How the worker judges a batch's number is in
`common.storage_protocol.batch_order`.
Promises: pure: time is passed in as monotonic seconds, incarnations as bytes; nothing is sent from
here.
Exposure: none of its own; it sees decoded messages only.

Four verbs: `submit` (and `submit_sends`, its form for runs), `receive` (messages, what happened to
the link, and the time), `data_to_send`, `next_timeout`. `step` is the last three in one call
(docs/decisions/0001-where-the-modules-differ.md).

    gateway's side          in flight            ends with
    ─────────────────────   ──────────────────   ──────────────────────────────────────────────
    greeting                Hello                Welcome of this incarnation → ready, number 0
    ready                   nothing              a batch under the next number, n
    ready                   batch n              as large a one behind it → n and n + 1
    ready                   batch n (and n + 1)  Reply n → outcomes; BatchRefused n → none done;
                                                 deadline → unknown, greeting; GreetAgain n, Superseded → the same
    ready                   batches n and n + 1  an answer to n + 1 → n was lost, or its answer: both go again
    ready                   batch n              two ends of the link → an empty batch n; answered → n was not done, and
                                                 goes in halves, one at a time; GreetAgain → unknown, greeting
    any                     what was collected   the link is down too long → refused, never sent
    ready                   a run of messages    ended the link alone → the same; then two runs of half as many

An open connection of the link loses nothing, so a batch is resent when the link comes back, and
never because of the time that it takes. How much work is in a batch is bounded
(`common.storage_protocol.work_estimate`), so that it has its answer long before the deadline, and
nothing behind it waits for long.

The worker should never wait for the gateway: when it has answered a batch, it should have the next
one already. And both ends should work at the same time. Clients send again when they are answered,
so if a batch took everything that waits, all answers would come together, and one end would always
be idle. So a batch takes about half of what waits and was just answered (`share`).

Source: docs/storage-protocol.md, "Batches".
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Final, Generic, NamedTuple, TypeVar, assert_never

from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import (
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
from common.storage_protocol.operations import (
    AbortUpload,
    Operation,
    Outcome,
    Release,
    Settle,
    StoreMessages,
    StoreMessagesOnce,
)
from common.storage_protocol.send_run import LARGEST, Sender, SendRun, Sends, bytes_of_first
from common.storage_protocol.work_estimate import fitting

RESEND_AFTER: Final = 2.0
DEADLINE: Final = 15.0
LATE_GREETINGS: Final = 3
"""How often, within `LATE_GREETINGS_WITHIN` seconds, a gateway greets again that learns of
a successor on its slot.

The greeting of a gateway that was killed may reach the worker after that of its successor, which
then is the one that lives. A successor that lives comes back each time, and one of the two gives
up."""
LATE_GREETINGS_WITHIN: Final = 600.0

SMALLEST_SHARE: Final = 32768
"""Bytes that are not worth another batch."""
LEAST_SIZE: Final = 256
"""Bytes that any operation counts as."""
MOST_ENDS: Final = 2
"""How often the link may end while a batch, or an operation of its own, is with the
worker, before it is suspected.
"""

ENDINGS: Final = (Settle, Release, AbortUpload)
"""Operations that end what a worker has for a connection. Nobody waits for their outcome."""

Waiter = TypeVar("Waiter")


class LinkChange(Enum):
    """What happened to the connection of the link."""

    UP = auto()
    """It is connected: what was in flight over an earlier one may be lost."""
    DOWN = auto()
    """It is gone."""
    FULL = auto()
    """It did not take the frame that `data_to_send` gave last."""


Incoming = Welcome | Reply | BatchRefused | Superseded | GreetAgain | LinkChange
"""What `receive` takes in."""


class Outgoing(NamedTuple):
    """A frame to send now. `is_new`: its operations are sent for the first time."""

    frame: bytes
    operations: list[Operation]
    is_new: bool


class Answered(NamedTuple, Generic[Waiter, Sender]):
    """A batch has ended; `outcomes` is None if the worker could not decode it (nothing was
    done).
    """

    operations: list[Operation]
    waiters: Sequence[Waiter | SendRun[Sender]]
    outcomes: list[Outcome] | None


class GivenUp(NamedTuple, Generic[Waiter, Sender]):
    """Whether these operations were done is unknown, and will be settled as done or never
    by the next greeting. `is_late`: the deadline passed.
    """

    operations: list[Operation]
    waiters: Sequence[Waiter | SendRun[Sender]]
    is_late: bool = False


class Unsent(NamedTuple, Generic[Waiter, Sender]):
    """These operations were never sent, for the link has been down too long. They will not be."""

    operations: list[Operation]
    waiters: Sequence[Waiter | SendRun[Sender]]


class Divided(NamedTuple, Generic[Sender]):
    """What this sender submitted in one call will be answered in two."""

    sender: Sender


class Deadly(NamedTuple, Generic[Waiter, Sender]):
    """The worker ended each time when it had only this operation. It is not sent again; its outcome
    is unknown.
    """

    operation: Operation
    waiter: Waiter | SendRun[Sender]


class Greeted(NamedTuple):
    """The worker welcomed this gateway under a new epoch. `is_other_store`: its store is not the
    one of before, so sequences refer to other messages.
    """

    facts: StoreFacts
    worker_incarnation: bytes
    is_other_store: bool = False


class SlotLost(NamedTuple):
    """A later gateway has the slot and is running: this one is no longer served."""

    slot: int


class WorkerChanged(NamedTuple):
    """The worker is a new process: leases and subscriptions are gone."""

    worker_incarnation: bytes


Event = (
    Answered[Waiter, Sender]
    | GivenUp[Waiter, Sender]
    | Unsent[Waiter, Sender]
    | Divided[Sender]
    | Deadly[Waiter, Sender]
    | Greeted
    | SlotLost
    | WorkerChanged
)


class Step(NamedTuple, Generic[Waiter, Sender]):
    """The result of a step: `events` to hand out, in order, and a frame to send now.

    `waits`: whether something waits to be sent. `next_timeout`: see there.
    """

    events: list[Event[Waiter, Sender]]
    outgoing: Outgoing | None
    waits: bool
    next_timeout: float | None


class _Sent(Generic[Waiter, Sender]):
    """A batch in flight. `size` in bytes, moments in monotonic seconds.

    `started_at`: when it left, or when the one before it was answered. `overtaken`: one behind it
    was answered first. `due`: it has to go to the socket again. `ends`: how often the link ended
    while it was with the worker. `is_piece`: of one that may have ended the worker. `is_question`:
    its frame is empty and only asks whether the operations were done.
    """

    __slots__ = (
        "due", "ends", "frame", "is_piece", "is_question", "number", "operations", "overtaken", "size", "sizes",
        "started_at", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        operations: list[Operation],
        waiters: list[Waiter | SendRun[Sender]],
        sizes: list[int],
        frame: bytes,
        now: float,
        *,
        is_piece: bool,
    ) -> None:
        self.number = number
        self.operations = operations
        self.waiters = waiters
        self.sizes = sizes
        self.size = sum(sizes)
        self.frame = frame
        self.started_at = now
        self.due = False
        self.overtaken = False
        self.ends = 0
        self.is_piece = is_piece
        self.is_question = False


class BatchSender(Generic[Waiter, Sender]):
    """The gateway's end of the link for one slot: a few batches in flight, the next one being
    collected, and the run of sends that is open.

    `new_incarnation` gives 16 fresh random bytes for each greeting. Sizes are the bytes that
    operations keep in memory, moments monotonic seconds. The link is down at first. `refuse_after`:
    how long it may be before what was not sent is refused; None: that waits for `deadline`.

    `size`: of all operations that were not answered. It is read at each read of a client, so it is
    kept up to date rather than computed.
    """

    __slots__ = (
        "_answered_size",
        "_collected_size",
        "_collecting_since",
        "_deadline",
        "_down_since",
        "_epoch",
        "_greeting",
        "_hello",
        "_hello_sent_at",
        "_in_flight",
        "_incarnation",
        "_is_up",
        "_leaving",
        "_new_incarnation",
        "_number",
        "_operations",
        "_pieces",
        "_refuse_after",
        "_resend_after",
        "_run",
        "_sizes",
        "_slot",
        "_started_at",
        "_store",
        "_superseded_at",
        "_waiters",
        "_was_answered",
        "_worker_incarnation",
        "size",
    )  # fmt: skip

    def __init__(
        self,
        slot: int,
        new_incarnation: Callable[[], bytes],
        resend_after: float = RESEND_AFTER,
        deadline: float = DEADLINE,
        refuse_after: float | None = None,
    ) -> None:
        self._slot = slot
        self._new_incarnation = new_incarnation
        self._resend_after = resend_after
        self._deadline = deadline
        self._operations: list[Operation] = []
        self._waiters: list[Waiter | SendRun[Sender]] = []
        self._sizes: list[int] = []
        self._collected_size = 0
        # How many of the first operations make one batch each, alone in flight: one of them may
        # end the worker.
        self._pieces: list[int] = []
        self._collecting_since = 0.0
        self._in_flight: list[_Sent[Waiter, Sender]] = []
        self._leaving: _Sent[Waiter, Sender] | None = None
        self._answered_size = 0
        self._was_answered = False
        self._epoch = 0
        self._number = 0
        self._worker_incarnation = b""
        self._started_at = 0.0
        self._superseded_at: list[float] = []
        self._run: SendRun[Sender] | None = None
        self.size = 0
        self._store: tuple[bytes, int] | None = None
        self._is_up = False
        self._refuse_after = refuse_after
        self._down_since: float | None = None
        self._greet()

    def _greet(self) -> None:
        self._greeting = True
        self._incarnation = self._new_incarnation()
        self._hello = encode_hello(Hello(self._slot, self._incarnation))
        self._hello_sent_at = float("-inf")

    @property
    def collects(self) -> bool:
        """Whether something waits for the next batch."""
        return self._run is not None or bool(self._operations)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return not (self._in_flight or self._operations or self._run is not None)

    def submit(self, operation: Operation, waiter: Waiter | SendRun[Sender], now: float, size: int = 0) -> None:
        """Add an operation to the batch that is being collected; `waiter` is returned with its
        outcome.
        """
        if self._run is not None:
            # What comes next comes behind it, so that the order of requests stays that of their
            # operations.
            self._close_run(self._run)
        if not self._operations:
            self._collecting_since = now
        size = max(size, LEAST_SIZE)
        self._operations.append(operation)
        self._waiters.append(waiter)
        self._sizes.append(size)
        self._collected_size += size
        self.size += size

    def submit_sends(self, sends: Sends, sender: Sender, now: float, cost: int, *, authenticated: bool) -> None:
        """Add messages to the open run, or to a new one; `sender` is returned with their outcomes.

        `cost`: bytes they count as until they are answered. The hot path.
        """
        frames, once = sends.frames, sends.once
        run = self._run
        if (
            run is None
            or run.once is not once
            or run.authenticated is not authenticated
            or run.size + len(frames) > LARGEST
        ):
            if run is not None:
                self._close_run(run)
            self._run = run = SendRun(now, authenticated=authenticated, once=once)
        run.size += len(frames)
        run.cost += cost
        self.size += cost
        run.frames.append(frames)
        run.shares.append((sender, sends.recipients, cost))

    def receive(self, incoming: Iterable[Incoming], now: float) -> list[Event[Waiter, Sender]]:
        """Process messages of the worker and changes of the link, in order, and the time.

        Call it again at `next_timeout`, even without input. Late answers to earlier numbers, epochs
        or greetings are ignored.
        """
        events: list[Event[Waiter, Sender]] = []
        for message in incoming:
            if isinstance(message, LinkChange):
                self._link_changed(message)
            else:
                events += self._take_in(message)
        run = self._run
        if run is not None and self._has_place(run.cost):
            # What of the run the next batch takes.
            rest = run.split(self._share(run.cost), now)
            self._close_run(run)
            self._run = rest
        return events + self._expire(now)

    def data_to_send(self, now: float) -> Outgoing | None:
        """What to send now: a greeting, an unanswered batch again, or the next batch; None for
        nothing.

        If the socket does not take it, pass `LinkChange.FULL` to `receive`.
        """
        self._leaving = None
        if not self._is_up:
            return None
        if self._greeting:
            if now - self._hello_sent_at < self._resend_after:
                return None
            self._hello_sent_at = now
            return Outgoing(self._hello, [], is_new=False)
        for sent in self._in_flight:
            if sent.due:
                sent.due = False
                self._leaving = sent
                return Outgoing(sent.frame, sent.operations, is_new=False)
        if not self._operations:
            self._answered_size = 0
            return None
        if not self._has_place(0):
            return None
        self._leaving = sent = self._take(now)
        self._in_flight.append(sent)
        return Outgoing(sent.frame, sent.operations, is_new=True)

    def step(self, incoming: Iterable[Incoming], now: float) -> "Step[Waiter, Sender]":
        """`receive`, then `data_to_send` and `next_timeout`. The hot path.

        Events other than `Answered` may change what is to be sent, so after one of these nothing is
        sent until the next step.
        """
        events = self.receive(incoming, now)
        for event in events:
            if type(event) is not Answered:
                return Step(events, None, waits=True, next_timeout=self.next_timeout())
        outgoing = self.data_to_send(now)
        waits = self.collects or (self._is_up and any(sent.due for sent in self._in_flight))
        return Step(events, outgoing, waits, self.next_timeout())

    def next_timeout(self) -> float | None:
        """When `receive` or `data_to_send` next has something to do; None for never.

        While the link is down nothing can be sent, so only giving up counts.
        """
        moments = []
        if self._is_up:
            if self._greeting:
                moments.append(self._hello_sent_at + self._resend_after)
            if any(sent.due for sent in self._in_flight):
                moments.append(float("-inf"))
        if self._in_flight:
            moments.append(self._in_flight[0].started_at + self._deadline)
        if self._operations:
            moments.append(self._collecting_since + self._deadline)
        if self._refuse_after is not None and self._down_since is not None and self._would_refuse():
            moments.append(self._down_since + self._refuse_after)
        return min(moments, default=None)

    # --- collecting
    # -------------------------------------------------------------------------------------------

    def _close_run(self, run: SendRun[Sender]) -> None:
        self._run = None
        self.size -= run.cost
        self.submit(run.complete(), run, run.opened_at, run.cost)

    def _has_place(self, more: int) -> bool:
        """Whether a batch of what was collected and an operation of `more` bytes would be sent now,
        rather than grow.

        While another one is in flight, it is sent once it is as large: the worker then has its next
        work, and neither batch is small.
        """
        in_flight = self._in_flight
        if not in_flight:
            return True
        if self._pieces or in_flight[-1].is_piece or in_flight[0].is_question:
            return False
        return len(in_flight) < MOST_IN_FLIGHT and self._collected_with(more) >= in_flight[-1].size

    def _share(self, more: int) -> int:
        """How much the next batch should take of what was collected and an operation of `more`
        bytes.

        That is half of both plus the batch that was answered last; all of it if that is little.
        """
        waiting = self._collected_with(more)
        return max((waiting + self._answered_size + 1) // 2, SMALLEST_SHARE) if self._answered_size else waiting

    def _collected_with(self, more: int) -> int:
        return self._collected_size + (max(more, LEAST_SIZE) if more else 0)

    def _take(self, now: float) -> _Sent[Waiter, Sender]:
        """Take the operations to send now, as many as the share allows, and at least one."""
        share = self._share(0)
        self._answered_size = 0
        is_piece = bool(self._pieces)
        if is_piece:
            count = self._pieces.pop(0)
        elif self._collected_size <= share:
            count = len(self._operations)
        else:
            count, size = 1, self._sizes[0]
            while count < len(self._operations) and size + self._sizes[count] <= share:
                size += self._sizes[count]
                count += 1
        if not is_piece:
            count = fitting(self._operations, count)
        operations, waiters, sizes = self._operations[:count], self._waiters[:count], self._sizes[:count]
        del self._operations[:count], self._waiters[:count], self._sizes[:count]
        self._number += 1
        # What stays behind was not refused its turn: it came in while others had theirs, and is
        # among the next.
        self._collecting_since = self._started_at = now
        frame = encode_batch(Batch(self._slot, self._epoch, self._number, operations))
        sent = _Sent(self._number, operations, waiters, sizes, frame, now, is_piece=is_piece)
        self._collected_size -= sent.size
        return sent

    # --- the link
    # ---------------------------------------------------------------------------------------------

    def _link_changed(self, change: LinkChange) -> None:
        match change:
            case LinkChange.UP:
                self._is_up = True
                self._reconnected()
            case LinkChange.DOWN:
                self._is_up = False
            case LinkChange.FULL:
                # It goes again at the next call, with its number unchanged.
                if self._leaving is not None:
                    self._leaving.due = True
                else:
                    self._hello_sent_at = float("-inf")
            case _:
                assert_never(change)

    def _reconnected(self) -> None:
        """The link came back: what was in flight may be lost, so it is resent.

        The oldest batch may be why the worker ended. One that did so twice is not resent whole:
        first an empty batch with its number asks the worker whether it was done. Later batches
        wait.
        """
        self._hello_sent_at = float("-inf")
        if self._in_flight and not self._in_flight[0].due:
            oldest = self._in_flight[0]
            oldest.ends += 1
            is_known = oldest.is_piece and (len(oldest.operations) > 1 or _is_many(oldest.operations[0]))
            if oldest.ends >= (1 if is_known else MOST_ENDS) and not oldest.is_question:
                oldest.is_question = True
                oldest.frame = encode_batch(Batch(self._slot, self._epoch, oldest.number, []))
        self._send_all_again()

    def _send_all_again(self) -> None:
        for sent in self._in_flight:
            sent.due = True
            if sent.is_question:
                # What is behind it may be what ended the worker.
                break

    def _divide(self, undone: _Sent[Waiter, Sender]) -> list[Event[Waiter, Sender]]:
        """The worker has not done this batch or any later one, and will not under these numbers.

        All of it is resent before everything else, in pieces, one after the other.
        """
        behind, self._in_flight = self._in_flight, []
        self._number = undone.number
        for sent in behind:
            self.size -= sent.size
            self._put_back(sent, [len(sent.operations)])
        count = len(undone.operations)
        if count > 1:
            self._put_back(undone, [(count + 1) // 2, count // 2])
        elif behind and not undone.is_piece:
            self._put_back(undone, [1])
        else:
            operation = undone.operations[0]
            if not isinstance(operation, StoreMessages | StoreMessagesOnce) or not _is_many(operation):
                return [Deadly(operation, undone.waiters[0])]
            run = undone.waiters[0]
            assert isinstance(run, SendRun), "runs come from `submit_sends` alone"
            *halves, divided = run.halve(operation)
            undone.operations = [half.operation for half in halves]
            undone.waiters = [half.run for half in halves]
            undone.sizes = [max(half.run.cost, LEAST_SIZE) for half in halves]
            self._put_back(undone, [1, 1])
            return [] if divided is None else [Divided(divided)]
        return []

    def _put_back(self, sent: _Sent[Waiter, Sender], pieces: list[int]) -> None:
        self._operations[:0] = sent.operations
        self._waiters[:0] = sent.waiters
        self._sizes[:0] = sent.sizes
        size = sum(sent.sizes)
        self._collected_size += size
        self.size += size
        self._pieces[:0] = pieces

    def _expire(self, now: float) -> list[Event[Waiter, Sender]]:
        """Give up what has waited for longer than the deadline; after a batch was given up, greet
        again.
        """
        events: list[Event[Waiter, Sender]] = []
        if self._was_answered:
            # The worker does one batch after the other: what is behind the one that it answered has
            # its time from here.
            self._was_answered = False
            self._collecting_since = now
            for sent in self._in_flight:
                sent.started_at = now
        if self._in_flight and now - self._in_flight[0].started_at >= self._deadline:
            events += self._greet_again(is_late=True)
        if self._operations and now - self._collecting_since >= self._deadline:
            if self._refuse_after is not None and any(isinstance(one, ENDINGS) for one in self._operations):
                # The worker may live behind a link that is cut, and keep what they were to end. A
                # greeting ends it.
                events += self._greet_again(is_late=True)
            events += self._give_up_collected(is_late=True)
        if self._refuse_after is not None:
            events += self._refuse_unsent(now, self._refuse_after)
        return events

    def _would_refuse(self) -> bool:
        return self._run is not None or not all(isinstance(one, ENDINGS) for one in self._operations)

    def _refuse_unsent(self, now: float, after: float) -> list[Event[Waiter, Sender]]:
        """Refuse what was not sent, after so many seconds without a link. Endings stay: nobody
        waits for them, and the worker may live behind a link that is cut.
        """
        if self._is_up:
            self._down_since = None
            return []
        if self._down_since is None:
            self._down_since = now
        if now - self._down_since < after:
            return []
        if self._run is not None:
            self._close_run(self._run)
        kept = [index for index, one in enumerate(self._operations) if isinstance(one, ENDINGS)]
        if len(kept) == len(self._operations):
            return []
        refused = [index for index, one in enumerate(self._operations) if not isinstance(one, ENDINGS)]
        unsent: Unsent[Waiter, Sender] = Unsent(
            [self._operations[at] for at in refused], [self._waiters[at] for at in refused]
        )
        size = sum([self._sizes[at] for at in refused])
        self.size -= size
        self._collected_size -= size
        self._operations = [self._operations[at] for at in kept]
        self._waiters = [self._waiters[at] for at in kept]
        self._sizes = [self._sizes[at] for at in kept]
        # What ended the worker is among what was refused, or comes alone anyway.
        self._pieces = [1] * len(kept) if self._pieces else []
        return [unsent]

    def _give_up_collected(self, *, is_late: bool = False) -> list[Event[Waiter, Sender]]:
        """Give up what has not been sent yet."""
        if not self._operations:
            return []
        given_up: GivenUp[Waiter, Sender] = GivenUp(self._operations, self._waiters, is_late)
        self.size -= self._collected_size
        self._operations, self._waiters, self._sizes, self._collected_size = [], [], [], 0
        self._pieces.clear()
        return [given_up]

    def _take_in(
        self, message: Welcome | Reply | BatchRefused | Superseded | GreetAgain
    ) -> list[Event[Waiter, Sender]]:
        match message:
            case Welcome():
                return self._welcome(message)
            case Superseded(slot, epoch):
                if slot == self._slot and epoch == self._epoch and not self._greeting:
                    return [SlotLost(slot)] if self._successor_lives() else self._greet_again()
            case Reply() | BatchRefused() | GreetAgain():
                slot, epoch, number = message[:3]
                if self._greeting or (slot, epoch) != (self._slot, self._epoch):
                    return []
                oldest, *later = [sent.number for sent in self._in_flight] or [0]
                if number == oldest:
                    return self._greet_again() if isinstance(message, GreetAgain) else self._answered(message)
                if number in later and not self._in_flight[0].overtaken:
                    # What went before it, or the answer to that, was lost with a connection. Where
                    # it is never answered, which is a bug, both would go in circles: so it is once.
                    self._in_flight[0].overtaken = True
                    self._send_all_again()
        return []

    def _successor_lives(self) -> bool:
        """The worker greeted another gateway after us. If this happens once, that one may be dead;
        if repeatedly, it is running.
        """
        recent = [moment for moment in self._superseded_at if self._started_at - moment < LATE_GREETINGS_WITHIN]
        if len(recent) >= LATE_GREETINGS:
            return True
        self._superseded_at = [*recent, self._started_at]
        return False

    def _greet_again(self, *, is_late: bool = False) -> list[Event[Waiter, Sender]]:
        """Greet again: nothing of the current epoch will be answered."""
        events: list[Event[Waiter, Sender]] = [
            GivenUp(sent.operations, sent.waiters, is_late) for sent in self._in_flight
        ]
        self.size -= sum([sent.size for sent in self._in_flight])
        self._in_flight.clear()
        self._answered_size = 0
        self._greet()
        return events

    def _answered(self, answer: Reply | BatchRefused) -> list[Event[Waiter, Sender]]:
        """The worker has answered the oldest batch in flight."""
        events: list[Event[Waiter, Sender]] = []
        outcomes: list[Outcome] | None = None
        is_undone = False
        if isinstance(answer, Reply):
            if answer.worker_incarnation != self._worker_incarnation:
                self._worker_incarnation = answer.worker_incarnation
                events.append(WorkerChanged(answer.worker_incarnation))
            outcomes = answer.outcomes
            oldest = self._in_flight[0]
            is_undone = oldest.is_question and not outcomes
            if not is_undone and len(outcomes) != len(oldest.operations):
                return events + self._greet_again()
        sent = self._in_flight.pop(0)
        self._answered_size = sent.size
        self.size -= sent.size
        self._was_answered = True
        if is_undone:
            return events + self._divide(sent)
        if sent.is_question:
            self._send_all_again()
        events.append(Answered(sent.operations, sent.waiters, outcomes))
        return events

    def _welcome(self, welcome: Welcome) -> list[Event[Waiter, Sender]]:
        if not self._greeting or welcome.slot != self._slot or welcome.incarnation != self._incarnation:
            return []
        self._greeting = False
        self._epoch = welcome.epoch
        self._number = 0
        self._worker_incarnation = welcome.worker_incarnation
        before, self._store = self._store, (welcome.facts.server_id, welcome.facts.generation)
        is_other = before is not None and before != self._store
        events: list[Event[Waiter, Sender]] = []
        if is_other:
            if self._run is not None:
                self._close_run(self._run)
            events += self._give_up_collected()
        return [*events, Greeted(welcome.facts, welcome.worker_incarnation, is_other)]


def _is_many(operation: Operation) -> bool:
    """Whether it is a run of more than one message."""
    return isinstance(operation, StoreMessages | StoreMessagesOnce) and (
        bytes_of_first(operation, 1) < len(operation.frames)
    )
