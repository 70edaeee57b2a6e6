"""How a turn is committed: by one record of the journal, or by one transaction of the database.

Owns: the records of the turn that is in flight; the journal; the mail, tokens and slots that are in
memory and not in the database.
Promises: when `commit` returns, the turn is on disk. A transaction always includes everything that
the journal holds, and begins a new log epoch at the same time, so the valid state is always the
database followed by the journal. The loop does not wait until mail that moves from one to the other
is on disk: until it is, the journal keeps the old log epoch beside the new one. After a failure
that undoes a turn, `reload` returns memory to the state of the disk.
Exposure: none of its own.

    a turn with records    ──▶ a record, written and synced                                (the rule)
    a turn without         ──▶ a record, written: lost with the power alone, with nothing in it but its number
    one that needs tables  ──▶ `flush` inside its transaction
    the journal is full enough, memory too, or some time has passed ──▶ `flush_on` between two turns

Where much waits, `flush_on` takes it in by steps, a turn behind each, so that nobody waits for all
of it: see docs/decisions/0032-taking-in-by-steps.md.

    the next log epoch begins in the other file; what waits is taken as it is now
      ──▶ a transaction for some users' mailboxes, in the order of their rows up to `moved`
      ──▶ … the last one has what is of no mailbox, names the log epoch, and empties `moved`
    killed in between: the first log epoch for the mailboxes behind `moved`, the next one for all
    whatever needs all of it in the database gives the steps up, and flushes what is left
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common import fail_points
from common.fail_points import FailPoint
from storage_worker.engine.errors import StoreDamaged, StoreFull
from storage_worker.engine.paged.journal_records import decode_records, encode_records
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.paged.slots import SlotRow
from storage_worker.engine.paged.taking import TakenMail, give_up, settle, settle_part, take
from storage_worker.engine.records import BatchApplied, Record, UserSeen
from storage_worker.engine.sqlite.blocks import BlockLists
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.journal import Journal
from storage_worker.engine.sqlite.log_epochs import next_log_epoch
from storage_worker.engine.sqlite.published_keys import Keys
from storage_worker.engine.sqlite.send_tokens import SentTokens
from storage_worker.engine.sqlite.slots import Slots, newest
from storage_worker.engine.sqlite.users import UserRegistry

log = logging.getLogger("storage_worker")

MOST_UNFLUSHED_BYTES: Final = 12 * 1024 * 1024
"""Of mail in memory, after which it goes to the database."""
MOST_UNFLUSHED_MESSAGES: Final = 40_000
"""Messages in memory, after which they go to the database: everybody waits meanwhile, and small
ones take their time by number."""
FLUSH_AFTER_MS: Final = 2000
"""How long the database stays behind while nothing much happens."""
WORTH_WAITING_BYTES: Final = 1024 * 1024
"""Of mail, up to which a transaction is synced at once; beyond it a checkpoint beside the
loop does it.
"""


MOST_IN_STEP: Final = 5_000
"""Messages, about, that a step takes in."""
BYTES_IN_STEP: Final = 1536 * 1024
"""The same of mail."""


class _Steps:
    """What is taken in by steps. `ends`: the users' rows at which those with mail end that are
    left; behind them comes one for the rest.
    """

    def __init__(
        self,
        log_epoch: bytes,
        mail: TakenMail,
        tokens: Mapping[int, Mapping[bytes, bytes]],
        slots: Sequence[SlotRow],
        ends: list[int],
    ) -> None:
        self.log_epoch = log_epoch
        self.mail = mail
        self.tokens = tokens
        self.slots = slots
        self.ends = ends
        self.moved = 0


class CommitLog:
    """Keeps the state of `queue`, `tokens`, `slots`, `users`, `blocks` and `keys`;
    `random_bytes(n)` gives random bytes. `reload` before anything else.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        random_bytes: Callable[[int], bytes],
        queue: MessageQueue,
        tokens: SentTokens,
        slots: Slots,
        users: UserRegistry,
        blocks: BlockLists,
        keys: Keys,
    ) -> None:
        self._database = database
        self._journal = journal
        self._random_bytes = random_bytes
        self._queue = queue
        self._tokens = tokens
        self._slots = slots
        self._users = users
        self._blocks = blocks
        self._keys = keys
        self._records: list[Record] = []
        self._waiting_since: int | None = None
        self._unrecorded: list[BatchApplied] = []
        """Numbers of batches that did nothing, which this process alone knows. They go
        with the next record.
        """
        self.is_stuck = False
        """Whether the database had no room for what the journal holds when it was last tried."""
        self.is_damaged = False
        self.flushes = 0
        """Whether that was for damage."""
        self._next_log_epoch = b""
        self._dead: list[int] = []
        self.synced_bytes = WORTH_WAITING_BYTES
        """Of mail that the database takes in, up to which it is synced at once."""
        self._both_needed = False
        """Whether the journal has two log epochs that the database may not have."""
        self._steps: _Steps | None = None
        self.most_in_step = MOST_IN_STEP

    def note(self, record: Record) -> None:
        """Something changed in this turn."""
        self._records.append(record)

    def reload(self) -> None:
        """Return memory to the state of the disk: the database, then the journal. Raises
        `StoreFailed`.
        """
        self._records.clear()
        self._steps = None
        parts = (self._blocks, self._keys, self._users, self._queue, self._tokens, self._slots)
        for part in parts:
            part.forget()
        log_epoch: bytes = self._database.row("SELECT era FROM store")[0]
        payloads = self._journal.replay(log_epoch)
        self._queue.moved_to = self._moved()
        for number, payload in enumerate(payloads):
            if number == self._journal.before_link:
                self._queue.moved_to = 0
            for record in decode_records(payload):
                for part in parts:
                    part.replay(record)
        self._queue.moved_to = 0
        self._both_needed = self._journal.linked
        if self._journal.torn_at is not None:
            log.warning(
                "%s ends at byte %d in a record that is not whole: a power cut leaves that, before the turn was "
                "acknowledged, or damage of the very last turn",
                self._journal.torn_file,
                self._journal.torn_at,
            )
        for record in self._unrecorded:
            self._slots.replay(record)
        self._queue.received.clear()
        # Since when nobody knows: it is due.
        self._waiting_since = -FLUSH_AFTER_MS if self._journal.used else None

    def recover(self, now_ms: int) -> None:
        """At a start: apply what the last worker's journal holds. Raises `StoreFailed`.

        If the database has no room for it, it stays in the journal, and is synced there.
        """
        self.reload()
        # Where an end came between steps, the database has to name another log epoch, or the
        # journal has to begin one: of the present one nothing that comes now would be applied to
        # all.
        if self.waits or self._moved():
            try:
                # What the journal has may be readable and not on disk, where the last worker's sync
                # failed.
                self.flush(now_ms, in_journal=False)
            except (StoreFull, StoreDamaged) as error:
                log.warning("the journal can't be flushed into the database, it is kept: %s", error)
                self.is_stuck = self.is_damaged = isinstance(error, StoreDamaged)
                self.reload()
                self._journal.sync_again()
                if self._moved() and not self._journal.linked:
                    self._begin_linked()

    def _begin_linked(self) -> None:
        log_epoch = next_log_epoch(self._journal.log_epoch, self._random_bytes)
        if not self._journal.link(log_epoch):
            raise StoreFull("the journal has no room")
        self._journal.begin(log_epoch, linked=True)
        self._both_needed = True

    def salvage(self, now_ms: int) -> tuple[int, int]:
        """Apply all intact records of a damaged journal; returns how many there were, and how many
        gaps between them.

        What follows a gap is applied except for batch numbers: their gateways have to greet, so the
        outcomes of those batches are unknown. Raises `StoreFailed` and `StoreFull`.
        """
        log_epoch: bytes = self._database.row("SELECT era FROM store")[0]
        runs = self._journal.salvage(log_epoch)
        self._journal.go_on_from(log_epoch)
        self._queue.moved_to = self._moved()
        done = 0
        for number, run in enumerate(runs):
            for payload in run:
                if done == self._journal.before_link:
                    self._queue.moved_to = 0
                done += 1
                for record in decode_records(payload):
                    if not number or type(record) is not BatchApplied:
                        for part in (self._blocks, self._keys, self._users, self._queue, self._tokens, self._slots):
                            part.replay(record)
        self._queue.moved_to = 0
        self.flush(now_ms, in_journal=False)
        return sum([len(run) for run in runs]), max(len(runs) - 1, 0)

    def _moved(self) -> int:
        """Up to which row the users' mailboxes have what the journal's first log epoch says."""
        found = self._database.find("SELECT user FROM moved")
        return 0 if found is None else int(found[0])

    # --- a turn
    # ----------------------------------------------------------------------------------------------

    def commit(self, now_ms: int, *, use_reserve: bool) -> None:
        """The turn is complete: commit it. Raises `StoreFailed` and `StoreFull`.

        `use_reserve`: the database may give up its ballast for it.
        """
        records = self._records
        if not records:
            return
        if self._unrecorded:
            records = [*self._unrecorded, *records]
        payload = encode_records(records)
        # That somebody was seen may be lost with the power.
        changes = any(type(record) not in {BatchApplied, UserSeen} for record in records)
        if not changes and self.is_stuck and self._journal.used * 8 >= self._journal.capacity * 7:
            # Nothing but the number of a batch that did nothing: a gateway that asks the next
            # worker for the one behind it has to greet again. What little room there may be is for
            # what makes room.
            self._unrecorded = newest([record for record in records if isinstance(record, BatchApplied)])
            self._records = []
            return
        if not self._journal.fits(payload):
            self.flush(now_ms, use_reserve=use_reserve)
            return
        try:
            self._journal.append(payload, sync=changes)
        except StoreFull:
            # The file has its room, but some file systems take a new place for every write.
            self.flush(now_ms, use_reserve=use_reserve)
            return
        if self._waiting_since is None:
            self._waiting_since = now_ms
        self._records = []
        self._unrecorded = []

    # --- into the database
    # -------------------------------------------------------------------------------------

    def is_due(self, now_ms: int) -> bool:
        """Whether the journal should be flushed into the database at the next opportunity."""
        since = self._waiting_since
        if self._steps is not None:
            return True
        if since is None:
            return False
        return (
            self._journal.used * 4 >= self._journal.capacity * 3
            or self._queue.unflushed_bytes >= MOST_UNFLUSHED_BYTES
            or self._queue.unflushed_messages >= MOST_UNFLUSHED_MESSAGES
            or self._queue.has_dead_bodies
            or self._users.has_news
            or self._keys.is_due
            or not 0 <= now_ms - since < FLUSH_AFTER_MS
        )

    @property
    def waits(self) -> bool:
        """Whether the journal has something that the database does not."""
        return self._waiting_since is not None or self._steps is not None

    @property
    def in_steps(self) -> bool:
        """Whether the database takes in what the journal has by steps, and the next one is due."""
        return self._steps is not None

    def flush_on(self, now_ms: int) -> None:
        """Between two turns: flush what the journal holds, or begin or go on to do so by steps.
        Raises as `flush`.
        """
        if self._steps is not None:
            self._step(self._steps, now_ms)
        elif not self._begin_steps(now_ms):
            self.flush(now_ms)

    def _begin_steps(self, now_ms: int) -> bool:
        """Whether that is worth it, and possible: what the database then does not have for good, or
        not at all, has to be in the journal, and steps write mail, tokens and slots alone.
        """
        if (
            self._records
            or self._unrecorded
            or self._queue.unflushed_bytes <= self.synced_bytes
            or not self._database.lasting
            or self._both_needed
            or self._queue.has_dead_bodies
            or not (self._users.is_written and self._blocks.is_written)
            or self._keys.unwritten
        ):
            return False
        log_epoch = next_log_epoch(self._journal.log_epoch, self._random_bytes)
        if not self._journal.link(log_epoch):
            return False
        self._journal.begin(log_epoch, linked=True)
        self._both_needed = True
        self._waiting_since = None
        messages, size = max(self._queue.unflushed_messages, 1), self._queue.unflushed_bytes
        mail = take(self._queue, now_ms)
        ends = mail.ends(max(min(self.most_in_step, BYTES_IN_STEP * messages // size), 1))
        self._steps = _Steps(log_epoch, mail, self._tokens.take(), self._slots.take(), ends)
        return True

    def _step(self, steps: _Steps, now_ms: int) -> None:
        end = steps.ends[0] if steps.ends else None
        part = None if end is None else steps.mail.part(steps.moved + 1, end)
        pages = self._queue.pages
        with self._database.reading():
            for interval in () if part is None else part.removed:
                pages.look_through(*interval)
            if part is None:
                self._tokens.look_through(now_ms)
        try:
            with self._database.transaction(synced=False):
                self._database.execute("DELETE FROM moved")
                if part is not None:
                    dead = part.write_mail(pages)
                    assert not dead, "a file that is deleted does not come back"
                    self._database.execute("INSERT INTO moved VALUES (?)", (end,))
                else:
                    steps.mail.write_rest(pages)
                    self._tokens.write_taken(steps.tokens, now_ms)
                    self._slots.write_taken(steps.slots)
                    self._database.execute("UPDATE store SET era = ?", (steps.log_epoch,))
                fail_points.reach(FailPoint.WORKER_FLUSHING)
        except (StoreFull, StoreDamaged):
            self._give_up_steps()
            raise
        fail_points.reach(FailPoint.WORKER_FLUSHED)
        self.flushes += 1
        if part is not None:
            steps.moved = steps.ends.pop(0)
            settle_part(self._queue, part)
            return
        self._steps = None
        self._both_needed = False
        settle(self._queue, [])
        self._tokens.written()
        self._slots.written()

    def _give_up_steps(self) -> None:
        """What they have not taken in is flushed with what came since."""
        if self._steps is not None:
            self._steps = None
            give_up(self._queue)
            if self._waiting_since is None:
                # Nothing came since they began, and the journal has what they have not taken in.
                self._waiting_since = -FLUSH_AFTER_MS

    def flush(self, now_ms: int, *, use_reserve: bool = False, in_journal: bool = True) -> None:
        """In a transaction of its own: flush what the journal holds, and this turn. Raises as
        `transaction`.

        `in_journal`: what the journal holds is on disk for sure.
        """
        self._give_up_steps()
        log_epoch = next_log_epoch(self._journal.log_epoch, self._random_bytes)
        # What is not in the journal has to be in the database for good. The journal can keep one
        # log epoch beside the present one. A file that is deleted does not come back.
        synced = (
            bool(self._records)
            or not in_journal
            or self._queue.unflushed_bytes <= self.synced_bytes
            or not self._database.lasting
            or self._both_needed
            or self._queue.has_dead_bodies
            or use_reserve
            or not self._journal.link(log_epoch)
        )
        with self._database.reading():
            self._queue.look_through()
            self._tokens.look_through(now_ms)
        with self._database.transaction(synced=synced):
            if use_reserve:
                self._database.drop_ballast()
            self._write(now_ms, log_epoch)
            fail_points.reach(FailPoint.WORKER_FLUSHING)
        fail_points.reach(FailPoint.WORKER_FLUSHED)
        self.written(synced=synced)
        self.flushes += 1

    def write(self, now_ms: int) -> None:
        """Inside a synced transaction: write everything that the database does not have."""
        self._give_up_steps()
        self._write(now_ms, next_log_epoch(self._journal.log_epoch, self._random_bytes))

    def _write(self, now_ms: int, log_epoch: bytes) -> None:
        self._dead = self._queue.write(now_ms)
        self._tokens.write(now_ms)
        self._slots.write()
        self._users.write()
        self._blocks.write()
        self._keys.write()
        self._next_log_epoch = log_epoch
        self._database.execute("DELETE FROM moved")
        self._database.execute("UPDATE store SET era = ?", (log_epoch,))

    def written(self, *, synced: bool = True) -> None:
        """That transaction is committed, and on disk if it was `synced`."""
        self._records = []
        self._unrecorded = []
        self._waiting_since = None
        self._journal.begin(self._next_log_epoch, linked=not synced)
        self._both_needed = False
        dead, self._dead = self._dead, []
        self._queue.written(dead)
        self._tokens.written()
        self._slots.written()
        self._users.written()
        self._blocks.written()
        self._keys.written()
