"""How much of one crowded mailbox a sender may have.

Owns: the bounds, and the decision. Promises: nothing is counted, and nobody is limited, while a
mailbox is at most half full. Beyond that a sender may have their share, and always one message.
Exposure: strangers choose senders and sizes.

The engine counts (`Mailboxes.count_senders`), in steps, for a mailbox may hold a million messages.
While counting is incomplete, a sender is also limited to a part of their share in what they add
meanwhile, so that they can't exploit the delay.
"""

from typing import Final, NamedTuple

from storage_worker.engine.sender_counts import SenderCounts
from storage_worker.engine.values import MailboxStats

_PART_MEANWHILE: Final = 8
"""A sender may bring one part in so many of their share while their messages are not counted yet.
"""
NO_SHARE: Final = 100
"""Percent with which nobody is held back."""


class Bounds(NamedTuple):
    """`calm`: what a mailbox may hold before senders are counted. `share`: what one sender may have
    beyond that.

    `dropped`: when a mailbox holds no more than this, its counts are dropped. It is less than
    `calm`, so that fetching and sending one message at a time does not start a new count each time.
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


def allows(
    counts: SenderCounts, share: MailboxStats, sender: bytes, messages: int, content_bytes: int, held: MailboxStats
) -> bool:
    """Whether a sender may add this much more to the mailbox of these counts; `held` is reserved
    for their unfinished uploads.

    `messages` may be 0, for the next bytes of an upload. What is allowed counts as added.
    """
    counted, counted_bytes = counts.of(sender)
    all_messages = counted + held.messages + messages
    if all_messages > 1 and (
        all_messages > share.messages or counted_bytes + held.content_bytes + content_bytes > share.content_bytes
    ):
        return False
    return counts.complete or not messages or _lets_arrive(counts, share, sender, messages, content_bytes)


def _lets_arrive(counts: SenderCounts, share: MailboxStats, sender: bytes, messages: int, content_bytes: int) -> bool:
    arrived = counts.arrived.setdefault(sender, [0, 0])
    messages += arrived[0]
    content_bytes += arrived[1]
    if arrived[0] and (
        messages * _PART_MEANWHILE > share.messages or content_bytes * _PART_MEANWHILE > share.content_bytes
    ):
        return False
    arrived[:] = messages, content_bytes
    return True
