"""What becomes of a deleted user's mail, tokens and contents: gone, in steps.

Owns: these steps. Promises: a step is short, whatever the user had; killed between any two, the
next start goes on. The audit log has every deletion at least once. When `Deletion.DONE` is told,
mail, keys, tokens and contents are gone from the tables. PostgreSQL keeps deleted rows in its files
until a vacuum, and in its log and its backups for as long as the operator keeps these.
Exposure: users choose when they go, and how much there is of them.

    `UserDeleted` in the journal
      ──▶ all that the journal has is taken in: from here on nothing new comes of this user
      ──▶ `STEP` pages of mail at a time, then their contents
      ──▶ of several shards, the directory waits here until the others have nothing of the user
      ──▶ one transaction: tokens, published keys, the user, and in place of the id its SHA-256
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
from storage_worker.engine.postgres.published_keys import Keys
from storage_worker.engine.postgres.remote_users import RemoteUsers
from storage_worker.engine.postgres.slots import Slots
from storage_worker.engine.postgres.users import UserRegistry

STEP: Final = 256
"""Pages of mail, of 8 KiB, that one step deletes."""
LOOK_EVERY_MS: Final = 50
"""How often is looked whether other shards are done."""


class DeletedUsers:
    """Those of whom something is left. `log_of_turns` is reloaded before this is made.

    `is_audited`: whether the audit log has them from here; of several shards one writes the line.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        log_of_turns: CommitLog,
        queue: MessageQueue,
        pages: MailPages,
        slots: Slots,
        users: UserRegistry | RemoteUsers,
        keys: Keys,
        *,
        is_audited: bool,
    ) -> None:
        self._is_audited = is_audited
        self._database = database
        self._blobs = blobs
        self._log = log_of_turns
        self._queue = queue
        self._pages = pages
        self._slots = slots
        self._users = users
        self._keys = keys
        self._rows = users.deleted_rows()
        self._elsewhere: list[int] = []
        """Users of whom nothing is left here but what tells other shards that they are gone."""
        self._looked_at = 0

    @property
    def has_waiting(self) -> bool:
        """Whether `work` will have something to do."""
        return self.is_busy or bool(self._elsewhere)

    @property
    def is_busy(self) -> bool:
        """Whether it could do it at once."""
        return bool(self._rows) or self._users.has_deleted

    def work(self, now_ms: int) -> None:
        """One step. Raises as `Database.transaction`."""
        if self._users.has_deleted:
            self._users.has_deleted = False
            self._rows = [row for row in self._users.deleted_rows() if row not in self._elsewhere]
        if self._elsewhere and not 0 <= now_ms - self._looked_at < LOOK_EVERY_MS:
            self._looked_at = now_ms
            back = [row for row in self._elsewhere if not self._users.waits_for_others(row)]
            self._rows += back
            self._elsewhere = [row for row in self._elsewhere if row not in back]
        if not self._rows:
            return
        row = self._rows[0]
        if self._log.waits:
            self._log.flush(now_ms)
        client_id, waits = None, False
        with self._database.transaction():
            deleted = self._pages.delete_some(row, STEP)
            waits = len(deleted) < STEP and self._users.waits_for_others(row)
            if len(deleted) < STEP and not waits:
                self._database.change(statements.FORGET_TOKENS, row)
                bundle = self._keys.forget_user(row)
                client_id = self._users.forget_deleted(row)
                self._slots.forget_answers_with(client_id)
                if bundle:
                    self._slots.forget_answers_with(bundle)
                self._slots.taken(now_ms)(self._database)
                # Afterwards nobody knows the id any more. So the line comes again where this
                # transaction fails, or the process is killed here, and is never left out.
                if self._is_audited:
                    audit_deletion(client_id)
            fail_points.reach(FailPoint.DELETION_STEP)
        fail_points.reach(FailPoint.DELETION_STEPPED)
        for blob_id in deleted:
            if blob_id is not None:
                self._blobs.remove(blob_id)
        if waits:
            self._queue.forget_mailbox(row)
            self._elsewhere.append(self._rows.pop(0))
        if client_id is not None:
            self._slots.written()
            self._users.forgotten(row)
            self._queue.forget_mailbox(row)
            del self._rows[0]
