"""The engine over PostgreSQL: one worker, one shard, a turn is one row of a journal.

Owns: how the parts of this package make an `Engine`. Promises: as storage_worker.engine.interface
says. A turn with a registration or an invitation is a transaction that changes tables and appends
the turn, every other is one statement. Where the server goes away, or another worker takes the
shard over, the worker ends: what was not acknowledged is unknown, and its gateways ask the next
one.
Exposure: none of its own.

Source: docs/storage-engine.md, "PostgreSQL".
"""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

from common.storage_protocol.message_format import SEND_FRAME, SEND_ONCE_FRAME
from common.storage_protocol.operations import MessagesStored, StoreMessages, StoreMessagesOnce
from storage_worker.engine.errors import DirectoryUnreachable, StorageError, StoreDamaged, StoreFull
from storage_worker.engine.interface import RunRules
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.paged.once_runs import accept_once
from storage_worker.engine.postgres.blobs import Blobs
from storage_worker.engine.postgres.blocks import BlockLists
from storage_worker.engine.postgres.commit_log import CommitLog, Part
from storage_worker.engine.postgres.database import Database, Opened
from storage_worker.engine.postgres.deletion import DeletedUsers
from storage_worker.engine.postgres.directory import Directory
from storage_worker.engine.postgres.flusher import Flusher
from storage_worker.engine.postgres.invitations import Invitations
from storage_worker.engine.postgres.mail_pages import MailPages
from storage_worker.engine.postgres.published_keys import Keys
from storage_worker.engine.postgres.remote_users import RemoteUsers
from storage_worker.engine.postgres.running_time import RunningTime
from storage_worker.engine.postgres.schema import Place
from storage_worker.engine.postgres.send_tokens import SentTokens
from storage_worker.engine.postgres.slots import Slots
from storage_worker.engine.postgres.users import UserRegistry
from storage_worker.engine.records import (
    Decided,
    InvitationMade,
    InvitationRevoked,
    InvitationUsed,
    MailRemoved,
    MessagesAccepted,
    MessagesAcceptedOnce,
    RunningNoted,
    UserRegistered,
)
from storage_worker.engine.values import Admission, BackupState, Capacity, Grants, Identity, MailboxStats, Totals

log = logging.getLogger("storage_worker")

LOOK_EVERY_MS: Final = 1000
"""After the server had no room: when it is tried again."""
_NO_LIMIT: Final = 2**62
"""How much room the server has is the operator's to watch."""
_OF_INVITATIONS: Final = (InvitationMade, InvitationUsed, InvitationRevoked)
_LOST_NAMED: Final = 20
"""Lines in the log about large messages whose contents are lost; beyond them their number."""


class Shared(NamedTuple):
    """A shard among others. `directory`: of a shard beside it, how it asks the directory."""

    place: Place = Place(0, 1)
    directory: Directory | None = None


ALONE: Final = Shared()


