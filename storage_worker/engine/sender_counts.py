"""How many messages of one mailbox each sender has.

Owns: the counts, and up to which sequence they go. Promises: what is counted may be less than what
is there, never more.
Exposure: strangers choose how many senders there are. A count takes some hundred bytes, and a
sender has to be a user.

The engine counts (`Mailboxes.count_senders`) where the rules ask for it, and takes off what is
deleted. What a sender may have is the rules' to say (`storage_worker.state.sender_usage`).
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
    """The counts of one mailbox, up to sequence `counted_to`; `complete`: that is all of it.
    Senders are client ids.

    `dropped`: a mailbox that holds no more than this needs no counts. `arrived`: what each sender
    has brought while not all was counted; whoever asked for the counts keeps it, and it is emptied
    here.
    """

    __slots__ = ("_counts", "_dropped", "arrived", "complete", "counted_to")

    def __init__(self, dropped: MailboxStats) -> None:
        self._dropped = dropped
        self._counts: dict[bytes, list[int]] = {}
        self.begin_again()

    def begin_again(self) -> None:
        """Nothing is counted."""
        self._counts.clear()
        self.arrived: dict[bytes, list[int]] = {}
        self.counted_to = 0
        self.complete = False

    def completed(self, sequence: int) -> None:
        """All that is there is counted, and what comes will have a sequence above this one."""
        self.counted_to = sequence
        if not self.complete:
            self.complete = True
            self.arrived = {}

    def add(self, entries: bytes) -> None:
        """Count the messages of these entries. One whose content is in a file is a head alone."""
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
        """These messages, which were counted, are no more. Where one was not, a page was altered:
        counting begins again.
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
        """Whether a mailbox that holds so much needs no counts any more."""
        return messages <= self._dropped.messages and content_bytes <= self._dropped.content_bytes

    def of(self, sender: bytes) -> tuple[int, int]:
        """How many messages of a sender are counted, and the bytes of their contents."""
        messages, content_bytes = self._counts.get(sender, _NONE)
        return messages, content_bytes

    def counts(self) -> dict[bytes, MailboxStats]:
        """All of them, for tests."""
        return {sender: MailboxStats(*count) for sender, count in self._counts.items()}
