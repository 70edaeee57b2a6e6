"""Every rule of the server: operations in, outcomes out.

Owns: the turn. It puts the subjects of the rules together over users, mailboxes, tokens, uploads,
leases and subscriptions.
Promises: a refusal changes nothing; what an outcome says is true once the surrounding turn is on
disk. Memory follows the turn: `commit` or `roll_back` is called after it, and both leave memory as
the disk is.
Exposure: every value in an operation may come from a stranger. Nothing here believes a client id:
for users who authenticated once, an operation has to come from an authenticated connection.

Source: docs/storage-protocol.md, "Operations".
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from common.storage_protocol.operations import Operation, Outcome, Register, Release, Settle
from storage_worker.engine.sqlite.blobs import Blobs
from storage_worker.engine.sqlite.commit_log import CommitLog
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.journal import Journal
from storage_worker.engine.sqlite.message_queue import MessageQueue
from storage_worker.rules.access import Access
from storage_worker.rules.admission import Admission, AdmissionControl, Limits
from storage_worker.rules.answers import Unreadable
from storage_worker.rules.fetching import FetchingRules
from storage_worker.rules.sending import SendingRules
from storage_worker.rules.table import TABLE, Subjects
from storage_worker.rules.uploads import UploadRules
from storage_worker.rules.users import UserRules
from storage_worker.server.gateway_slots import Slots
from storage_worker.state.leases import Leases
from storage_worker.state.rollback import Rollback
from storage_worker.state.send_tokens import SentTokens
from storage_worker.state.subscriptions import Subscriptions
from storage_worker.state.uploads import Uploads
from storage_worker.state.users import UserRegistry

log = logging.getLogger("storage_worker")

_LOST_NAMED: Final = 20
"""Lines in the log about large messages whose files are lost; beyond them their number."""


class Rules:
    """Answers operations. `random_bytes(n)` gives n random bytes.

    `begin`, then `apply` and `greet` any number of times, all inside one transaction of `database`;
    after its end `commit` or `roll_back`.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        bodies: Blobs,
        limits: Limits,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
    ) -> None:
        self._database = database
        self._undo = Rollback()
        self.ledger = CommitLog(database, journal, random_bytes)
        with database.reading():
            self.users = UserRegistry(database, self.ledger.note)
            self.queue = MessageQueue(database, bodies, self.ledger.note, self.users.row_of)
            tokens = SentTokens(database, self.ledger.note)
            self.slots = Slots(database, self.ledger.note)
        self._uploads = Uploads(bodies, self.queue.charge)
        self.ledger.attach(self.queue, tokens, self.slots, self.users)
        self.leases = Leases(self._undo)
        self._subscriptions = Subscriptions(self._undo)
        self._data_version = -1
        unreadable = Unreadable(database)
        access = Access(self.users, limits.largest_message)
        self._admission = AdmissionControl(database, self.queue, self._uploads, limits)
        sending = SendingRules(self.users, self.queue, tokens, self._admission, unreadable, random_bytes)
        uploads = UploadRules(self.queue, tokens, self._uploads, access, self._admission, sending)
        self._fetching = FetchingRules(self.queue, self.leases, self._subscriptions, access, unreadable)
        users = UserRules(self.users, self.leases, access, self._admission, random_bytes)
        self.by_operation = TABLE.bind(Subjects(users, sending, uploads, self._fetching), unreadable)
        """The rule of each type of operation."""
        with database.reading():
            self.ledger.recover(now_ms)
            lost = self.queue.match_files()
            if lost:
                for line in lost[:_LOST_NAMED]:
                    log.error("%s", line)
                log.error("large messages that are lost with their files: %d", len(lost))
                self.ledger.commit(now_ms, use_reserve=True)

    @property
    def highest(self) -> int:
        """The highest sequence ever given to a message."""
        return self.queue.sequence

    @property
    def uploaded(self) -> int:
        """Bytes that unfinished uploads have on the disk."""
        return self._uploads.held

    # --- the turn
    # ----------------------------------------------------------------------------------------------

    def begin(self, now_ms: int, level: Admission, for_uploads: int, *, is_damaged: bool = False) -> None:
        """A turn has begun. `for_uploads`: bytes that unfinished uploads together may hold.

        `is_damaged`: what does not come in is refused for damage, not for want of room.
        """
        self._admission.begin(now_ms, level, for_uploads, is_damaged=is_damaged)
        version = self._database.data_version()
        if version != self._data_version:
            # An admin command changed the database: what is remembered of users may be wrong.
            self._data_version = version
            self.users.look_again()

    def needs_tables(self, operations: Sequence[Operation]) -> bool:
        """Whether something among these has to be done in the database's tables at once.

        That is a registration, for users are looked up there. Everything else goes to the journal.
        """
        return any(type(operation) is Register for operation in operations)

    def commit(self) -> tuple[int, dict[int, list[bytes]]]:
        """The turn is on disk: bytes of mail that came in, and slot -> the subscribed client ids
        with new mail.
        """
        self._undo.commit()
        self.queue.committed()
        received = self.queue.received
        hints = self._subscriptions.use_up([box.user for box in received]) if received and self._subscriptions else {}
        received.clear()
        return self._admission.accepted_bytes, hints

    def roll_back(self) -> None:
        """The turn was undone: so is what it did to memory. Unfinished uploads end. Raises
        `StoreFailed`.
        """
        self._undo.roll_back()
        self._uploads.drop_all()
        with self._database.reading():
            self.ledger.reload()

    def greet(self, slot: int) -> None:
        """A gateway takes the slot: leases, subscriptions and unfinished uploads of its predecessor
        end.
        """
        self.leases.end_slot(slot)
        self._subscriptions.end_slot(slot)
        self._uploads.drop_slot(slot)

    def apply(self, slot: int, operations: Sequence[Operation]) -> list[Outcome]:
        """Do what is asked, in order; one outcome for each."""
        rules = self.by_operation
        return [rules[type(operation)](slot, operation) for operation in operations]

    def answer_again(self, slot: int, operations: Sequence[Operation], kept: Sequence[Outcome | None]) -> list[Outcome]:
        """The outcomes of a batch that was applied before: `kept` ones as they were, reads computed
        again.

        Leases live in memory alone, so what ended one ends it again: a read that is computed again
        may have taken it again.
        """
        outcomes: list[Outcome] = []
        for operation, outcome in zip(operations, kept, strict=True):
            if outcome is None:
                outcomes.append(self.by_operation[type(operation)](slot, operation))
                continue
            if isinstance(operation, Settle | Release):
                self._fetching.end_lease(slot, operation.lease)
            outcomes.append(outcome)
        return outcomes

    # --- between turns
    # ----------------------------------------------------------------------------------------------

    @property
    def is_counting(self) -> bool:
        """Whether a mailbox's senders are not all counted yet."""
        return self._admission.is_counting

    def count_on(self) -> None:
        """Between two turns: a step of that. Raises `StoreFailed`."""
        self._admission.count_on()