class PostgresEngine:
    """An `Engine` over a shard that was taken over: `database` is for the turns, `pieces` for large
    contents, `flusher` for what goes into the tables beside the turns, on three connections under
    one epoch. Raises `StoreFailed`.

    `random_bytes(n)` gives n random bytes.
    """

    def __init__(
        self,
        database: Database,
        pieces: Database,
        flusher: Flusher,
        opened: Opened,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
        shared: Shared = ALONE,
    ) -> None:
        self._database = database
        self._pieces = pieces
        self._flusher = flusher
        self._random_bytes = random_bytes
        self._starts = opened.starts
        self._full_at: int | None = None
        self.grants = Grants(sole_owner=True)
        self._directory = shared.directory
        self.identity = Identity(opened.server_id, opened.generation, *shared.place)
        self._pages = MailPages(database)
        self.blobs = Blobs(pieces)
        self.blocks = BlockLists(database)
        self.users: UserRegistry | RemoteUsers
        if shared.directory is None:
            self.keys = Keys(database, opened.generation)
            self.users = UserRegistry(database, self.blocks, self.keys, shared.place.shards)
        else:
            state = shared.directory.state()
            self.identity = Identity(opened.server_id, state.generation, *shared.place)
            self.keys = Keys(database, state.generation)
            self.users = RemoteUsers(database, shared.directory, self.blocks, self.keys, shared.place.number, state)
        self.invitations = Invitations(database)
        self.running_time = RunningTime(database)
        self.mailboxes = MessageQueue(self._pages, self.blobs, self.users)
        self.tokens = SentTokens(database, self.users)
        self.slots = Slots(database)
        before, after = (self.blocks, self.keys, self.users), (self.tokens, self.slots)
        self._parts: tuple[Part, ...] = (*before, self.mailboxes, *after)
        self.log = CommitLog(
            database,
            flusher,
            self.mailboxes,
            self._pages,
            before,
            after,
            lambda: self.users.has_news or self.keys.is_due,
        )
        self.log.reload()
        self._drop_lost(now_ms)
        self._flush(now_ms)
        self._deleted = DeletedUsers(
            database,
            self.blobs,
            self.log,
            self.mailboxes,
            self._pages,
            self.slots,
            self.users,
            self.keys,
            is_audited=shared.directory is None,
        )

    def _drop_lost(self, now_ms: int) -> None:
        lost, removed = self.mailboxes.match_files()
        for record in removed:
            self.apply(record)
        if lost:
            for line in lost[:_LOST_NAMED]:
                log.error("%s", line)
            log.error("large messages that are lost with their contents: %d", len(lost))
            self.log.commit(now_ms)

    # --- a turn
    # ----------------------------------------------------------------------------------------------

    def prepare(self, now_ms: int, messages: int, uploaded: int) -> Capacity:
        """Everything, until the server had no room a moment ago."""
        if self._full_at is not None and not 0 <= now_ms - self._full_at < LOOK_EVERY_MS:
            self._full_at = None
        has_room = self._full_at is None and not self.log.is_stuck
        return Capacity(Admission.OPEN if has_room else Admission.NO_MAIL, _NO_LIMIT, is_damaged=False)

    @contextmanager
    def turn(self, now_ms: int, level: Admission, *, registers: bool) -> Generator[None]:
        """Begin a turn; its end commits."""
        # Where the server found no room nothing is begun that would have to be in its tables.
        with self._database.transaction() if registers and level is not Admission.NOTHING else nullcontext():
            yield
            if self.users.has_shared_news:
                # A flush that is under way may have locked the same rows.
                self.log.settle(wait=True)
                with self._database.joined():
                    self.users.publish()
                    self.log.commit(now_ms)
            else:
                self.log.commit(now_ms)
        self.mailboxes.committed()

    def apply(self, decided: Decided) -> None:
        """The reads of this turn see it, and the end of the turn commits it."""
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
            for part in self._parts:
                part.replay(decided)
            self.log.note(decided)

    def accept_run(self, run: StoreMessages | StoreMessagesOnce, rules: RunRules) -> tuple[MessagesStored, int]:
        """Decide, number and apply a run of messages, and the bytes that came in."""
        record: MessagesAccepted | MessagesAcceptedOnce | None
        self._expect(run)
        try:
            if isinstance(run, StoreMessagesOnce):
                outcome, record = accept_once(self.mailboxes, self.users, self.tokens, run, rules)
            else:
                outcome, record = self.mailboxes.accept_run(run, rules, self._random_bytes)
        finally:
            self._pages.expect([])
        if record is None:
            return outcome, 0
        self.log.note(record)
        return outcome, len(run.frames)

    def _expect(self, run: StoreMessages | StoreMessagesOnce) -> None:
        """Look up whoever is in a run and not in memory, with two statements for all of them."""
        frames = run.frames
        layout = SEND_ONCE_FRAME if isinstance(run, StoreMessagesOnce) else SEND_FRAME
        known, boxes = self.users.known, self.mailboxes.boxes
        unknown: set[bytes] = set()
        recipients: set[bytes] = set()
        at, end = 0, len(frames)
        while at + layout.size <= end:
            sender, *_token, recipient, _kind, size = layout.unpack_from(frames, at)
            at += layout.size + size
            user = known.get(recipient)
            if user is None or user.row not in boxes:
                recipients.add(recipient)
                unknown.add(recipient)
            if sender not in known:
                unknown.add(sender)
        if unknown:
            self.users.expect(unknown)
            rows = {user.row for recipient in recipients if (user := known.get(recipient)) is not None}
            self._pages.expect(sorted(rows - boxes.keys()))

    def roll_back(self) -> None:
        """A turn was undone: be as the tables are."""
        self.log.reload()

    def take_received(self) -> Sequence[int]:
        """The rows of users for whom turns brought mail since this was asked last."""
        received = [box.user for box in self.mailboxes.received]
        self.mailboxes.received.clear()
        return received

    def accepted(self, content_bytes: int) -> None:
        """A turn was committed in which so much came in."""

    def found_full(self, now_ms: int) -> None:
        """The server had no room for a turn."""
        if self._full_at is None:
            log.warning("PostgreSQL has no room: new mail is refused, fetching and deleting continue")
        self._full_at = now_ms

    # --- errors
    # ----------------------------------------------------------------------------------------------

    def damage(self, error: BaseException) -> str | None:
        """What is altered, where an exception says that something is."""
        return str(error) if isinstance(error, StoreDamaged) else None

    def refuse_undone(self, error: BaseException) -> None:
        """No read undoes a turn."""

    def is_failure(self, error: BaseException) -> bool:
        """Whether an exception is the store's failure: no bug, no damage."""
        return isinstance(error, StorageError) and not isinstance(error, StoreDamaged | DirectoryUnreachable)

    # --- between turns
    # ----------------------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[None]:
        """Nothing is to be translated."""
        return nullcontext()

    def begin_backup(self, folder: Path, now_ms: int) -> str | None:
        """PostgreSQL's tools do that."""
        return (
            "the store is in PostgreSQL, whose own tools back it up while it is served: pg_dump, or a base backup "
            "with its log"
        )

    @property
    def backup(self) -> BackupState:
        """None is ever made here."""
        return BackupState()

    def load(self) -> tuple[int, MailboxStats]:
        """How many users there are, and what is pending in all."""
        _mailboxes, messages, content_bytes = self.mailboxes.load()
        return self.users.count(self.users.last_row()), MailboxStats(messages, content_bytes)

    def totals(self) -> Totals:
        """The store in a few numbers, with what the journal holds. Reads the index of all mail."""
        return Totals(
            self.users.count(self.users.last_row()),
            self.users.authenticated(),
            *self.mailboxes.load(),
            self.mailboxes.accepted,
            accepted_exactly=True,
            unused_bytes=0,
            starts=self._starts,
            **dict(zip(("with_keys", "one_time_keys"), self.keys.totals(), strict=True)),
        )

    @property
    def has_pending(self) -> bool:
        """Whether the journal holds something, a deletion goes on, or the directory has to be
        looked at now and then.
        """
        return self.log.waits or self._deleted.has_waiting or self._directory is not None

    @property
    def is_busy(self) -> bool:
        """Whether a flush is to be committed soon, or what a deleted user had goes now, step by
        step.
        """
        return self.log.is_flushing or (self._deleted.is_busy and self._full_at is None and not self.log.is_stuck)

    def look_again(self) -> None:
        """An operator's command has changed tables: see it with the next turn."""
        self.users.look_again()

    def take_departed(self, now_ms: int) -> Sequence[tuple[int, bytes]]:
        """Who was deleted at the directory, or by an operator's command."""
        return self.users.take_departed(now_ms)

    def maintain(self, now_ms: int) -> None:
        """Let the tables take in what the journal holds where that is due; go on with deletions."""
        stuck_for_now = self.log.is_stuck and self._full_at is not None and 0 <= now_ms - self._full_at < LOOK_EVERY_MS
        if stuck_for_now:
            return
        try:
            self.log.settle(wait=self.log.is_behind)
            if not self.log.is_flushing and self.log.is_due(now_ms):
                self.log.begin_flush(now_ms)
                self.log.settle(wait=False)
        except StoreFull:
            # It stays in the journal, and new mail is refused until the tables have it.
            self.found_full(now_ms)
        if not self.log.is_stuck:
            try:
                self._deleted.work(now_ms)
            except StoreFull as error:
                log.debug("no room for a step of a deletion: %s", error)
                self.found_full(now_ms)

    def _flush(self, now_ms: int) -> None:
        try:
            self.log.flush(now_ms)
        except StoreFull:
            self.found_full(now_ms)

    def close(self, now_ms: int) -> None:
        """Let the tables take in what the journal holds, and let go of the server. Where it has no
        room the journal keeps it for the next start.
        """
        self._flush(now_ms)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the server as a process does that ends."""
        self._flusher.close()
        self._pieces.close()
        self._database.close()
        if self._directory is not None:
            self._directory.close()
