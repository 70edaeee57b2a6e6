"""What becomes of a deleted user's mail, tokens and contents: gone, in steps.

Owns: these steps. Promises: a step is short, whatever the user had; killed between any two, the
next start goes on. The audit log has every deletion at least once. When `Deletion.DONE` is told,
mail, keys, tokens and contents are gone from the tables. PostgreSQL keeps deleted rows in its files
until a vacuum, and in its log and its backups for as long as the operator keeps these.
Exposure: users choose when they go, and how much there is of them.

    `UserDeleted` in the journal
      ──▶ all that the journal has is taken in: from here on nothing new comes of this user
      ──▶ `STEP` pages of mail at a time, then their contents
      ──▶ one transaction: tokens, the user, and in place of the id its SHA-256
"""

from typing import Final

from common import fail_points
from common.fail_points import FailPoint
from common.server_log import audit_deletion
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blobs import Blobs
from storage_worker.engine.postgres.commit_log import CommitLog
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.mail_pages import MailPages
from storage_worker.engine.postgres.slots import Slots
from storage_worker.engine.postgres.users import UserRegistry

STEP: Final = 256
"""Pages of mail, of 8 KiB, that one step deletes."""


class DeletedUsers:
    """Those of whom something is left. `log_of_turns` is reloaded before this is made."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        log_of_turns: CommitLog,
        queue: MessageQueue,
        pages: MailPages,
        slots: Slots,
        users: UserRegistry,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._log = log_of_turns
        self._queue = queue
        self._pages = pages
        self._slots = slots
        self._users = users
        self._rows = users.deleted_rows()

    @property
    def has_waiting(self) -> bool:
        """Whether `work` will have something to do."""
        return bool(self._rows) or self._users.has_deleted

    def work(self, now_ms: int) -> None:
        """One step. Raises as `Database.transaction`."""
        if self._users.has_deleted:
            self._users.has_deleted = False
            self._rows = self._users.deleted_rows()
        if not self._rows:
            return
        row = self._rows[0]
        if self._log.waits:
            self._log.flush(now_ms)
        client_id, dead = None, list[int]()
        with self._database.transaction():
            deleted = self._pages.delete_some(row, STEP)
            if len(deleted) < STEP:
                self._database.change(statements.FORGET_TOKENS, row)
                client_id = self._users.forget_deleted(row)
                self._slots.forget_answers_with(client_id)
                dead = self._log.write(now_ms)
                # Afterwards nobody knows the id any more. So the line comes again where this
                # transaction fails, or the process is killed here, and is never left out.
                audit_deletion(client_id)
            fail_points.reach(FailPoint.DELETION_STEP)
        fail_points.reach(FailPoint.DELETION_STEPPED)
        for blob_id in deleted:
            if blob_id is not None:
                self._blobs.remove(blob_id)
        if client_id is not None:
            self._log.written(dead)
            self._queue.forget_mailbox(row)
            del self._rows[0]
