"""Admission: what is accepted at the moment, and how much a mailbox still accepts from each sender.

Owns: the limits, the level of admission of the present turn, and which mailbox's senders
are still to be counted.
Promises: a mailbox never holds more than its limits, nor two messages whose ids are equal. In a
mailbox that is more than half full a sender has their share, and always one message.
Exposure: strangers choose senders, recipients and sizes; counting has a budget for each turn.
"""

from typing import Final, NamedTuple

from common.storage_protocol.operations import Refused
from storage_worker.engine.interface import Engine, Mailbox
from storage_worker.engine.values import Admission, Capacity
from storage_worker.rules.answers import DAMAGED, MAILBOX_FULL, SHARE_FULL, STORAGE_FULL
from storage_worker.state.sender_usage import allows, bounds_of
from storage_worker.state.uploads import Uploads

COUNTING: Final = 10_000
"""Microseconds, about, that a turn may take to count the senders of crowded mailboxes."""

IDS: Final = 2**32 - 1
"""Clients know a message by an id that repeats after so many sequences: the pending messages of a
mailbox span fewer."""


class Limits(NamedTuple):
    """Sizes in bytes."""

    largest_message: int = 1024**3
    mailbox_messages: int = 1_000_000
    mailbox_bytes: int = 4 * 1024**3
    uploads: int = 256
    """Unfinished uploads at a time. The last quarter of the places is for senders on
    authenticated connections.
    """
    uploads_of_user: int = 16
    """Those of one sender."""
    sender_share: int = 12
    """Percent of a mailbox's messages and bytes that one sender may have of one that is
    more than half full.
    """


class AdmissionControl:
    """`now_ms`, `level`, `refusal` and `for_uploads` are those of the turn; `begin` sets them."""

    def __init__(self, engine: Engine, uploads: Uploads, limits: Limits) -> None:
        self._engine = engine
        self._mailboxes = engine.mailboxes
        self._uploads = uploads
        self.limits = limits
        self.bounds = bounds_of(limits.mailbox_messages, limits.mailbox_bytes, limits.sender_share)
        self._counting = COUNTING
        self._uncounted: Mailbox | None = None
        self._not_below: dict[int, int] = {}
        """By a mailbox's user: nothing is pending below this sequence. Empty while ids are new."""
        self.now_ms = 0
        self.level = Admission.OPEN
        self.refusal = STORAGE_FULL
        """The answer to what `level` does not let in."""
        self.for_uploads = 0
        """Bytes that unfinished uploads together may hold."""
        self.accepted_bytes = 0
        """What came in during this turn."""

    def begin(self, now_ms: int, room: Capacity) -> None:
        """A turn begins."""
        self.refusal = DAMAGED if room.is_damaged else STORAGE_FULL
        self.now_ms = now_ms
        self.level = room.level
        self.for_uploads = room.for_uploads
        self.accepted_bytes = 0
        self._counting = COUNTING

    # --- mailboxes
    # ----------------------------------------------------------------------------------------------

    def no_room(self, box: Mailbox, sender: bytes, messages: int, size: int) -> Refused | None:
        """Why a mailbox does not accept this much more from this sender, or None."""
        calm = self.bounds.calm
        sequence = self._mailboxes.sequence + 1
        if (
            box.messages + messages <= calm.messages
            and box.content_bytes + size <= calm.content_bytes
            and sequence < IDS
        ):
            return None
        return self.crowded(box, sender, messages, size, sequence)

    def crowded(self, box: Mailbox, sender: bytes, messages: int, size: int, sequence: int) -> Refused | None:
        """The same for a mailbox that would be more than half full, with the next sequence."""
        all_messages = box.messages + messages
        all_bytes = box.content_bytes + size
        limits = self.limits
        if (
            all_messages > limits.mailbox_messages
            or all_bytes > limits.mailbox_bytes
            or self.would_repeat_an_id(box, sequence)
        ):
            return MAILBOX_FULL
        calm = self.bounds.calm
        if all_messages <= calm.messages and all_bytes <= calm.content_bytes:
            return None
        counts, self._counting = self._mailboxes.count_senders(box.user, self.bounds.dropped, self._counting)
        if not counts.complete:
            self._uncounted = box
        held = self._uploads.held_by(sender, box.user)
        return None if allows(counts, self.bounds.share, sender, messages, size, held) else SHARE_FULL

    def ids_are_new(self, sequence: int) -> bool:
        """Whether no message id can repeat up to this sequence."""
        return sequence < IDS

    def would_repeat_an_id(self, box: Mailbox, sequence: int) -> bool:
        """Whether this sequence is so far above the oldest pending message that their ids could be
        the same.
        """
        not_below = self._not_below.get(box.user, 0)
        if sequence - not_below < IDS:
            return False
        oldest = self._mailboxes.oldest(box.user, not_below - 1, sequence)
        if oldest is None:
            # The queue does not look at what this run has brought so far.
            oldest = box.oldest_unflushed() or sequence
        self._not_below[box.user] = oldest
        return sequence - oldest >= IDS

    def roll_back(self) -> None:
        """What this turn deleted is pending again."""
        self._not_below.clear()

    # --- counting
    # ----------------------------------------------------------------------------------------------

    @property
    def is_counting(self) -> bool:
        """Whether a mailbox's senders are not all counted yet."""
        return self._uncounted is not None

    def count_on(self) -> None:
        """Between two turns: count some more."""
        box, self._uncounted = self._uncounted, None
        if box is None or not box.is_counted or not self._mailboxes.is_current(box):
            return
        with self._engine.reading():
            counts, _ = self._mailboxes.count_senders(box.user, self.bounds.dropped, COUNTING)
        if not counts.complete:
            self._uncounted = box
