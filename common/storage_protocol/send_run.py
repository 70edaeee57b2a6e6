"""A run of sends: 603s, or 642s, of any connections that travel to the worker as one operation.

Owns: which messages of a run are whose, and how it is divided.
Promises: pure. The messages stay in the order in which they were put in; so do the parts of a
divided run.
Exposure: none of its own; it sees frames that were checked.

Source: docs/storage-protocol.md, "Operations".
"""

from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from common.storage_protocol.message_format import SEND_FRAME, SEND_ONCE_FRAME, first_frames
from common.storage_protocol.operations import StoreMessages, StoreMessagesOnce

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of frames in one run; what does not fit goes into the next one."""

Sender = TypeVar("Sender")
RunOfSends = StoreMessages | StoreMessagesOnce


class Sends(Protocol):
    """Messages of one connection: their frames, one behind the other, and a recipient for each."""

    @property
    def once(self) -> bool:
        """Whether they are 642s, each with a token."""

    @property
    def recipients(self) -> list[bytes]:
        """Of each message."""

    @property
    def frames(self) -> bytes:
        """As they came."""


Share = tuple[Sender, list[bytes], int]
"""What one connection put in at a time: who, the recipient of each message, and its cost: bytes, as
that connection counts them. No class of its own, for there is one for each read of the hot path."""


class SendRun(Generic[Sender]):
    """Open until `complete`. `once`: with tokens. `opened_at` in monotonic seconds; `cost` and
    `size`: of all in it, as the senders count it, and of its frames, in bytes.
    """

    __slots__ = ("authenticated", "cost", "frames", "once", "opened_at", "shares", "size")

    def __init__(self, opened_at: float, *, authenticated: bool, once: bool = False) -> None:
        self.authenticated = authenticated
        self.once = once
        self.opened_at = opened_at
        self.cost = 0
        self.size = 0
        self.frames: list[bytes] = []
        self.shares: list[Share[Sender]] = []

    @property
    def count(self) -> int:
        """How many messages are in it."""
        return sum([len(recipients) for _sender, recipients, _cost in self.shares])

    def split(self, cost: int, now: float) -> "SendRun[Sender] | None":
        """Keep what came first, up to `cost` and from one connection at least; the rest as a run of
        its own.

        `now`: monotonic seconds. The rest counts as opened then, or a run that is never emptied
        would grow old.
        """
        shares = self.shares
        if self.cost <= cost or len(shares) == 1:
            return None
        count = 1
        kept = shares[0][2]
        while kept + shares[count][2] <= cost:
            kept += shares[count][2]
            count += 1
        rest: SendRun[Sender] = SendRun(now, authenticated=self.authenticated, once=self.once)
        rest.frames, rest.shares = self.frames[count:], shares[count:]
        del self.frames[count:], shares[count:]
        rest.cost, self.cost = self.cost - kept, kept
        rest.size = sum(map(len, rest.frames))
        self.size -= rest.size
        return rest

    def complete(self) -> RunOfSends:
        """The operation; nothing can be added any more."""
        frames, self.frames = self.frames, []
        return self._operation(frames[0] if len(frames) == 1 else b"".join(frames))

    def _operation(self, frames: bytes) -> RunOfSends:
        return (StoreMessagesOnce if self.once else StoreMessages)(self.authenticated, frames)

    def halve(self, operation: RunOfSends) -> "tuple[Half[Sender], Half[Sender], Sender | None]":
        """Two runs of half as many messages each, of a complete one that has several.

        The third: who put in at a time what is in both now.
        """
        first: SendRun[Sender] = SendRun(self.opened_at, authenticated=self.authenticated, once=self.once)
        second: SendRun[Sender] = SendRun(self.opened_at, authenticated=self.authenticated, once=self.once)
        divided: Sender | None = None
        count = left = (self.count + 1) // 2
        for sender, recipients, cost in self.shares:
            mine = min(len(recipients), left)
            left -= mine
            its_cost = cost * mine // len(recipients)
            if 0 < mine < len(recipients):
                divided = sender
            if mine:
                first.shares.append((sender, recipients[:mine], its_cost))
                first.cost += its_cost
            if mine < len(recipients):
                second.shares.append((sender, recipients[mine:], cost - its_cost))
                second.cost += cost - its_cost
        at = bytes_of_first(operation, count)
        return (
            Half(self._operation(operation.frames[:at]), first),
            Half(self._operation(operation.frames[at:]), second),
            divided,
        )


class Half(NamedTuple, Generic[Sender]):
    """A part of a run, as a run of its own."""

    operation: RunOfSends
    run: SendRun[Sender]


def bytes_of_first(run: RunOfSends, count: int) -> int:
    """How many bytes the first `count` frames of a run take; all of them where it has no more."""
    return first_frames(run.frames, count, SEND_ONCE_FRAME if type(run) is StoreMessagesOnce else SEND_FRAME)
