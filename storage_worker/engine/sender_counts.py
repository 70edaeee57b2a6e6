"""How many messages of one mailbox each sender has.

Owns: the counts, and up to which sequence they go. Promises: counts may be lower than what is
there, never higher.
Exposure: strangers choose how many senders there are. A count takes some hundred bytes, and a
sender has to be a user.

The engine counts (`Mailboxes.count_senders`) when the rules ask for it, and subtracts what is
deleted. The rules decide what a sender may have (`storage_worker.state.sender_usage`).
"""

from struct import Struct
from typing import Final

from common.storage_protocol.message_format import ENTRY_HEAD
from storage_worker.engine.values import MailboxStats

_SENDER_AND_SIZE: Final = Struct("<16s34xI")
"""Of an entry's head."""
_NONE: Final = (0, 0)
_unpack = _SENDER_AND_SIZE.unpack_from
_HEAD_SIZE: Final = ENTRY_HEAD.size


class SenderCounts:
    """The counts of one mailbox, up to sequence `counted_to`; `complete`: nothing is left to count.
    Senders are client ids.

    `dropped`: a mailbox that holds no more than this needs no counts. `arrived`: what each sender
    has brought while not all was counted; the caller keeps it, and it is emptied here.
    """

    __slots__ = ("_counts", "_dropped", "arrived", "complete", "counted_to")

    def __init__(self, dropped: MailboxStats) -> None:
        self._dropped = dropped
        self._counts: dict[bytes, list[int]] = {}
        self.begin_again()

    def begin_again(self) -> None:
        """Start over: nothing is counted."""
        self._counts.clear()
        self.arrived: dict[bytes, list[int]] = {}
        self.counted_to = 0
        self.complete = False

    def completed(self, sequence: int) -> None:
        """Everything is counted; new messages will have sequences above this one."""
        self.counted_to = sequence
        if not self.complete:
            self.complete = True
            self.arrived = {}

    def add(self, entries: bytes) -> None:
        """Count the messages of these entries. If its content is in a file, an entry is only a
        head.
        """
        counts = self._counts
        at, end = 0, len(entries)
        while at < end:
            sender, size = _unpack(entries, at)
            at += _HEAD_SIZE + size
            count = counts.get(sender)
            if count is None:
                counts[sender] = [1, size]
            else:
                count[0] += 1
                count[1] += size

    def take(self, entries: bytes) -> None:
        """Subtract these messages, which are deleted. If one was not counted, a page was altered,
        and counting starts over.
        """
        counts = self._counts
        at, end = 0, len(entries)
        while at < end:
            sender, size = _unpack(entries, at)
            at += _HEAD_SIZE + size
            count = counts.get(sender)
            if count is None:
                self.begin_again()
                return
            count[0] -= 1
            count[1] -= size
            if not count[0]:
                del counts[sender]

    def is_needless(self, messages: int, content_bytes: int) -> bool:
        """Whether a mailbox that holds this much no longer needs counts."""
        return messages <= self._dropped.messages and content_bytes <= self._dropped.content_bytes

    def of(self, sender: bytes) -> tuple[int, int]:
        """How many messages of a sender are counted, and the bytes of their contents."""
        messages, content_bytes = self._counts.get(sender, _NONE)
        return messages, content_bytes

    def counts(self) -> dict[bytes, MailboxStats]:
        """All counts, for tests."""
        return {sender: MailboxStats(*count) for sender, count in self._counts.items()}
