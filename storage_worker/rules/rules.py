"""Every rule of the server: operations in, outcomes out.

Owns: the turn. Combines the rules of all subjects over users, mailboxes, tokens, uploads, leases
and subscriptions.
Promises: every operation has a rule, or this module can't be imported. A refusal changes nothing;
what an outcome says is true once the surrounding turn is on disk. Memory follows the turn: `commit`
or `roll_back` is called after it, and both leave memory in the state of the disk.
Exposure: every value in an operation may come from a stranger. A client id alone proves nothing:
for users who have authenticated, an operation has to come from an authenticated connection.

Source: docs/storage-protocol.md, "Operations".
"""

from collections.abc import Callable, Sequence
from typing import Final

from common.storage_protocol.operations import Operation, Outcome, Register, Release, Settle
from storage_worker.engine.errors import StoreUnusable
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import UserDisabled
from storage_worker.engine.values import Capacity, MailboxStats
from storage_worker.rules.access import Access
from storage_worker.rules.accounts import ACCOUNTS, AccountRules, AccountSettings
from storage_worker.rules.activity import Activity
from storage_worker.rules.admission import AdmissionControl, Limits
from storage_worker.rules.answers import Unreadable
from storage_worker.rules.blocking import BLOCKING, BlockingRules
from storage_worker.rules.expiry import Expiry
from storage_worker.rules.fetching import FETCHING, FetchingRules
from storage_worker.rules.inactivity import Inactivity
from storage_worker.rules.keys import KEYS, KeyRules
from storage_worker.rules.sending import SENDING, SendingRules
from storage_worker.rules.table import NO_RULES, Tables
from storage_worker.rules.uploads import UPLOADS, UploadRules
from storage_worker.rules.users import USERS, UserRules
from storage_worker.state.leases import Leases
from storage_worker.state.rollback import Rollback
from storage_worker.state.subscriptions import Subscriptions
from storage_worker.state.uploads import Uploads

_OF_MAIL: Final = NO_RULES.join(SENDING).join(UPLOADS).join(FETCHING).join(BLOCKING)
_JOINED: Final = _OF_MAIL.join(USERS).join(ACCOUNTS).join(KEYS)
TABLES: Final[Tables[Operation]] = _JOINED
"""Every operation's rule: types that lack one do not fit here."""
TABLES.check(Operation)
_OPEN: Final = AccountSettings()


