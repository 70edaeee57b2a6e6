"""The embedded engine: one worker, a journal in front of SQLite, large contents in files.

Owns: how the parts of this package make an `Engine`. Promises: those of
storage_worker.engine.interface. A turn with a registration is a transaction of the database, any
other a record of the journal.
Exposure: none of its own.

Source: docs/storage-engine.md.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from common.rare_log import RareLog
from common.storage_protocol.operations import MessagesStored, StoreMessages, StoreMessagesOnce
from storage_worker.engine.errors import StorageError, StoreDamaged, StoreFull
from storage_worker.engine.interface import RunRules
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.paged.once_runs import accept_once
from storage_worker.engine.records import (
    BatchApplied,
    Decided,
    InvitationMade,
    InvitationRevoked,
    InvitationUsed,
    KeysPublished,
    MailRemoved,
    MessageAccepted,
    MessagesAccepted,
    MessagesAcceptedOnce,
    OneTimeKeyClaimed,
    RunningNoted,
    SenderBlocked,
    SequenceUsed,
    SlotTaken,
    TokenUsed,
    UserAuthenticated,
    UserDeleted,
    UserDisabled,
    UserRegistered,
    UserSeen,
)
from storage_worker.engine.sqlite.blobs import Blobs
from storage_worker.engine.sqlite.blocks import BlockLists
from storage_worker.engine.sqlite.commit_log import CommitLog
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.deletion import DeletedUsers
from storage_worker.engine.sqlite.disk_space import LOOK_EVERY_MS, DiskSpaceMonitor
from storage_worker.engine.sqlite.invitations import Invitations
from storage_worker.engine.sqlite.journal import Journal
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.maintenance import Upkeep
from storage_worker.engine.sqlite.online_backup import OnlineBackup
from storage_worker.engine.sqlite.published_keys import Keys
from storage_worker.engine.sqlite.running_time import RunningTime
from storage_worker.engine.sqlite.send_tokens import SentTokens
from storage_worker.engine.sqlite.slots import Slots
from storage_worker.engine.sqlite.sqlite_errors import damage_message, is_damage, is_store_error
from storage_worker.engine.sqlite.store_identity import (
    SequenceReservation,
    StoreIdentity,
    StoreIdentityFile,
    accepted,
    note_marks,
    record_clean_shutdown,
)
from storage_worker.engine.sqlite.users import UserRegistry
from storage_worker.engine.values import Admission, BackupState, Capacity, Grants, Identity, Totals

log = logging.getLogger("storage_worker")
rarely: Final = RareLog(log)

_OF_INVITATIONS: Final = (InvitationMade, InvitationUsed, InvitationRevoked)
_LOST_NAMED: Final = 20
"""Lines in the log about large messages whose files are lost; beyond them their number."""


class SqliteEngine:
    """An `Engine` over an open store, which it recovers. Raises `StoreFailed`.

    `random_bytes(n)` gives n random bytes.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        blobs: Blobs,
        file: StoreIdentityFile,
        identity: StoreIdentity,
        room: DiskSpaceMonitor,
        upkeep: Upkeep,
        backups: OnlineBackup,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
    ) -> None:
        self._database = database
        self._journal = journal
        self._file = file
        self._room = room
        self._upkeep = upkeep
        self._backups = backups
        self._random_bytes = random_bytes
        self._reservation = SequenceReservation(database, file)
        self._data_version = -1
        self._stuck_at = 0
        self._starts = identity.starts
        self.grants = Grants(sole_owner=True)
        self.identity = Identity(identity.server_id, identity.generation)
        self.blobs = blobs
        with database.reading():
            self.blocks = BlockLists(database)
            self.keys = Keys(database, identity.generation)
            self.users = UserRegistry(database, self.blocks, self.keys)
            self.invitations = Invitations(database)
            self.running_time = RunningTime(database)
            self.mailboxes = MessageQueue(MailPages(database), blobs, self.users)
            self.tokens = SentTokens(database, self.users)
            self.slots = Slots(database)
        self.log = CommitLog(
            database, journal, random_bytes, self.mailboxes, self.tokens, self.slots, self.users, self.blocks, self.keys
        )
        self._appliers: dict[type, Callable[[Any], object]] = {
            MessageAccepted: self.mailboxes.accept,
            TokenUsed: self.tokens.add,
            SlotTaken: self.slots.replay,
            BatchApplied: self.slots.replay,
            UserAuthenticated: self.users.authenticate,
            UserDeleted: self.users.delete,
            UserSeen: self.users.saw,
            UserDisabled: self.users.disable,
            SequenceUsed: self.mailboxes.use_up,
            SenderBlocked: self._block,
            KeysPublished: self._publish,
            OneTimeKeyClaimed: self.keys.replay,
        }
        with database.reading():
            self.log.recover(now_ms)
            self._drop_lost(now_ms)
            self._deleted = DeletedUsers(
                database, journal, blobs, self.log, self.mailboxes, self.slots, self.users, self.keys
            )

    def _drop_lost(self, now_ms: int) -> None:
        lost, removed = self.mailboxes.match_files()
        for record in removed:
            self.apply(record)
        if lost:
            for line in lost[:_LOST_NAMED]:
                log.error("%s", line)
            log.error("large messages that are lost with their files: %d", len(lost))
            self.log.commit(now_ms, use_reserve=True)

    def mark_journal(self, length: int) -> None:
        """After a start: mark the journal's files, of `length` bytes, if they hold nothing."""
        if not self.log.waits:
            note_marks(self._database, self._journal, length)

    # --- a turn
    # ----------------------------------------------------------------------------------------------

    def prepare(self, now_ms: int, messages: int, uploaded: int) -> Capacity:
        """Prepare a turn that may accept this many messages; returns what there is room for."""
        has_room = self._room.allows_mail(now_ms, uploaded)
        level = Admission.OPEN if has_room and not self.log.is_stuck else Admission.NO_MAIL
        is_damaged = self.log.is_damaged
        try:
            self._reservation.ensure(self.mailboxes.sequence + messages)
        except StoreFull:
            level = Admission.NOTHING
            self._room.found_full(now_ms)
        return Capacity(level, self._room.for_uploads, is_damaged)

    @contextmanager
    def turn(self, now_ms: int, level: Admission, *, registers: bool) -> Generator[None]:
        """Begin a turn; its end commits."""
        # Where SQLite found no room nothing is begun that would have to be in its tables.
        if registers and level is not Admission.NOTHING:
            with self._database.transaction():
                self._look_for_changes()
                yield
                self.log.write(now_ms)
            self.log.written()
        else:
            with self._database.reading():
                self._look_for_changes()
                yield
                self.log.commit(now_ms, use_reserve=level is Admission.NOTHING)
        self.mailboxes.committed()

    def _look_for_changes(self) -> None:
        version = self._database.data_version()
        if version != self._data_version:
            # An admin command changed the database: what is remembered of users may be wrong.
            self._data_version = version
            self.keys.look_again()
            self.users.look_again()
            self._deleted.look_again()

    def apply(self, decided: Decided) -> None:
        """Apply a record: the reads of this turn see it, and the end of the turn commits it."""
        if isinstance(decided, UserRegistered):
            self.users.register(decided)
        elif isinstance(decided, _OF_INVITATIONS):
            self.invitations.apply(decided)
        elif isinstance(decided, RunningNoted):
            self.running_time.apply(decided)
        elif isinstance(decided, MailRemoved):
            if self.mailboxes.remove(decided):
                self.log.note(decided)
        else:
            self._appliers[type(decided)](decided)
            self.log.note(decided)

    def _block(self, record: SenderBlocked) -> None:
        self.blocks.replay(record)
        self.users.blocks_somebody(record)

    def _publish(self, record: KeysPublished) -> None:
        self.keys.replay(record)
        self.users.has_published(record)

    def accept_run(self, run: StoreMessages | StoreMessagesOnce, rules: RunRules) -> tuple[MessagesStored, int]:
        """Decide, number and apply a run of messages; also returns the bytes accepted."""
        record: MessagesAccepted | MessagesAcceptedOnce | None
        if isinstance(run, StoreMessagesOnce):
            outcome, record = accept_once(self.mailboxes, self.users, self.tokens, run, rules)
        else:
            outcome, record = self.mailboxes.accept_run(run, rules, self._random_bytes)
        if record is None:
            return outcome, 0
        self.log.note(record)
        return outcome, len(run.frames)

    def roll_back(self) -> None:
        """A turn was undone: return to the state of the disk."""
        with self._database.reading():
            self.log.reload()

    def take_received(self) -> Sequence[int]:
        """The rows of users who got mail in turns since the last call."""
        received = [box.user for box in self.mailboxes.received]
        self.mailboxes.received.clear()
        return received

    def accepted(self, content_bytes: int) -> None:
        """A turn was committed that accepted this many bytes of content."""
        self._room.accepted(content_bytes)

    def found_full(self, now_ms: int) -> None:
        """SQLite had no room for a turn."""
        self._room.found_full(now_ms)

    # --- errors
    # ----------------------------------------------------------------------------------------------

    def damage(self, error: BaseException) -> str | None:
        """What is damaged, if an exception says that something is."""
        return damage_message(error) if is_damage(error) else None

    def refuse_undone(self, error: BaseException) -> None:
        """Raise `TablesDamaged` if SQLite has undone the transaction."""
        self._database.refuse_undone(error)

    def is_failure(self, error: BaseException) -> bool:
        """Whether an exception is a failure of the store, rather than a bug or damage."""
        if is_damage(error):
            return False
        return isinstance(error, StorageError) or is_store_error(error)

    # --- between turns
    # ----------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Generator[None]:
        """Around reads between turns. What an admin command has changed is seen."""
        with self._database.reading():
            self._look_for_changes()
            yield

    def totals(self) -> Totals:
        """Totals of the store, including what the journal holds. Reads the index of all mail."""
        return Totals(
            self.users.count(self.users.last_row()),
            self.users.authenticated(),
            *self.mailboxes.load(),
            self.mailboxes.accepted,
            accepted(self._database).exact,
            self._database.unused_bytes(),
            self._starts,
            *self.keys.totals(),
        )

    @property
    def has_pending(self) -> bool:
        """Whether the journal holds something, or a checkpoint, a deletion or a backup is due or
        running.
        """
        return self.log.waits or self._upkeep.has_waiting or self._deleted.has_waiting or self._backups.has_waiting

    @property
    def is_busy(self) -> bool:
        """Whether what a deleted user had goes now, step by step."""
        return (self._deleted.is_busy or self.log.in_steps) and not self.log.is_stuck

    def look_again(self) -> None:
        """Every turn looks."""

    def take_departed(self, now_ms: int) -> Sequence[tuple[int, bytes]]:
        """Nobody else deletes users."""
        return []

    def maintain(self, now_ms: int) -> None:
        """Flush the journal into the database if that is due; make checkpoints; continue
        deletions.
        """
        self._flush_where_due(now_ms)
        if not self.log.is_stuck:
            self._deleted.work(now_ms)
        self._upkeep.work(now_ms)
        self._backups.work()

    def begin_backup(self, folder: Path, now_ms: int) -> str | None:
        """Begin to copy the store into a folder; returns why that is not possible, or None."""
        return self._backups.begin(folder, lambda: not self.log.waits or self._flush(now_ms), now_ms)

    @property
    def backup(self) -> BackupState:
        """The current or last backup."""
        return self._backups.state

    def _flush_where_due(self, now_ms: int) -> None:
        if self.log.is_due(now_ms) and not (self.log.is_stuck and 0 <= now_ms - self._stuck_at < LOOK_EVERY_MS):
            # A copy has all of it or nothing: no journal goes with it that would say the rest.
            self._flush(now_ms, in_steps=not self._backups.has_waiting)

    def _flush(self, now_ms: int, *, in_steps: bool = False) -> bool:
        """Flush the journal into the database, or do a step of that; returns whether it was
        possible.
        """
        try:
            if in_steps:
                self.log.flush_on(now_ms)
            else:
                self.log.flush(now_ms)
            self.log.is_stuck = self.log.is_damaged = False
        except (StoreFull, StoreDamaged) as error:
            if isinstance(error, StoreDamaged):
                rarely.write(
                    logging.ERROR, "the journal can't be flushed into the database, new mail is refused: %s", error
                )
            # It stays in the journal, which has room for what makes room: fetching and deleting.
            self.log.is_stuck = True
            self.log.is_damaged = isinstance(error, StoreDamaged)
            self._stuck_at = now_ms
            self._room.found_full(now_ms)
        return not self.log.is_stuck

    def close(self, now_ms: int) -> None:
        """Flush the journal into the database, and close it. If there is no room, the journal keeps
        it for the next start.
        """
        self._backups.close()
        self._upkeep.close(now_ms)
        if self._take_in(now_ms):
            self._deleted.close(now_ms)
            record_clean_shutdown(self._database, self._file)
        self._database.close()

    def _take_in(self, now_ms: int) -> bool:
        try:
            if self.log.waits:
                self.log.flush(now_ms)
        except (StoreFull, StoreDamaged) as error:
            log.warning("the journal can't be flushed into the database, it is kept: %s", error)
            return False
        return True
