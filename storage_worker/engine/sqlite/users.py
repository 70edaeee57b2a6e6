"""The registered users, and the names of those who were deleted.

Owns: the tables `user`, `name_look` and `deleted_user`, a bounded cache of look-ups, and who was
marked or deleted only in the journal.
Promises: names and ids are unique; a user's row number is small, never changes and is never reused;
the list is in the order of registration. Deleted users are not found from the moment of the
decision, except to replay earlier records of the journal. In the end only the SHA-256 of the id is
left, so that nobody else gets it.
Exposure: names and keys come from strangers; what a name may be is checked in `common.values`, keys
are opaque.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from common.storage_protocol.operations import UserEntry
from storage_worker.engine.records import (
    KeysPublished,
    Record,
    SenderBlocked,
    UserAuthenticated,
    UserDeleted,
    UserDisabled,
    UserRegistered,
    UserSeen,
)
from storage_worker.engine.sqlite.blocks import BlockLists
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.published_keys import Keys
from storage_worker.engine.values import Account, Deletion, KeptName, KeyState, User

USERS_PER_PAGE: Final = 500
"""So many take the worker a millisecond, for which everybody waits."""
REMEMBERED: Final = 100_000


def _state_of(keys: int | None) -> KeyState:
    """What the column says."""
    if keys is None:
        return KeyState.NEVER
    return KeyState.KEPT if keys >= 0 else KeyState.REMOVED


def digest_of(client_id: bytes) -> bytes:
    """What is kept of a deleted user's id. An id has 122 random bits, so it can't be guessed from
    this.
    """
    return sha256(client_id).digest()


class UserRegistry:
    """Makes, finds and lists users. `register` runs inside a transaction."""

    def __init__(self, database: Database, blocks: BlockLists, keys: Keys) -> None:
        self._database = database
        self._blocks = blocks
        self._keys = keys
        self._newly_authenticated: set[int] = set()
        self._newly_deleted: set[int] = set()
        self._newly_seen: dict[int, int] = {}
        self._newly_disabled: dict[int, bool] = {}
        self.has_deleted = False
        """Whether the table has more deleted users than whoever sets this back knows of."""
        self.held_up: set[int] = set()
        """Rows of deleted users of whom something can't be deleted, since it is altered."""
        self._counted = self._counted_until = 0
        self.known: dict[bytes, User] = {}
        """Users that were looked up, by client id; `find` looks further."""
        self._by_row: dict[int, User] = {}
        """The same."""

    def look_again(self) -> None:
        """Another process changed the table, or a turn was undone: drop the cache."""
        self._forget_known()
        self._counted = self._counted_until = 0

    def _forget_known(self) -> None:
        self.known.clear()
        self._by_row.clear()

    def forget(self) -> None:
        """Return to the state of the database."""
        self.look_again()
        self._newly_authenticated.clear()
        self._newly_deleted.clear()
        self._newly_seen.clear()
        self._newly_disabled.clear()

    def replay(self, record: Record) -> None:
        """Apply a turn's record again."""
        if isinstance(record, UserAuthenticated):
            self.authenticate(record)
        elif isinstance(record, UserDeleted):
            self.delete(record)
        elif isinstance(record, UserSeen):
            self.saw(record)
        elif isinstance(record, UserDisabled):
            self.disable(record)
        elif isinstance(record, SenderBlocked):
            self.blocks_somebody(record)
        elif isinstance(record, KeysPublished):
            self.has_published(record)

    @property
    def has_news(self) -> bool:
        """Whether a mark waits for the database: an operator may want to take it back, and a
        deletion goes on from there.
        """
        return bool(self._newly_authenticated or self._newly_deleted)

    @property
    def is_written(self) -> bool:
        """Whether the database has it all."""
        return not (self.has_news or self._newly_seen or self._newly_disabled)

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        self._database.execute_many(
            "UPDATE user SET proven = 1 WHERE row = ?", [(row,) for row in sorted(self._newly_authenticated)]
        )
        self._database.execute_many(
            "UPDATE user SET deleted = 1 WHERE row = ?", [(row,) for row in sorted(self._newly_deleted)]
        )
        self._database.execute_many(
            "UPDATE user SET seen = ? WHERE row = ?", [(day, row) for row, day in sorted(self._newly_seen.items())]
        )
        self._database.execute_many(
            "UPDATE user SET disabled = ? WHERE row = ?",
            [(int(disabled), row) for row, disabled in sorted(self._newly_disabled.items())],
        )

    def written(self) -> None:
        """That transaction is on disk."""
        self._newly_authenticated.clear()
        self._newly_seen.clear()
        self._newly_disabled.clear()
        if self._newly_deleted:
            self.has_deleted = True
            self._newly_deleted.clear()
            self._counted = self._counted_until = 0

    def find(self, client_id: bytes) -> User | None:
        """The user with this id, or None."""
        return self.known.get(client_id) or self._look_up(client_id)

    def _look_up(self, client_id: bytes) -> User | None:
        found = self._database.find(
            "SELECT row, proven, seen, disabled, keys FROM user WHERE client_id = ? AND NOT deleted", (client_id,)
        )
        if found is None or found[0] in self._newly_deleted:
            return None
        row, proven, seen, disabled, keys = found
        if len(self.known) >= REMEMBERED:
            self._forget_known()
        user = self.known[client_id] = User(
            row,
            client_id,
            bool(proven) or row in self._newly_authenticated,
            self._blocks.any_of(row),
            self._newly_seen.get(row, -1 if seen is None else seen),
            self._newly_disabled.get(row, bool(disabled)),
            keys=KeyState.KEPT if row in self._keys.unwritten else _state_of(keys),
        )
        self._by_row[user.row] = user
        return user

    def row_of(self, client_id: bytes) -> int:
        """The row of a user who exists, or existed when the journal was written."""
        user = self.find(client_id)
        if user is not None:
            return user.row
        row: int = self._database.row("SELECT row FROM user WHERE client_id = ?", (client_id,))[0]
        return row

    def find_name(self, name: str) -> tuple[bytes, bytes] | None:
        """Client id and public key of the user with this name (case-sensitive), or None."""
        found = self._database.find(
            "SELECT client_id, public_key, row FROM user WHERE name = ? AND NOT deleted", (name,)
        )
        return None if found is None or found[2] in self._newly_deleted else (found[0], found[1])

    def name_is_kept(self, name: str) -> bool:
        """Whether a deleted user had this name, and it was not freed."""
        if self._database.find("SELECT 1 FROM deleted_user WHERE name = ?", (name,)) is not None:
            return True
        found = self._database.find("SELECT row, deleted FROM user WHERE name = ?", (name,))
        return found is not None and (bool(found[1]) or found[0] in self._newly_deleted)

    def deletion(self, client_id: bytes) -> Deletion | None:
        """How far the deletion of the user with this id is; None if there was none."""
        found = self._database.find("SELECT row, deleted FROM user WHERE client_id = ?", (client_id,))
        if found is not None:
            if not (found[1] or found[0] in self._newly_deleted):
                return None
            return Deletion.HELD_UP if found[0] in self.held_up else Deletion.GOES_ON
        digest = digest_of(client_id)
        gone = self._database.find("SELECT 1 FROM deleted_user WHERE id_digest = ?", (digest,)) is not None
        return Deletion.DONE if gone else None

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> bool:
        """Whether a name looks like one of these. `beyond_ascii`: only names beyond ASCII count."""
        kinds = (1,) if beyond_ascii else (0, 1)
        query = "SELECT 1 FROM name_look WHERE look = ? AND beyond_ascii = ? LIMIT 1"
        return any(self._database.find(query, (look, kind)) is not None for look in looks for kind in kinds)

    def register(self, user: UserRegistered) -> None:
        """Make a user whose name and id are free. Raises `TablesDamaged`."""
        with self._database.writing():
            self._database.execute(
                "INSERT INTO user (row, client_id, name, public_key, registered, seen) VALUES (1 + max("
                "(SELECT coalesce(max(row), 0) FROM user), (SELECT coalesce(max(row), 0) FROM deleted_user)), "
                "?, ?, ?, ?, ?)",
                (user.client_id, user.name, user.public_key, user.day, user.day),
            )
            row = self._database.row("SELECT last_insert_rowid()")[0]
            self._database.add_looks(row, user.name, user.looks)

    def refresh(self, client_id: bytes) -> None:
        """Nobody else changes users."""

    def public_key(self, user: User) -> bytes:
        """The 160 bytes that the user registered."""
        key: bytes = self._database.row("SELECT public_key FROM user WHERE row = ?", (user.row,))[0]
        return key

    def authenticate(self, record: UserAuthenticated) -> None:
        """From now on only authenticated connections may act for this user."""
        self._newly_authenticated.add(record.user)
        user = self._by_row.get(record.user)
        if user is not None:
            user.must_authenticate = True

    def saw(self, record: UserSeen) -> None:
        """The user was active on this day."""
        self._newly_seen[record.user] = record.day
        user = self._by_row.get(record.user)
        if user is not None:
            user.seen = record.day

    def disable(self, record: UserDisabled) -> None:
        """Disable or enable this user."""
        self._newly_disabled[record.user] = record.disabled
        user = self._by_row.get(record.user)
        if user is not None:
            user.is_disabled = record.disabled

    def delete(self, record: UserDeleted) -> None:
        """From now on this user is not found."""
        self._newly_deleted.add(record.user)
        user = self._by_row.pop(record.user, None)
        if user is not None:
            del self.known[user.client_id]
        self._counted = self._counted_until = 0

    def deleted_rows(self) -> list[int]:
        """The users who were deleted and are not gone, as far as the database knows."""
        return [row for (row,) in self._database.execute("SELECT row FROM user WHERE deleted ORDER BY row")]

    def forget_deleted(self, row: int) -> bytes:
        """Inside a transaction: of this user keep the name, and that there was the id. The id."""
        client_id, name = self._database.row("SELECT client_id, name FROM user WHERE row = ?", (row,))
        self._database.execute("DELETE FROM user WHERE row = ?", (row,))
        self._blocks.forget_user(row)
        self._database.execute(
            "INSERT INTO deleted_user (row, name, id_digest) VALUES (?, ?, ?)", (row, name, digest_of(client_id))
        )
        found: bytes = client_id
        return found

    def free_name(self, name: str) -> bool:
        """Inside a transaction: let others register a deleted user's name, and what looks like it;
        whether there was one.
        """
        found = self._database.find("SELECT row FROM deleted_user WHERE name = ?", (name,))
        if found is None:
            return False
        self._database.execute("DELETE FROM name_look WHERE user = ?", (found[0],))
        self._database.execute("UPDATE deleted_user SET name = NULL WHERE row = ?", (found[0],))
        return True

    def kept_names(self) -> list[KeptName]:
        """The names of deleted users that were not freed, in the order of registration."""
        rows = self._database.execute(
            "SELECT name, 0 AS goes_on, row FROM deleted_user WHERE name IS NOT NULL "
            "UNION ALL SELECT name, 1, row FROM user WHERE deleted ORDER BY 3"
        )
        return [KeptName(name, bool(goes_on)) for name, goes_on, _row in rows]

    def blocks_somebody(self, record: SenderBlocked) -> None:
        """From now on the user's blocks are checked."""
        user = self._by_row.get(record.user)
        if user is not None:
            user.blocks = True

    def has_published(self, record: KeysPublished) -> None:
        """From now on the user has keys."""
        user = self._by_row.get(record.user)
        if user is not None:
            user.keys = KeyState.KEPT

    def last_row(self) -> int:
        """The row of the user who registered last; 0 for none."""
        last: int = self._database.row("SELECT coalesce(max(row), 0) FROM user")[0]
        return last

    def count(self, until: int) -> int:
        """How many users have a row up to `until`. Counts are continued from the last one, unless a
        user was deleted.
        """
        if until < self._counted_until:
            self._counted = self._counted_until = 0
        more, last = self._database.row(
            "SELECT count(*), max(row) FROM user WHERE row > ? AND row <= ? AND NOT deleted",
            (self._counted_until, until),
        )
        self._counted += more
        self._counted_until = last or self._counted_until
        # The database learns of those within a moment.
        return self._counted - sum([row <= until for row in self._newly_deleted])

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        """At most `USERS_PER_PAGE` users with `after` < row <= `until`, and the row to go
        on after.
        """
        rows = list(
            self._database.execute(
                "SELECT row, client_id, name FROM user WHERE row > ? AND row <= ? AND NOT deleted ORDER BY row LIMIT ?",
                (after, until, USERS_PER_PAGE),
            )
        )
        last = rows[-1][0] if len(rows) == USERS_PER_PAGE else until
        left_out = {without.row, *self._newly_deleted}
        return last, [UserEntry(client_id, name) for row, client_id, name in rows if row not in left_out]

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        """At most `most` users with a row above `after`, in order."""
        rows = self._database.execute(
            "SELECT row, client_id, name, proven, registered, seen, disabled, keys FROM user "
            "WHERE row > ? AND NOT deleted ORDER BY row LIMIT ?",
            (after, most + len(self._newly_deleted)),
        )
        unwritten = self._keys.counts()
        found = [
            Account(
                row,
                client_id,
                name,
                bool(proven) or row in self._newly_authenticated,
                registered,
                self._newly_seen.get(row, seen),
                self._newly_disabled.get(row, bool(disabled)),
                unwritten.get(row, None if keys is None or keys < 0 else keys),
            )
            for row, client_id, name, proven, registered, seen, disabled, keys in rows
            if row not in self._newly_deleted
        ]
        return found[:most]

    def unseen_since(self, day: int, after: int, until: int) -> Sequence[User]:
        """Users with `after` < row <= `until` who were seen last before this day and are not
        disabled, in order.
        """
        rows = self._database.execute(
            "SELECT client_id FROM user WHERE row > ? AND row <= ? AND seen < ? AND NOT deleted ORDER BY row",
            (after, until, day),
        )
        # Of what the journal alone has `find` knows.
        users = [self.find(client_id) for (client_id,) in list(rows)]
        return [user for user in users if user is not None and user.seen < day and not user.is_disabled]

    def authenticated(self) -> int:
        """How many users have authenticated at least once."""
        marked: int = self._database.row("SELECT coalesce(sum(proven), 0) FROM user WHERE NOT deleted")[0]
        for row in self._newly_authenticated | self._newly_deleted:
            before = self._database.row("SELECT proven FROM user WHERE row = ?", (row,))[0]
            marked += (row not in self._newly_deleted) - before
        return marked
