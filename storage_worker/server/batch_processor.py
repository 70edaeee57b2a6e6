"""Decoded messages of gateways in, answers out; one turn, and one sync, for all that have arrived.

Owns: which gateway was last heard on each slot.
Promises: no answer is given before its effect is on disk. A batch is applied once, however often it
arrives. A batch that fails unexpectedly is refused and does not hold up the others. A full disk
leads to refusals of new mail.
Exposure: gateways of this server; who can open the link's socket is trusted.

Uses no sockets: the server passes in messages and sends the answers. Raises `StoreFailed`, after
which the state on disk is unknown and the worker must end.

Source: docs/storage-protocol.md, "Batches".
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from common import fail_points
from common.fail_points import FailPoint
from common.rare_log import RareLog
from common.server_log import fields
from common.storage_protocol.batch_order import SlotState, Verdict, judge
from common.storage_protocol.frames import (
    LOOK_ANYWAY,
    Batch,
    BatchRefused,
    GreetAgain,
    Hello,
    MailArrived,
    Reply,
    StoreFacts,
    Superseded,
    ToGateway,
    ToWorker,
    UndecodableBatch,
    Welcome,
    decode_outcomes,
    encode_outcomes,
)
from common.storage_protocol.message_format import SEND_FRAME, SEND_ONCE_FRAME
from common.storage_protocol.operations import (
    READ_AGAIN,
    Operation,
    Outcome,
    Pull,
    Pulled,
    StoreMessages,
    StoreMessagesOnce,
)
from storage_worker.engine.errors import StoreDamaged, StoreFailed, StoreFull, TablesDamaged
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import BatchApplied, SlotTaken
from storage_worker.engine.values import Admission, Capacity
from storage_worker.rules.rules import Rules
from storage_worker.server.own_turn import own_turn

log = logging.getLogger("storage_worker")
rarely: Final = RareLog(log)

EARLIER_KEPT: Final = 16
"""How many past greetings of a slot are remembered, so that a late copy of one takes
nothing from its successor.
"""


class Inbound(NamedTuple):
    """A message from a gateway. `peer` is where the answer goes."""

    peer: bytes
    message: ToWorker


class Outbound(NamedTuple):
    """A message to a gateway."""

    peer: bytes
    message: ToGateway


def concerns(inbound: Sequence[Inbound]) -> Iterator[str]:
    """For fail points: the kinds of the messages, and of the operations in them."""
    for one in inbound:
        message = one.message
        yield from fail_points.names(message.operations if isinstance(message, Batch) else [message])


class _CodeFailed(Exception):
    """Applying message `index` raised something unexpected."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class BatchProcessor:
    """Applies `rules` over `engine`. `incarnation`: 16 random bytes of this process."""

    def __init__(self, engine: Engine, rules: Rules, incarnation: bytes) -> None:
        self._engine = engine
        self._rules = rules
        self._incarnation = incarnation
        self._peers: dict[int, tuple[bytes, int]] = {}
        self._slots = engine.slots

    def handle(self, inbound: Sequence[Inbound], now_ms: int) -> list[Outbound]:
        """Process `inbound` in one turn, and return the answers.

        `now_ms`: Unix milliseconds. Raises `StoreFailed`.
        """
        failing: set[int] = set()
        wanted = sum([_most_messages(one.message.operations) for one in inbound if type(one.message) is Batch])
        capacity = self._engine.prepare(now_ms, wanted, self._rules.uploaded)
        while True:
            answers: list[Outbound] = []
            try:
                self._turn(inbound, now_ms, capacity, failing, answers)
            except _CodeFailed as error:
                self._rules.roll_back()
                failing.add(error.index)
            except StoreDamaged as error:
                # A table that has to be written is damaged: once more, without what would write to
                # tables.
                self._rules.roll_back()
                if capacity.level is Admission.NOTHING:
                    raise
                rarely.write(logging.ERROR, "nothing that changes tables is done: %s", error)
                capacity = capacity._replace(level=Admission.NOTHING, is_damaged=True)
            except StoreFull as error:
                self._rules.roll_back()
                if capacity.level is Admission.NOTHING:
                    raise StoreFailed(f"no room even without new mail: {error}") from error
                capacity = capacity._replace(level=Admission.NOTHING)
                self._engine.found_full(now_ms)
            else:
                break
        taken_bytes, arrived = self._rules.commit()
        self._engine.accepted(taken_bytes)
        answers += self._notices(arrived, self._rules.highest)
        return answers + self.take_notices()

    def take_notices(self) -> list[Outbound]:
        """Between two turns: notices of users who were deleted or disabled while they waited."""
        return self._notices(self._rules.take_ended(), LOOK_ANYWAY)

    def _notices(self, clients: dict[int, list[bytes]], sequence: int) -> list[Outbound]:
        found: list[Outbound] = []
        for slot, client_ids in clients.items():
            if slot in self._peers:
                peer, epoch = self._peers[slot]
                found.append(Outbound(peer, MailArrived(slot, epoch, sequence, client_ids)))
        return found

    def maintain(self, now_ms: int) -> None:
        """Between two turns: maintenance. Raises `StoreFailed`."""
        departed = self._engine.take_departed(now_ms)
        if departed:
            own_turn(self._engine, self._rules, now_ms, lambda: self._rules.end_departed(departed))
        if self._rules.is_counting:
            self._rules.count_on()
        self._rules.expiry.look(now_ms)
        if self._rules.expiry.goes_on:
            self._expire(now_ms)
        self._look_for_inactive(now_ms)
        self._engine.maintain(now_ms)

    def _expire(self, now_ms: int) -> None:
        """A turn of its own, in which some old mail is deleted."""
        problem = own_turn(self._engine, self._rules, now_ms, self._rules.expiry.step)
        if problem is None:
            self._rules.expiry.committed()
        else:
            self._rules.expiry.give_up(problem)

    def _look_for_inactive(self, now_ms: int) -> None:
        """Turns of their own, in which the time is noted and some users are deleted."""
        inactivity = self._rules.inactivity
        inactivity.look(now_ms)
        if inactivity.note_is_due:
            inactivity.noted(own_turn(self._engine, self._rules, now_ms, inactivity.note, registers=True))
        if inactivity.goes_on:
            inactivity.stepped(own_turn(self._engine, self._rules, now_ms, inactivity.step))

    @property
    def is_busy(self) -> bool:
        """Whether `maintain` goes on with something that should not wait for gateways."""
        return self._rules.expiry.goes_on or self._rules.inactivity.is_busy or self._engine.is_busy

    @property
    def waits_for_a_time(self) -> bool:
        """Whether `maintain` has to be called now and then although nothing arrives."""
        return bool(self._rules.expiry.days or self._rules.inactivity.days)

    def takes_mail(self, now_ms: int) -> bool:
        """Between two turns: whether there is room for mail. Raises `StoreFailed`."""
        return self._engine.prepare(now_ms, 0, self._rules.uploaded).level is Admission.OPEN

    @property
    def peers(self) -> list[bytes]:
        """The last known peers of the gateways of all slots."""
        return [peer for peer, _epoch in self._peers.values()]

    @property
    def has_waiting(self) -> bool:
        """Whether `maintain` will soon have something to do."""
        return self._engine.has_pending or self._rules.is_counting or self._rules.inactivity.goes_on

    def _turn(
        self, inbound: Sequence[Inbound], now_ms: int, capacity: Capacity, failing: set[int], answers: list[Outbound]
    ) -> None:
        registers = any(type(one.message) is Batch and self._rules.registers(one.message.operations) for one in inbound)
        with self._engine.turn(now_ms, capacity.level, registers=registers):
            self._rules.begin(now_ms, capacity)
            for index, one in enumerate(inbound):
                message = one.message
                try:
                    if isinstance(message, Hello):
                        answer = self._greet(one.peer, message)
                    elif isinstance(message, UndecodableBatch) or index in failing:
                        answer = self._refuse(one.peer, message)
                    else:
                        answer = self._batch(one.peer, message)
                except Exception as error:
                    damage = self._engine.damage(error)
                    if index in failing or isinstance(error, TablesDamaged) or self._engine.is_failure(error):
                        raise
                    if damage:
                        rarely.write(logging.ERROR, "a batch is refused: %s", damage)
                    else:
                        log.exception("a batch failed unexpectedly; it is refused")
                    raise _CodeFailed(index) from error
                if answer is not None:
                    answers.append(Outbound(one.peer, answer))
            fail_points.reach(FailPoint.WORKER_BEFORE_COMMIT, concerns(inbound))

    # --- greetings
    # ---------------------------------------------------------------------------------------------

    def _greet(self, peer: bytes, hello: Hello) -> ToGateway | None:
        found = self._slots.find(hello.slot)
        epoch, incarnation, earlier = found[:3] if found is not None else (0, b"", b"")
        if hello.incarnation != incarnation:
            if hello.incarnation in [earlier[at : at + 16] for at in range(0, len(earlier), 16)]:
                log.info("slot %d: a late copy of an earlier greeting is ignored", hello.slot)
                return None
            epoch += 1
            earlier = (incarnation + earlier)[: 16 * EARLIER_KEPT]
            self._engine.apply(SlotTaken(hello.slot, epoch, hello.incarnation, earlier))
            self._rules.greet(hello.slot)
            log.info(
                "a gateway greeted: slot %d, epoch %d", hello.slot, epoch, extra=fields(slot=hello.slot, epoch=epoch)
            )
        self._peers[hello.slot] = (peer, epoch)
        server_id, generation, shard, shards = self._engine.identity
        facts = StoreFacts(server_id, generation, self._rules.highest, shard, shards)
        return Welcome(hello.slot, epoch, hello.incarnation, self._incarnation, facts)

    # --- batches
    # ----------------------------------------------------------------------------------------------

    def _place(self, batch: Batch | UndecodableBatch) -> tuple[Verdict, ToGateway | None, bytes | None]:
        """The verdict on a batch, the answer if it is not decoded, and the kept outcomes."""
        slot, epoch, number = batch[:3]
        found = self._slots.find(slot)
        verdict = judge(None if found is None else SlotState(found.epoch, found.number), epoch, number)
        answer: ToGateway | None = None
        if verdict is Verdict.SUPERSEDED:
            rarely.write(
                logging.WARNING, "slot %d: a batch of epoch %d is refused, a later gateway has the slot", slot, epoch
            )
            answer = Superseded(slot, epoch)
        elif verdict is Verdict.GREET_AGAIN:
            rarely.write(
                logging.WARNING,
                "slot %d: batch %d of epoch %d has no place; its gateway has to greet",
                slot,
                number,
                epoch,
            )
            answer = GreetAgain(slot, epoch, number)
        return verdict, answer, None if found is None else found.kept(number)

    def _batch(self, peer: bytes, batch: Batch) -> ToGateway | None:
        slot, epoch, number, operations = batch
        verdict, answer, kept = self._place(batch)
        if verdict is Verdict.APPLY:
            outcomes = self._rules.apply(slot, operations)
            self._use_up(
                batch,
                encode_outcomes(
                    [
                        None if isinstance(operation, READ_AGAIN) and not _took_nothing(operation, outcome) else outcome
                        for operation, outcome in zip(operations, outcomes, strict=True)
                    ]
                ),
            )
        elif verdict is Verdict.ANSWER_AGAIN:
            if kept is None:
                return BatchRefused(slot, epoch, number)
            kept_outcomes = decode_outcomes(kept)
            if len(kept_outcomes) != len(operations):
                if operations:
                    rarely.write(logging.ERROR, "slot %d: batch %d came again with other operations", slot, number)
                return GreetAgain(slot, epoch, number)
            outcomes = self._rules.answer_again(slot, operations, kept_outcomes)
        else:
            return answer
        self._peers[slot] = (peer, epoch)
        return Reply(slot, epoch, number, self._incarnation, outcomes)

    def _refuse(self, peer: bytes, batch: Batch | UndecodableBatch) -> ToGateway | None:
        """Refuse a batch that can't be decoded or fails unexpectedly: its number is used up, and
        nothing else happens.
        """
        slot, epoch, number = batch[:3]
        verdict, answer, kept = self._place(batch)
        if verdict is Verdict.APPLY:
            problem = batch.problem if isinstance(batch, UndecodableBatch) else "it made the program fail"
            rarely.write(logging.ERROR, "slot %d: batch %d is refused, which is a bug: %s", slot, number, problem)
            self._use_up(batch, None)
        elif verdict is not Verdict.ANSWER_AGAIN:
            return answer
        elif kept is not None:
            # It was applied when it came first, so "nothing was done" would be wrong.
            return GreetAgain(slot, epoch, number)
        self._peers[slot] = (peer, epoch)
        return BatchRefused(slot, epoch, number)

    def _use_up(self, batch: Batch | UndecodableBatch, outcomes: bytes | None) -> None:
        self._engine.apply(BatchApplied(batch.slot, batch.number, outcomes))


def _took_nothing(operation: Operation, outcome: Outcome) -> bool:
    """Whether this read took no lease, but might take one when it is repeated after mail has
    arrived.

    A gateway that heard the first answer would not know of that lease, and it would hide the mail
    until the next greeting.
    """
    return type(operation) is Pull and not (type(outcome) is Pulled and outcome.count)


def _most_messages(operations: Sequence[Operation]) -> int:
    """The most messages that these may store."""
    most = 0
    for operation in operations:
        if isinstance(operation, StoreMessages):
            most += len(operation.frames) // SEND_FRAME.size
        elif isinstance(operation, StoreMessagesOnce):
            most += len(operation.frames) // SEND_ONCE_FRAME.size
        else:
            most += 1
    return most
