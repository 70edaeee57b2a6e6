"""How a turn becomes true: by one row of the journal.

Owns: the table `journal`, the records of the turn that is in flight, and what of the mail, users,
tokens and slots waits in memory for the tables.
Promises: when `commit` returns outside of a transaction, the turn is committed, here and on the
standbys that the server waits for. What is true is at every moment: the tables, then the journal in
the order of its numbers; `flush` brings the one into the others and empties it, in one transaction.
After a turn that was undone `reload` makes memory as the tables are.
Exposure: none of its own.
"""

from typing import Final, Protocol

from common import fail_points
from common.fail_points import FailPoint
from storage_worker.engine.paged.journal_records import decode_records, encode_records
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blocks import BlockLists
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.published_keys import Keys
from storage_worker.engine.postgres.remote_users import RemoteUsers
from storage_worker.engine.postgres.send_tokens import SentTokens
from storage_worker.engine.postgres.slots import Slots
from storage_worker.engine.postgres.users import UserRegistry
from storage_worker.engine.records import Record

MOST_UNFLUSHED_BYTES: Final = 2 * 1024 * 1024
"""Of mail in memory, after which it goes into pages: everybody waits meanwhile."""
MOST_UNFLUSHED_MESSAGES: Final = 8_000
MOST_TURNS: Final = 4_000
"""Rows of the journal, which a takeover reads before it answers anything."""
FLUSH_AFTER_MS: Final = 2000
"""How long the tables stay behind while nothing much happens."""
_ROWS_AT_A_TIME: Final = 256
"""Of the journal, that are read with one statement."""


class Part(Protocol):
    """What keeps a part of the state: in memory what its tables do not have."""

    def forget(self) -> None:
        """Be as the tables are."""

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""


class CommitLog:
    """Keeps the state of `queue`, `tokens`, `slots`, `users`, `blocks` and `keys`. `reload` before
    anything else.
    """

    def __init__(
        self,
        database: Database,
        queue: MessageQueue,
        tokens: SentTokens,
        slots: Slots,
        users: UserRegistry | RemoteUsers,
        blocks: BlockLists,
        keys: Keys,
    ) -> None:
        self._database = database
        self._queue = queue
        self._tokens = tokens
        self._slots = slots
        self._users = users
        self._blocks = blocks
        self._keys = keys
        self._parts: tuple[Part, ...] = (blocks, keys, users, queue, tokens, slots)
        self._records: list[Record] = []
        self._number = 0
        """The last turn's."""
        self._turns = 0
        """Rows of the journal."""
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
            self._queue.unflushed_bytes >= MOST_UNFLUSHED_BYTES
            or self._queue.unflushed_messages >= MOST_UNFLUSHED_MESSAGES
            or self._turns >= MOST_TURNS
            or self._queue.has_dead_bodies
            or self._users.has_news
            or self._keys.is_due
            or not 0 <= now_ms - since < FLUSH_AFTER_MS
        )

    @property
    def waits(self) -> bool:
        """Whether the journal has something that the tables do not."""
        return self._waiting_since is not None

    def flush(self, now_ms: int) -> None:
        """Between two turns: let the tables take in what the journal holds. Raises as
        `Database.transaction`.
        """
        with self._database.transaction():
            dead = self.write(now_ms)
            fail_points.reach(FailPoint.WORKER_FLUSHING)
        fail_points.reach(FailPoint.WORKER_FLUSHED)
        self.written(dead)
        self.flushes += 1

    def write(self, now_ms: int) -> list[int]:
        """Inside a transaction: give the tables all that they do not have, and empty the journal.
        The blobs that nobody needs after it.
        """
        dead = self._queue.write(now_ms)
        self._tokens.write(now_ms)
        self._slots.write()
        self._users.write()
        self._blocks.write()
        self._keys.write()
        self._database.change(statements.EMPTY_JOURNAL, self._number)
        return dead

    def written(self, dead: list[int]) -> None:
        """That transaction is committed."""
        self._waiting_since = None
        self._turns = 0
        self._tokens.written()
        self._slots.written()
        self._users.written()
        self._blocks.written()
        self._keys.written()
        self._queue.written(dead)
