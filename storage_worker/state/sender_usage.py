"""How much of one crowded mailbox is whose.

Owns: the counts of a mailbox that was more than half full, and how much of it one sender may have.
Promises: nothing is counted, and nobody is held back, while a mailbox is at most half full. Beyond
that a sender may have their share, and always one message. What is counted may be less than what is
there, never more.
Exposure: strangers choose how many senders there are. A count takes some hundred bytes, and a
sender has to be a user.

The queue counts (`MessageQueue.count_senders`), in steps, for a mailbox may hold a million
messages. Everything up to `counted_to` is counted. While that is not all, a sender is also held to
a part of their share in what they bring meanwhile, so that they can't use the time.
"""

from struct import Struct
from typing import Final, NamedTuple

from common.storage_protocol.message_format import ENTRY_HEAD
from storage_worker.engine.values import MailboxStats

_SENDER_AND_SIZE: Final = Struct("<16s34xI")
"""Of an entry's head."""
_PART_MEANWHILE: Final = 8
"""A sender may bring one part in so many of their share while their messages are not counted yet.
"""
NO_SHARE: Final = 100
"""Percent with which nobody is held back."""

_NONE: Final = (0, 0)
_unpack = _SENDER_AND_SIZE.unpack_from
_HEAD_SIZE: Final = ENTRY_HEAD.size


class Bounds(NamedTuple):
    """`calm`: what a mailbox holds until senders count. `share`: what one of them may have beyond
    that.

    `dropped`: what a mailbox has to come down to before its counts are dropped. That is less than
    `calm`: somebody who takes and sends one message at a time must not have all of them counted
    each time.
    """

    calm: MailboxStats
    share: MailboxStats
    dropped: MailboxStats


def bounds_of(mailbox_messages: int, mailbox_bytes: int, percent: int) -> Bounds:
    """The bounds for mailboxes of this size: half of it rounded up, and `percent` of it,
    one message at least.
    """
    if percent == NO_SHARE:
        whole = MailboxStats(mailbox_messages, mailbox_bytes)
        return Bounds(whole, whole, whole)
    calm = MailboxStats((mailbox_messages + 1) // 2, (mailbox_bytes + 1) // 2)
    share = MailboxStats(max(mailbox_messages * percent // 100, 1), mailbox_bytes * percent // 100)
    return Bounds(calm, share, MailboxStats(calm.messages // 2, calm.content_bytes // 2))


class Census:
    """The counts of one mailbox. Senders are client ids."""

    __slots__ = ("_arrived", "_counts", "bounds", "complete", "counted_to")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._counts: dict[bytes, list[int]] = {}
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is counted."""
        self._counts.clear()
        self._arrived: dict[bytes, list[int]] = {}
        self.counted_to = 0
        self.complete = False

    def completed(self, sequence: int) -> None:
        """All that is there is counted, and what comes will have a sequence above this one."""
        self.counted_to = sequence
        if not self.complete:
            self.complete = True
            self._arrived = {}

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
        """These messages, which were counted, are no more. Where one was not, a page was
        altered: it begins again.
        """
        counts = self._counts
        at, end = 0, len(entries)
        while at < end:
            sender, size = _unpack(entries, at)
            at += _HEAD_SIZE + size
            count = counts.get(sender)
            if count is None:
                self.begin_anew()
                return
            count[0] -= 1
            count[1] -= size
            if not count[0]:
                del counts[sender]

    def is_needless(self, messages: int, content_bytes: int) -> bool:
        """Whether a mailbox that holds so much needs no counts any more."""
        dropped = self.bounds.dropped
        return messages <= dropped.messages and content_bytes <= dropped.content_bytes

    def counts(self) -> dict[bytes, MailboxStats]:
        """All of them, for tests."""
        return {sender: MailboxStats(*count) for sender, count in self._counts.items()}

    def allows(self, sender: bytes, messages: int, content_bytes: int, held: MailboxStats) -> bool:
        """Whether a sender may bring so much more, who holds `held` for unfinished uploads.

        `messages` may be 0, for the next bytes of an upload. What is allowed has to be brought.
        """
        counted, counted_bytes = self._counts.get(sender, _NONE)
        all_messages = counted + held.messages + messages
        share = self.bounds.share
        if all_messages > 1 and (
            all_messages > share.messages or counted_bytes + held.content_bytes + content_bytes > share.content_bytes
        ):
            return False
        return self.complete or not messages or self._lets_arrive(sender, messages, content_bytes)

    def _lets_arrive(self, sender: bytes, messages: int, content_bytes: int) -> bool:
        share = self.bounds.share
        arrived = self._arrived.setdefault(sender, [0, 0])
        messages += arrived[0]
        content_bytes += arrived[1]
        if arrived[0] and (
            messages * _PART_MEANWHILE > share.messages or content_bytes * _PART_MEANWHILE > share.content_bytes
        ):
            return False
        arrived[:] = messages, content_bytes
        return True
