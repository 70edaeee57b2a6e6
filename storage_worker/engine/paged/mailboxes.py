"""One mailbox in memory: what is in the database's pages, what is not yet, and what is deleted but
still there.

Owns: in memory, the messages, and the deleted intervals, that are only in the journal.
Promises: nothing; the message queue keeps it consistent.
Exposure: none.
"""

from bisect import bisect_left, bisect_right

from storage_worker.engine.sender_counts import SenderCounts


class Mailbox:
    """`messages` and `content_bytes` count what is pending, and the room that unfinished uploads
    take.

    The rest is what the database does not have yet.

    `sequences` and `entries` are the fresh messages, in order; those in `blobs` (sequence -> file)
    have an entry that is a head alone. `removed` are intervals of the database's pages whose
    messages are no more, in order, apart. `counts`: whose the messages are, where the rules asked.

    While a transaction beside the turns takes all that in, `taken_to` is the highest sequence that
    it takes, else 0, and `later` has the intervals that were removed since it began. `flushed_to`:
    up to this sequence the database has it all, since this was taken in.
    """

    __slots__ = (
        "blobs",
        "content_bytes",
        "counts",
        "entries",
        "flushed_to",
        "later",
        "messages",
        "removed",
        "sequences",
        "taken_to",
        "user",
    )

    def __init__(self, user: int, messages: int, content_bytes: int) -> None:
        self.user = user
        self.messages = messages
        self.content_bytes = content_bytes
        self.counts: SenderCounts | None = None
        self.sequences: list[int] = []
        self.entries: list[bytes] = []
        self.blobs: dict[int, int] = {}
        self.removed: list[tuple[int, int]] = []
        self.taken_to = 0
        self.later: list[tuple[int, int]] = []
        self.flushed_to = 0

    @property
    def is_counted(self) -> bool:
        """Whether its senders are being counted."""
        return self.counts is not None

    def oldest_unflushed(self) -> int | None:
        """The lowest sequence of what the database does not have."""
        return self.sequences[0] if self.sequences else None

    def unflushed_between(self, first: int, last: int) -> tuple[int, int]:
        """The half-open range of indexes of the fresh messages from sequence `first` to `last`."""
        sequences = self.sequences
        if not sequences or sequences[-1] < first or sequences[0] > last:
            return 0, 0
        return bisect_left(sequences, first), bisect_right(sequences, last)

    def forget_between(self, first: int, last: int) -> None:
        """Note that the messages of this interval in the database's pages are deleted."""
        if self.taken_to:
            self.later.append((first, last))
        apart: list[tuple[int, int]] = []
        for low, high in self.removed:
            if high + 1 < first or low > last + 1:
                apart.append((low, high))
            else:
                first, last = min(first, low), max(last, high)
        apart.append((first, last))
        apart.sort()
        self.removed = apart

    def removed_within(self, first: int, last: int) -> list[tuple[int, int]]:
        """The removed intervals that touch `first` to `last`."""
        return [interval for interval in self.removed if interval[0] <= last and interval[1] >= first]

    def settle(self) -> None:
        """The database has what was taken, up to `taken_to`."""
        taken = bisect_right(self.sequences, self.taken_to)
        if self.blobs:
            for sequence in self.sequences[:taken]:
                self.blobs.pop(sequence, None)
        del self.sequences[:taken]
        del self.entries[:taken]
        later = self.later
        self.flushed_to = self.taken_to
        self.give_up()
        self.removed = []
        for first, last in later:
            self.forget_between(first, last)

    def give_up(self) -> None:
        """Nothing was taken."""
        self.taken_to = 0
        self.later = []

    def flushed(self) -> None:
        """The database has it all."""
        self.sequences = []
        self.entries = []
        self.blobs = {}
        self.removed = []
