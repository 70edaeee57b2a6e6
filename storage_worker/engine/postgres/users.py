"""The registered users.

Owns: the tables `account`, `deleted_account` and `name_look`, and what of them is in the journal
alone.
Promises: as storage_worker.engine.interface says: of one name, of one id, there is one user.
Exposure: names and keys are what strangers chose; the rules checked their form.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from common.storage_protocol.operations import UserEntry
from storage_worker.engine.paged.unwritten import drop_written
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.blocks import BlockLists
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.postgres.known_users import KnownUsers
from storage_worker.engine.postgres.published_keys import Keys
from storage_worker.engine.records import (
    Record,
    UserAuthenticated,
    UserDeleted,
    UserDisabled,
    UserRegistered,
    UserSeen,
)
from storage_worker.engine.values import Account, Deletion, User

USERS_PER_PAGE: Final = 500


class _Taken(NamedTuple):
    """What the tables are to get: rows of users, and of some the last day or whether they are
    disabled.
    """

    authenticated: set[int]
    told: set[int]
    deleted: set[int]
    seen: dict[int, int]
    disabled: dict[int, bool]

    def write(self, database: Database) -> None:
        """Inside a transaction."""
        if self.authenticated:
            database.change(statements.PROVE, sorted(self.authenticated))
        if self.told:
            database.change(statements.TOLD, sorted(self.told))
        if self.deleted:
            database.change(statements.MARK_DELETED, sorted(self.deleted))
        if self.seen:
            database.change(statements.SET_SEEN, list(self.seen), list(self.seen.values()))
        _write_disabled(database, self.disabled)


_NONE: Final = _Taken(set(), set(), set(), {}, {})


def _write_disabled(database: Database, users: Mapping[int, bool]) -> None:
    for disabled in (False, True):
        rows = [row for row, now in users.items() if now is disabled]
        if rows:
            database.change(statements.SET_DISABLED, rows, disabled)


class UserRegistry(KnownUsers):
    """Makes, finds and lists users. `register` runs inside a transaction."""

    def __init__(self, database: Database, blocks: BlockLists, keys: Keys, shards: int = 1) -> None:
        super().__init__()
        self._database = database
        self._blocks = blocks
        self._keys = keys
        self._shards = shards
        self._unpublished = False
        self._changes: int | None = None
        self._leaving: set[int] = set()
        self._told: set[int] = set()
        self._authenticated: set[int] = set()
        self._deleted: set[int] = set()
        self._seen: dict[int, int] = {}
        self._disabled: dict[int, bool] = {}
        """All five: what the tables do not have."""
        self._taken = _NONE
        self.has_news = False
        """Whether something waits that others look for in the tables."""
        self.has_deleted = False
        """Whether the table has more deleted users than whoever sets this back knows of."""

    # --- the log of turns
    # ----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Be as the tables are."""
        self._forget_known()
        self._unpublished = False
        for unwritten in (self._authenticated, self._told, self._deleted, self._seen, self._disabled):
            unwritten.clear()
        self._taken = _NONE
        self.has_news = False

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""
        match record:
            case UserAuthenticated(user, told):
                self._authenticated.add(user)
                # An operator may want to take it back, in the table.
                self.has_news = True
                self._unpublished = self._unpublished or not told
                if told:
                    self._told.add(user)
                if user in self._by_row:
                    self._by_row[user].must_authenticate = True
                    self._by_row[user].is_told = told or self._shards == 1
            case UserSeen(user, day):
                self._seen[user] = day
            case UserDisabled(user, disabled):
                self._disabled[user] = disabled
                self._unpublished = True
                if user in self._by_row:
                    self._by_row[user].is_disabled = disabled
            case UserDeleted(user):
                self._deleted.add(user)
                self.has_news = True
                self._unpublished = True
                self._forget_row(user)
            case _:
                pass
        self._note(record)

    @property
    def has_shared_news(self) -> bool:
        """Whether the turn changed what other shards read in the tables."""
        return self._unpublished and self._shards > 1

    def publish(self) -> None:
        """Inside a transaction: give the tables what other shards read there, before the journal
        has it.
        """
        if self._disabled:
            # First, as an operator's commands do it: neither then waits for a user's row while the
            # other one waits for this.
            self._database.change(statements.COUNT_CHANGE)
            _write_disabled(self._database, self._disabled)
        if self._authenticated:
            self._database.change(statements.PROVE, sorted(self._authenticated))
        if self._deleted:
            self._database.change(statements.MARK_DELETED, sorted(self._deleted))
        self._unpublished = False

    def taken(self, _now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`."""
        taken = self._taken = _Taken(
            set(self._authenticated), set(self._told), set(self._deleted), dict(self._seen), dict(self._disabled)
        )
        self.has_news = False
        return taken.write

    def written(self) -> None:
        """See `commit_log.TakenPart`."""
        taken = self._taken
        self.has_deleted = self.has_deleted or bool(taken.deleted)
        self._authenticated -= taken.authenticated
        self._told -= taken.told
        self._deleted -= taken.deleted
        drop_written(self._seen, taken.seen)
        drop_written(self._disabled, taken.disabled)

    # --- reads
    # ----------------------------------------------------------------------------------------------

    def find(self, client_id: bytes) -> User | None:
        """The user with this id, or None."""
        user = self.known.get(client_id)
        if user is None:
            found = self._database.find(statements.FIND_USER, client_id)
            if found is not None:
                row, proven, told, seen, disabled, keys = found
                user = self._found(client_id, row, proven, told, seen, disabled, self._blocks.any_of(row), keys)
        return user

    def expect(self, client_ids: Iterable[bytes]) -> None:
        """`find` will be asked for these: look all of them up at once."""
        if unknown := self._unknown(client_ids):
            for found in self._database.rows(statements.FIND_USERS, unknown):
                client_id, row, proven, told, seen, disabled, blocks, keys = found
                blocks = blocks or self._blocks.any_unwritten(row)
                self._found(client_id, row, proven, told, seen, disabled, blocks, keys)

    def _found(
        self,
        client_id: bytes,
        row: int,
        proven: bool,
        told: bool,
        seen: int | None,
        disabled: bool,
        blocks: bool,
        keys: bool | None,
    ) -> User | None:
        if row in self._deleted:
            return None
        return self._remember(
            User(
                row,
                client_id,
                proven or row in self._authenticated,
                blocks,
                self._seen.get(row, -1 if seen is None else seen),
                self._disabled.get(row, disabled),
                told or row in self._told or self._shards == 1,
                self._keys.state_of(row, keys),
            )
        )

    def refresh(self, client_id: bytes) -> None:
        """No other process changes users."""

    def take_departed(self, now_ms: int) -> Sequence[tuple[int, bytes]]:
        """Look now and then what an operator's command has changed: rows and client ids of users
        who were deleted since the last call.
        """
        if not self._looks_now(now_ms):
            return []
        changes: int = self._database.row(statements.CHANGES)[0]
        if changes == self._changes:
            return []
        self._changes = changes
        self._keys.look_again()
        leaving = [(row, client_id) for row, client_id in self._database.rows(statements.DELETED_IDS)]
        departed = [one for one in leaving if one[0] not in self._leaving]
        self._leaving = {row for row, _client_id in leaving}
        self._forget_known()
        self.has_deleted = self.has_deleted or bool(departed)
        return departed

    def row_of(self, client_id: bytes) -> int:
        """The row of a user who exists, or did when the journal was written."""
        user = self.find(client_id)
        if user is not None:
            return user.row
        row: int = self._database.row(statements.ROW_OF, client_id)[0]
        return row

    def find_name(self, name: str) -> tuple[bytes, bytes] | None:
        """Client id and public key of the user with this name (case-sensitive), or None."""
        found = self._database.find(statements.FIND_NAME, name)
        return None if found is None or found[2] in self._deleted else (found[0], found[1])

    def name_is_kept(self, name: str) -> bool:
        """Whether a deleted user had this name, and it was not freed."""
        if self._database.find(statements.NAME_KEPT, name) is not None:
            return True
        found = self._database.find(statements.NAME_IN_USE, name)
        return found is not None and (found[1] or found[0] in self._deleted)

    def deletion(self, client_id: bytes) -> Deletion | None:
        """How far the deletion of the user is who had this id; None where there was none."""
        found = self._database.find(statements.USER_STATE, client_id)
        if found is not None:
            return Deletion.GOES_ON if found[1] or found[0] in self._deleted else None
        gone = self._database.find(statements.DIGEST_KEPT, sha256(client_id).digest())
        return None if gone is None else Deletion.DONE

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> bool:
        """Whether a name looks like one of these. `beyond_ascii`: of names beyond ASCII alone."""
        return self._database.find(statements.HAS_LOOK, looks, beyond_ascii) is not None

    def public_key(self, user: User) -> bytes:
        """The 160 bytes that the user registered."""
        key: bytes = self._database.row(statements.PUBLIC_KEY, user.row)[0]
        return key

    def last_row(self) -> int:
        """The row of the user who registered last; 0 for none."""
        last: int = self._database.row(statements.LAST_USER)[0]
        return last

    def count(self, until: int) -> int:
        """How many users have a row up to `until`."""
        found: int = self._database.row(statements.COUNT_USERS, 0, until)[0]
        return found - sum([row <= until for row in self._deleted])

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        """At most `USERS_PER_PAGE` users with `after` < row <= `until`, and the row to go on
        after.
        """
        rows = self._database.rows(statements.PAGE_OF_USERS, after, until, USERS_PER_PAGE)
        last = rows[-1][0] if len(rows) == USERS_PER_PAGE else until
        left_out = {without.row, *self._deleted}
        return last, [UserEntry(client_id, name) for row, client_id, name in rows if row not in left_out]

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        """At most so many users with a row above `after`, in order."""
        generation = self._keys.generation
        rows = self._database.rows(statements.ACCOUNTS, after, most + len(self._deleted), generation)
        unwritten = self._keys.counts()
        found = [
            Account(
                row,
                client_id,
                name,
                proven or row in self._authenticated,
                registered,
                self._seen.get(row, seen),
                bool(self._disabled.get(row, disabled)),
                unwritten.get(row, keys),
            )
            for row, client_id, name, proven, registered, seen, disabled, keys in rows
            if row not in self._deleted
        ]
        return found[:most]

    def unseen_since(self, day: int, after: int, until: int) -> Sequence[User]:
        """Users with `after` < row <= `until` who were seen last before this day and are not
        disabled, in order.
        """
        client_ids = [client_id for (client_id,) in self._database.rows(statements.UNSEEN, after, until, day)]
        self.expect(client_ids)
        # Of what the journal alone has `find` knows.
        users = [self.find(client_id) for client_id in client_ids]
        return [user for user in users if user is not None and user.seen < day and not user.is_disabled]

    def authenticated(self) -> int:
        """How many have authenticated once."""
        marked: int = self._database.row(statements.COUNT_PROVEN)[0]
        unwritten = self._authenticated | self._deleted
        if unwritten:
            for row, proven in self._database.rows(statements.PROVEN_OF, sorted(unwritten)):
                now = row not in self._deleted and (proven or row in self._authenticated)
                marked += now - proven
        return marked

    # --- inside a transaction
    # ----------------------------------------------------------------------------------------------

    def register(self, user: UserRegistered) -> None:
        """Make a user whose name and id are free."""
        [(row,)] = self._database.rows(statements.REGISTER, user.client_id, user.name, user.public_key, user.day)
        self._database.change(statements.INSERT_LOOKS, user.looks, not user.name.isascii(), row)

    def deleted_rows(self) -> list[int]:
        """The users who were deleted and are not gone, as far as the tables know."""
        return [row for (row,) in self._database.rows(statements.DELETED_USERS)]

    def forget_deleted(self, row: int) -> bytes:
        """Of this user keep the name, and that there was the id. The id."""
        client_id: bytes
        [(client_id, name)] = self._database.rows(statements.FORGET_USER, row)
        self._blocks.forget_user(row)
        self._database.change(statements.KEEP_NAME, row, name, sha256(client_id).digest())
        if self._shards > 1:
            self._database.change(statements.FORGET_GONE, row)
        return client_id

    def waits_for_others(self, row: int) -> bool:
        """Whether another shard may have something of a deleted user."""
        return self._shards > 1 and self._database.row(statements.COUNT_GONE, row)[0] < self._shards - 1

    def forgotten(self, row: int) -> None:
        """That transaction is committed."""
