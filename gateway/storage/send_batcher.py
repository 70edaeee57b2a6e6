"""A run that is still open: sends of any connections that will travel to the worker as one
operation.

Owns: which messages of a `StoreMessages` are whose.
Promises: the worker's outcome comes back to each connection in the order of its requests, in one
call for all that it put in at a time; in more than one where the run had to be divided.
Exposure: none of its own; it sees frames that were checked.

Source: docs/storage-protocol.md, "Operations".
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

from common.client_protocol.server_connection import PipelinedSends
from common.rare_log import RareLog
from common.storage_protocol.batch_sender import Half
from common.storage_protocol.message_format import first_frames
from common.storage_protocol.operations import MessagesStored, Operation, Outcome, Refused, RefusedFrame, StoreMessages
from gateway.connection.containment import contain

_rarely: Final = RareLog(logging.getLogger("gateway.runs"))

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of frames in one run; what does not fit goes into the next one."""
_NONE_REFUSED: Final[Mapping[int, Refused]] = {}


class Sender(Protocol):
    """Who put messages into a run."""

    def sends_answered(self, recipients: list[bytes], cost: int, first: int, refused: Mapping[int, Refused]) -> None:
        """What became of the messages that were put in with these recipients and this cost.

        Those at the indexes of `refused` were not stored; the others have the sequences `first`,
        `first` + 1, ….
        """

    def sends_divided(self) -> None:
        """Of what was put in at a time it will hear in one call more."""

    def abort(self) -> None:
        """Whether they are stored is unknown, and will be."""


class SendBatcher:
    """A waiter of the link, once it is complete. `opened_at` in monotonic seconds;
    `cost`: bytes, of all in it.
    """

    __slots__ = ("_frames", "_proven", "_shares", "_size", "cost", "opened_at")

    def __init__(self, proven: bool, opened_at: float) -> None:
        self._proven = proven
        self.opened_at = opened_at
        self.cost = 0
        self._size = 0
        self._frames: list[bytes] = []
        self._shares: list[tuple[Sender, list[bytes], int]] = []

    def add(self, run: PipelinedSends, proven: bool, cost: int, sender: Sender) -> bool:
        """Put messages behind those that are there; False where they may not go with them, or are
        too many.

        `cost`: bytes they count as until they are answered.
        """
        frames = run.frames
        size = self._size + len(frames)
        if proven is not self._proven or size > LARGEST:
            return False
        self._size = size
        self.cost += cost
        self._frames.append(frames)
        self._shares.append((sender, run.recipients, cost))
        return True

    def split(self, cost: int, now: float) -> "SendBatcher | None":
        """Keep what came first, up to `cost` and from one connection at least; the rest as a run of
        its own.

        `now`: monotonic seconds. The rest counts as opened then, or a run that is never emptied
        would grow old.
        """
        if self.cost <= cost or len(self._shares) == 1:
            return None
        count = 1
        kept = self._shares[0][2]
        while kept + self._shares[count][2] <= cost:
            kept += self._shares[count][2]
            count += 1
        rest = SendBatcher(self._proven, now)
        rest._frames, rest._shares = self._frames[count:], self._shares[count:]
        del self._frames[count:], self._shares[count:]
        rest.cost, self.cost = self.cost - kept, kept
        rest._size = sum(map(len, rest._frames))
        self._size -= rest._size
        return rest

    def complete(self) -> StoreMessages:
        """The operation; nothing can be added any more."""
        frames, self._frames = self._frames, []
        return StoreMessages(self._proven, frames[0] if len(frames) == 1 else b"".join(frames))

    def halve(self, operation: StoreMessages) -> "tuple[Half[SendBatcher], Half[SendBatcher]]":
        """Two runs of half as many messages each, of a complete one that has several."""
        halves = SendBatcher(self._proven, self.opened_at), SendBatcher(self._proven, self.opened_at)
        first, second = halves
        count = room = (sum([len(recipients) for _sender, recipients, _cost in self._shares]) + 1) // 2
        for sender, recipients, cost in self._shares:
            mine = min(len(recipients), room)
            room -= mine
            its_cost = cost * mine // len(recipients)
            if 0 < mine < len(recipients):
                sender.sends_divided()
            if mine:
                first._take(sender, recipients[:mine], its_cost)
            if mine < len(recipients):
                second._take(sender, recipients[mine:], cost - its_cost)
        at = first_frames(operation.frames, count)
        return (
            Half(StoreMessages(self._proven, operation.frames[:at]), first, first.cost),
            Half(StoreMessages(self._proven, operation.frames[at:]), second, second.cost),
        )

    def _take(self, sender: Sender, recipients: list[bytes], cost: int) -> None:
        self._shares.append((sender, recipients, cost))
        self.cost += cost

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """Tell every sender what became of its messages."""
        match outcome:
            case MessagesStored(first, []):
                for sender, recipients, cost in self._shares:
                    try:
                        sender.sends_answered(recipients, cost, first, _NONE_REFUSED)
                    except Exception as error:
                        contain(sender, error)
                    first += len(recipients)
            case MessagesStored(first, refused) if self._fits(refused):
                self._answer_some_refused(first, refused)
            case Refused():
                for sender, recipients, cost in self._shares:
                    _tell(sender, recipients, cost, 0, dict.fromkeys(range(len(recipients)), outcome))
            case _:
                _rarely.write(
                    logging.ERROR, "a run of sends was answered with what does not fit it: %s", type(outcome).__name__
                )
                self.unknown(operation)

    def _fits(self, refused: Sequence[RefusedFrame]) -> bool:
        count = sum([len(recipients) for _sender, recipients, _cost in self._shares])
        return refused[-1].index < count and all(one.index < other.index for one, other in pairwise(refused))

    def _answer_some_refused(self, first: int, refused: Sequence[RefusedFrame]) -> None:
        at = start = 0
        for sender, recipients, cost in self._shares:
            end = start + len(recipients)
            of_these: dict[int, Refused] = {}
            while at < len(refused) and refused[at].index < end:
                index, reason, retry_after = refused[at].index, refused[at].reason, refused[at].retry_after
                of_these[index - start] = Refused(reason, retry_after)
                at += 1
            _tell(sender, recipients, cost, first, of_these)
            first += len(recipients) - len(of_these)
            start = end

    def unknown(self, operation: Operation) -> None:
        """Every connection that has messages in it ends without a reply."""
        for sender, _recipients, _cost in self._shares:
            sender.abort()


def _tell(sender: Sender, recipients: list[bytes], cost: int, first: int, refused: Mapping[int, Refused]) -> None:
    try:
        sender.sends_answered(recipients, cost, first, refused)
    except Exception as error:
        contain(sender, error)