class Rules:
    """Answers operations. `random_bytes(n)` gives n random bytes.

    Inside a turn of `engine`: `begin`, then `apply` and `greet` any number of times. After it
    `commit` or `roll_back`. Raises `StoreUnusable` if the engine does not grant that this state may
    live in memory.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        random_bytes: Callable[[int], bytes],
        accounts: AccountSettings = _OPEN,
    ) -> None:
        if not engine.grants.sole_owner:
            raise StoreUnusable("leases, subscriptions and uploads are kept in memory: one worker must own the store")
        self._engine = engine
        self._rollback = Rollback()
        self._uploads = Uploads(engine.blobs, engine.mailboxes)
        self.leases = Leases(self._rollback)
        self._subscriptions = Subscriptions(self._rollback)
        unreadable = Unreadable(engine)
        self._activity = Activity(engine)
        access = Access(engine.users, self._activity, limits.largest_message)
        self._admission = AdmissionControl(engine, self._uploads, limits)
        sending = SendingRules(engine, self._admission, self._activity, unreadable, random_bytes)
        uploads = UploadRules(engine, self._uploads, access, self._admission, sending)
        self._fetching = FetchingRules(engine, self.leases, self._subscriptions, access, unreadable)
        self._users = UserRules(
            engine, self.leases, access, self._activity, self._admission, random_bytes, accounts.registration
        )
        leaving = AccountRules(engine, self._uploads, self._subscriptions, access, self._admission, accounts)
        blocking = BlockingRules(engine, access, self._admission)
        keys = KeyRules(engine, access, self._admission)
        self.expiry = Expiry(engine, self.leases, accounts.expire_days)
        """Deletes old mail, between turns of gateways."""
        self.inactivity = Inactivity(engine, leaving.remove, accounts.inactive_days)
        """Deletes users who were not seen, between turns of gateways."""
        subjects = (self._users, sending, uploads, self._fetching, leaving, blocking, keys)
        self.by_operation = TABLES.bind(subjects, unreadable)
        """The rule of each type of operation."""

    @property
    def highest(self) -> int:
        """The highest sequence ever given to a message."""
        return self._engine.mailboxes.sequence

    @property
    def uploaded(self) -> int:
        """Bytes of unfinished uploads on disk."""
        return self._uploads.held

    def disable(self, name: str, *, disabled: bool) -> bool:
        """Inside a turn: disable or enable a user; returns whether there is one of that name."""
        found = self._engine.users.find_name(name)
        user = None if found is None else self._engine.users.find(found[0])
        if user is None:
            return False
        if user.is_disabled != disabled:
            self._engine.apply(UserDisabled(user.row, disabled))
            if disabled:
                self._subscriptions.end_user(user.row)
            if not disabled and user.seen < self._activity.today:
                # They could not be seen meanwhile, and are not to be deleted for that.
                self._activity.note(user)
        return True

    @property
    def unfinished(self) -> MailboxStats:
        """The number of unfinished uploads, and their bytes on disk."""
        return MailboxStats(len(self._uploads), self._uploads.held)

    # --- the turn
    # ----------------------------------------------------------------------------------------------

    def begin(self, now_ms: int, room: Capacity) -> None:
        """A turn has begun."""
        self._admission.begin(now_ms, room)
        self._activity.begin(now_ms)

    def registers(self, operations: Sequence[Operation]) -> bool:
        """Whether one of these operations may register a user."""
        return any(type(operation) is Register for operation in operations)

    def commit(self) -> tuple[int, dict[int, list[bytes]]]:
        """The turn is committed: bytes of mail that came in, and slot -> the subscribed client ids
        with new mail.
        """
        self._rollback.commit()
        self._users.commit()
        received = self._engine.take_received()
        arrived = self._subscriptions.use_up(received) if received and self._subscriptions else {}
        return self._admission.accepted_bytes, arrived

    def take_ended(self) -> dict[int, list[bytes]]:
        """After a commit: slot -> the subscribed client ids that may not fetch any more."""
        return self._subscriptions.take_ended()

    def end_deleted(self) -> None:
        """Inside a turn: another process may have deleted users; end what they wait for."""
        for row, client_id in self._subscriptions.watched():
            if self._engine.users.find(client_id) is None:
                self._subscriptions.end_user(row)

    def end_departed(self, departed: Sequence[tuple[int, bytes]]) -> None:
        """Inside a turn: these users (rows and client ids) were deleted at the directory."""
        for row, client_id in departed:
            self._uploads.drop_of(client_id, row)
            self._subscriptions.end_user(row)

    def roll_back(self) -> None:
        """The turn was undone: undo its changes in memory. Unfinished uploads end. Raises
        `StoreFailed`.
        """
        self._rollback.roll_back()
        self._users.roll_back()
        self._fetching.roll_back()
        self._admission.roll_back()
        self._uploads.drop_all()
        self._engine.roll_back()

    def greet(self, slot: int) -> None:
        """A gateway takes the slot: leases, subscriptions and unfinished uploads of its predecessor
        end.
        """
        self.leases.end_slot(slot)
        self._subscriptions.end_slot(slot)
        self._uploads.drop_slot(slot)

    def apply(self, slot: int, operations: Sequence[Operation]) -> list[Outcome]:
        """Apply operations in order; returns one outcome for each."""
        rules = self.by_operation
        return [rules[type(operation)](slot, operation) for operation in operations]

    def answer_again(self, slot: int, operations: Sequence[Operation], kept: Sequence[Outcome | None]) -> list[Outcome]:
        """The outcomes of a batch that was applied before: `kept` ones as they were, reads computed
        again.

        Leases are only in memory, so an operation that ended one ends it again, because a read that
        is computed again may have taken it again.
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
        """Between two turns: count some more. Raises `StoreFailed`."""
        self._admission.count_on()
