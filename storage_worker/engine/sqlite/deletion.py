"""What becomes of a deleted user's mail, tokens and files: gone, in steps, and then not even to be
found in the bytes of the data folder.

Owns: these steps. Promises: a step is short, whatever the user had; killed between any two, the
next start goes on. The audit log has every deletion at least once. When `Deletion.DONE` is told,
mail, keys, tokens and files are gone from the tables and the folder. After that, within
`ERASE_EVERY_MS` or at an orderly end, what is left of them in the journal's files and in SQLite's
log is overwritten. From the first deletion of a user on the database overwrites all that it
deletes, and once what it had deleted before. What the user had sent and others have not fetched is
the others': it stays until they do, with its sender's id.
Exposure: users choose when they go, and how much there is of them.

    `UserDeleted` in the journal, or the mark of `scripts/admin` in the table
      ──▶ all that the journal has is taken in: from here on nothing new comes of this user
      ──▶ `STEP` pages of mail at a time, then their files
      ──▶ one transaction: tokens, published keys, the user, and in place of the id its SHA-256
      ──▶ the first time: the pages that were free already, `FREE_BYTES` at a time
      ──▶ the journal's files are overwritten, SQLite's log is cut

Source: docs/storage-engine.md, "Deleting a user"; docs/decisions/0019-deleting-a-user.md.
"""

import logging
from typing import Final

from common import fail_points
from common.fail_points import FailPoint
from common.server_log import audit_deletion
from storage_worker.engine.errors import StoreDamaged, StoreFull
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.sqlite.blobs import Blobs
from storage_worker.engine.sqlite.commit_log import CommitLog
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.journal import Journal
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.published_keys import Keys
from storage_worker.engine.sqlite.slots import Slots
from storage_worker.engine.sqlite.users import UserRegistry

log = logging.getLogger("storage_worker")

STEP: Final = 32
"""Pages of mail, of 64 KiB, that one step deletes."""
FREE_BYTES: Final = 2 * 1024 * 1024
"""Of free pages, that one step overwrites."""
FREE_PIECES: Final = 8
"""Of so many bytes, that one step lets go again."""
ERASE_EVERY_MS: Final = 5_000
"""What overwrites the journal's files holds up everybody for a moment; who deletes one account
after the other must not do that all the time."""
_TRY_AGAIN_MS: Final = 1_000


