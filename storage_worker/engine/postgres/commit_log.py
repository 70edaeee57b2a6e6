"""How a turn becomes true: by one row of the journal.

Owns: the table `journal`, the records of the turn that is in flight, and what of the mail, users,
tokens, blocks and slots waits in memory for the tables.
Promises: when `commit` returns outside of a transaction, the turn is committed, here and on the
standbys that the server waits for. What is true is at every moment: the tables, then the journal in
the order of its numbers. A flush brings what the journal has into the tables and drops it, in one
transaction beside the turns; its commit is the loop's, between two of them. After a turn that was
undone `reload` makes memory as the tables are.
Exposure: none of its own.

    `begin_flush`    what waits is taken, and a thread writes it            (turns go on, and append)
    `settle`         committed: the tables have it, and the journal what came since
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from common import fail_points
from common.fail_points import FailPoint
from storage_worker.engine.errors import StoreFull
from storage_worker.engine.paged import taking
from storage_worker.engine.paged.journal_records import decode_records, encode_records
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.flusher import Flusher
from storage_worker.engine.postgres.mail_pages import MailPages
from storage_worker.engine.records import Record

MOST_UNFLUSHED_BYTES: Final = 6 * 1024 * 1024
"""Of mail in memory, after which it goes into pages."""
MOST_UNFLUSHED_MESSAGES: Final = 20_000
MOST_TURNS: Final = 4_000
"""Rows of the journal, which a takeover reads before it answers anything."""
MOST_BEHIND: Final = 4
"""Times these limits: where a flush is still running then, turns wait for it."""
FLUSH_AFTER_MS: Final = 2000
"""How long the tables stay behind while nothing much happens."""
_ROWS_AT_A_TIME: Final = 256
"""Of the journal, that are read with one statement."""

Write = Callable[[Database], None]


class Part(Protocol):
    """What keeps a part of the state: in memory what its tables do not have."""

    def forget(self) -> None:
        """Be as the tables are."""

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""


class TakenPart(Part, Protocol):
    """One whose tables get, with a flush, what they do not have."""

    def taken(self, now_ms: int) -> Write:
        """What the tables do not have now; what writes it inside a transaction, in any thread."""

    def written(self) -> None:
        """They have what was taken last. Without this the next `taken` has it again."""


class CommitLog:
    """Keeps the state of `queue` and `others`, of which the first ones are asked first. `reload`
    before anything else.
    """

    def __init__(
        self,
        database: Database,
        flusher: Flusher,
        queue: MessageQueue,
        pages: MailPages,
        before: tuple[TakenPart, ...],
        after: tuple[TakenPart, ...],
        has_news: Callable[[], bool],
    ) -> None:
        self._database = database
        self._flusher = flusher
        self._queue = queue
        self._pages = pages
        self._parts: tuple[Part, ...] = (*before, queue, *after)
        self._taken_parts = (*after, *before)
        self._has_news = has_news
        self._records: list[Record] = []
        self._number = 0
        """The last turn's."""
        self._turns = 0
        """Rows of the journal that no flush takes."""
        self._taken_turns = 0
        self._dead: list[int] = []
        """Blobs that nobody needs after the flush that is running."""
        self._waiting_since: int | None = None
        self.is_stuck = False
        """Whether the server had no room for what the journal holds when it was last tried."""
        self.flushes = 0

    def note(self, record: Record) -> None:
        """Something changed in this turn."""
        self._records.append(record)

    def reload(self) -> None:
        """Make memory as the tables are, with the journal. Raises `StoreFailed`."""
        self._records = []
        with suppress(StoreFull):
            # The journal has what the tables do not take.
            self.settle(wait=True)
        for part in self._parts:
            part.forget()
        self._turns = 0
        behind = 0
        while rows := self._database.rows(statements.JOURNAL, behind, _ROWS_AT_A_TIME):
            for _number, payload in rows:
                for record in decode_records(payload):
                    for part in self._parts:
                        part.replay(record)
            behind = rows[-1][0]
            self._turns += len(rows)
        self._number = max(self._number, behind)
        self._queue.received.clear()
        # Since when nobody knows: it is due.
        self._waiting_since = -FLUSH_AFTER_MS if self._turns else None

    # --- a turn
    # ----------------------------------------------------------------------------------------------

    def commit(self, now_ms: int) -> None:
        """The turn is complete: append it, in one round trip. Raises `StoreSuperseded` where
        another worker has the shard, `StoreFull`, and `StoreFailed`.
        """
        if not self._records:
            return
        payload = encode_records(self._records)
        self._database.write_fenced(statements.APPEND, self._number + 1, payload)
        self._number += 1
        self._turns += 1
        self._records = []
        if self._waiting_since is None:
            self._waiting_since = now_ms

    # --- into the tables
    # ----------------------------------------------------------------------------------------------

    def is_due(self, now_ms: int) -> bool:
        """Whether the tables should take in what waits, when there is a moment."""
        since = self._waiting_since
        return since is not None and (
            self._exceeds(1)
            or self._queue.has_dead_bodies
            or self._has_news()
            or not 0 <= now_ms - since < FLUSH_AFTER_MS
        )

    def _exceeds(self, times: int) -> bool:
        return (
            self._queue.unflushed_bytes >= times * MOST_UNFLUSHED_BYTES
            or self._queue.unflushed_messages >= times * MOST_UNFLUSHED_MESSAGES
            or self._turns >= times * MOST_TURNS
        )

    @property
    def waits(self) -> bool:
        """Whether the journal has something that the tables do not."""
        return self._waiting_since is not None or self._flusher.running

    @property
    def is_flushing(self) -> bool:
        """Whether a flush is running."""
        return self._flusher.running

    @property
    def is_behind(self) -> bool:
        """Whether so much came since the flush that is running was begun that turns have to wait
        for it.
        """
        return self._flusher.running and self._exceeds(MOST_BEHIND)

    def flush(self, now_ms: int) -> None:
        """Between two turns: let the tables take in all that the journal holds, and wait for it.
        Raises as `Database.transaction`.
        """
        self.settle(wait=True)
        if self._waiting_since is not None:
            self.begin_flush(now_ms)
            self.settle(wait=True)

    def begin_flush(self, now_ms: int) -> None:
        """Between two turns: begin to bring what the journal holds into the tables. None is
        running.
        """
        mail = taking.take(self._queue, now_ms)
        writes = [part.taken(now_ms) for part in self._taken_parts]
        number, self._taken_turns = self._number, self._turns
        self._turns = 0
        self._waiting_since = None
        self._dead = dead = []

        def write(database: Database) -> None:
            dead.extend(mail.write(MailPages(database)))
            for one in writes:
                one(database)
            database.change(statements.EMPTY_JOURNAL, number)

        self._flusher.begin(write)

    def settle(self, *, wait: bool) -> None:
        """Between two turns: if a flush is running and has written everything, commit it. `wait`:
        until it has. Raises as `Database.transaction`; after `StoreFull` the journal has it still,
        and `is_stuck` until a later one is committed.
        """
        if not self._flusher.running:
            return
        try:
            if not self._flusher.is_done(wait=wait):
                return
            fail_points.reach(FailPoint.WORKER_FLUSHING)
            self._flusher.commit()
        except StoreFull:
            taking.give_up(self._queue)
            self._turns += self._taken_turns
            self._waiting_since = -FLUSH_AFTER_MS
            self.is_stuck = True
            raise
        fail_points.reach(FailPoint.WORKER_FLUSHED)
        for box in self._queue.taken:
            self._pages.forget_mailbox(box.user)
        for part in self._taken_parts:
            part.written()
        taking.settle(self._queue, self._dead)
        self.is_stuck = False
        self.flushes += 1