class DeletedUsers:
    """Those of whom something is left. `log_of_turns` is reloaded before this is made."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        blobs: Blobs,
        log_of_turns: CommitLog,
        queue: MessageQueue,
        slots: Slots,
        users: UserRegistry,
        keys: Keys,
    ) -> None:
        self._database = database
        self._journal = journal
        self._blobs = blobs
        self._log = log_of_turns
        self._queue = queue
        self._slots = slots
        self._users = users
        self._keys = keys
        self._pages = MailPages(database)
        self._settled: set[int] = set()
        """Rows of users of whom the journal has nothing."""
        self._not_before = 0
        self._erased_at: int | None = None
        self._rows: list[int] = []
        self._unerased = False
        self._lacks_room = False
        self._overwrites = False
        self._free_is_taken = False
        self._free_is_clean = False
        self.look_again()

    def look_again(self) -> None:
        """The table may have changed: it got a mark of the journal's, or one of an operator's."""
        self._users.has_deleted = False
        self._rows = self._users.deleted_rows()
        self._settled &= set(self._rows)
        self._unerased = self._database.find("SELECT 1 FROM deleted_user WHERE NOT erased LIMIT 1") is not None
        if not self._overwrites and (self._rows or self._unerased):
            self._begin_overwriting()

    def _begin_overwriting(self) -> None:
        # Who never loses a user does not pay for it: to overwrite whole pages is to write them.
        self._database.overwrite_deleted(always=True)
        self._overwrites = True
        self._free_is_clean = self._database.find("SELECT 1 FROM deleted_user WHERE erased LIMIT 1") is not None

    @property
    def has_waiting(self) -> bool:
        """Whether `work` will have something to do before long."""
        return self._users.has_deleted or self._unerased or any(row not in self._users.held_up for row in self._rows)

    @property
    def is_busy(self) -> bool:
        """Whether somebody has mail or files that the next step could delete at once."""
        return not self._lacks_room and any(row not in self._users.held_up for row in self._rows)

    def work(self, now_ms: int) -> None:
        """One step, where one is due. Raises `StoreFailed`."""
        if self._users.has_deleted:
            self.look_again()
        if not self.has_waiting or 0 <= self._not_before - now_ms <= _TRY_AGAIN_MS:
            return
        row = next((row for row in self._rows if row not in self._users.held_up), None)
        try:
            if row is not None:
                self._step(row, now_ms)
            elif not self._free_is_clean:
                self._overwrite_free()
            elif self._erased_at is None or not 0 <= now_ms - self._erased_at < ERASE_EVERY_MS:
                self._erase(now_ms)
            self._lacks_room = False
        except StoreDamaged as error:
            if row is None:
                raise
            log.error("what a deleted user had can't be deleted: %s", error)
            self._users.held_up.add(row)
        except StoreFull as error:
            log.debug("no room for a step of a deletion: %s", error)
            self._lacks_room = True
            self._not_before = now_ms + _TRY_AGAIN_MS

    def _step(self, row: int, now_ms: int) -> None:
        if row not in self._settled:
            if self._log.waits:
                self._log.flush(now_ms)
            self._settled.add(row)
        with self._database.transaction():
            pages = self._pages.some(row, STEP)
            for page in pages:
                self._pages.drop(page.row)
            client_id = self._finish(row, now_ms) if len(pages) < STEP else None
            if client_id is not None:
                # Afterwards nobody knows the id any more. So the line comes again where this
                # transaction fails, or the process is killed here, and is never left out.
                audit_deletion(client_id)
            fail_points.reach(FailPoint.DELETION_STEP)
        fail_points.reach(FailPoint.DELETION_STEPPED)
        self._queue.forget_mailbox(row)
        for page in pages:
            if page.blob_id is not None:
                self._blobs.remove(page.blob_id)
        if client_id is not None:
            self._log.written()
            self.look_again()

    def _finish(self, row: int, now_ms: int) -> bytes:
        self._database.execute("DELETE FROM token_page WHERE sender = ?", (row,))
        bundle = self._keys.forget_user(row)
        client_id = self._users.forget_deleted(row)
        self._slots.forget_answers_with(client_id)
        if bundle:
            self._slots.forget_answers_with(bundle)
        # The journal has no answers with the id in it then, of which the slots would be made anew.
        self._log.write(now_ms)
        return client_id

    def _overwrite_free(self) -> None:
        """A step: all free pages are taken, and so overwritten, then given back."""
        if not self._free_is_taken:
            with self._database.transaction():
                self._free_is_taken = not self._database.take_free(FREE_BYTES)
            return
        # What is given back is zeros.
        self._database.overwrite_deleted(always=False)
        try:
            with self._database.transaction():
                self._free_is_clean = self._database.give_free_back(FREE_PIECES)
        finally:
            self._database.overwrite_deleted(always=True)

    def _erase(self, now_ms: int) -> None:
        """Overwrite what the journal's files and SQLite's log have of users who are gone."""
        if self._log.is_stuck:
            return
        # From now on nothing that they have is needed.
        self._log.flush(now_ms, in_journal=False)
        self._journal.erase()
        fail_points.reach(FailPoint.DELETION_ERASED)
        if not self._database.checkpoint(truncate=True, waits=False):
            # Another checkpoint is at work, or somebody reads.
            self._not_before = now_ms + _TRY_AGAIN_MS
            return
        with self._database.transaction():
            self._database.execute("UPDATE deleted_user SET erased = 1 WHERE NOT erased")
        self._erased_at = now_ms
        self._unerased = False

    def close(self, now_ms: int) -> None:
        """An orderly end: who is gone is not to be found in the folder. Raises `StoreFailed`."""
        if self._unerased:
            try:
                while not self._free_is_clean:
                    self._overwrite_free()
                self._erase(now_ms)
            except (StoreFull, StoreDamaged) as error:
                log.warning("what the journal has of deleted users is overwritten at the next start: %s", error)
