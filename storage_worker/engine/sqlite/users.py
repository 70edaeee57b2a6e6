"""The registered users.

Owns: the tables `user` and `name_look`, a bounded memory of who was looked up, and who
authenticated in the journal alone.
Promises: names and ids are unique; a user's row number is small and never changes; the list is in
the order of registration.
Exposure: names and keys come from strangers; what a name may be is checked in `common.values`, keys
are opaque.
"""

from collections.abc import Sequence
from typing import Final

from common.storage_protocol.operations import UserEntry
from storage_worker.engine.records import Record, UserAuthenticated, UserRegistered
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import Account, User

USERS_PER_PAGE: Final = 500
"""So many take the worker a millisecond, for which everybody waits."""
REMEMBERED: Final = 100_000


class UserRegistry:
    """Makes, finds and lists users. `register` runs inside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newly_authenticated: set[int] = set()
        self._counted = self._counted_until = 0
        self.known: dict[bytes, User] = {}
        """Users that were looked up, by client id; `find` looks further."""
        self._by_row: dict[int, User] = {}
        """The same."""

    def look_again(self) -> None:
        """Somebody else changed the table, or a turn was undone: look everything up again."""
        self._forget_known()
        self._counted = self._counted_until = 0

    def _forget_known(self) -> None:
        self.known.clear()
        self._by_row.clear()

    def forget(self) -> None:
        """Be as the database is."""
        self.look_again()
        self._newly_authenticated.clear()

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""
        if isinstance(record, UserAuthenticated):
            self.authenticate(record)

    @property
    def has_newly_authenticated(self) -> bool:
        """Whether a mark waits for the database, where an operator may want to take it back."""
        return bool(self._newly_authenticated)

    def write(self) -> None:
        """Inside a transaction: give the database what it does not have."""
        self._database.execute_many(
            "UPDATE user SET proven = 1 WHERE row = ?", [(row,) for row in sorted(self._newly_authenticated)]
        )

    def written(self) -> None:
        """That transaction is on disk."""
        self._newly_authenticated.clear()

    def find(self, client_id: bytes) -> User | None:
        """The user with this id, or None."""
        return self.known.get(client_id) or self._look_up(client_id)

    def _look_up(self, client_id: bytes) -> User | None:
        found = self._database.find("SELECT row, proven FROM user WHERE client_id = ?", (client_id,))
        if found is None:
            return None
        if len(self.known) >= REMEMBERED:
            self._forget_known()
        user = self.known[client_id] = User(
            found[0], client_id, bool(found[1]) or found[0] in self._newly_authenticated
        )
        self._by_row[user.row] = user
        return user

    def row_of(self, client_id: bytes) -> int:
        """The row of a user who is known to exist."""
        user = self.find(client_id)
        assert user is not None, "mail was accepted for them"
        return user.row

    def find_name(self, name: str) -> tuple[bytes, bytes] | None:
        """Client id and public key of the user with this name (case-sensitive), or None."""
        found = self._database.find("SELECT client_id, public_key FROM user WHERE name = ?", (name,))
        return None if found is None else (found[0], found[1])

    def has_look(self, looks: Sequence[str], *, beyond_ascii: bool) -> bool:
        """Whether a name looks like one of these. `beyond_ascii`: of names beyond ASCII alone."""
        kinds = (1,) if beyond_ascii else (0, 1)
        query = "SELECT 1 FROM name_look WHERE look = ? AND beyond_ascii = ? LIMIT 1"
        return any(self._database.find(query, (look, kind)) is not None for look in looks for kind in kinds)

    def register(self, user: UserRegistered) -> None:
        """Make a user whose name and id are free. Raises `TablesDamaged`."""
        with self._database.writing():
            self._database.execute(
                "INSERT INTO user (client_id, name, public_key) VALUES (?, ?, ?)",
                (user.client_id, user.name, user.public_key),
            )
            row = self._database.row("SELECT last_insert_rowid()")[0]
            self._database.add_looks(row, user.name, user.looks)

    def public_key(self, user: User) -> bytes:
        """The 160 bytes that the user registered."""
        key: bytes = self._database.row("SELECT public_key FROM user WHERE row = ?", (user.row,))[0]
        return key

    def authenticate(self, record: UserAuthenticated) -> None:
        """From now on this user is acted for on authenticated connections alone."""
        self._newly_authenticated.add(record.user)
        user = self._by_row.get(record.user)
        if user is not None:
            user.must_authenticate = True

    def last_row(self) -> int:
        """The row of the user who registered last; 0 for none."""
        last: int = self._database.row("SELECT coalesce(max(row), 0) FROM user")[0]
        return last

    def count(self, until: int) -> int:
        """How many users have a row up to `until`. Users never go, so those that were
        counted once are not again.
        """
        if until < self._counted_until:
            self._counted = self._counted_until = 0
        more, last = self._database.row(
            "SELECT count(*), max(row) FROM user WHERE row > ? AND row <= ?", (self._counted_until, until)
        )
        self._counted += more
        self._counted_until = last or self._counted_until
        return self._counted

    def page(self, after: int, until: int, without: User) -> tuple[int, list[UserEntry]]:
        """At most `USERS_PER_PAGE` users with `after` < row <= `until`, and the row to go
        on after.
        """
        rows = list(
            self._database.execute(
                "SELECT row, client_id, name FROM user WHERE row > ? AND row <= ? ORDER BY row LIMIT ?",
                (after, until, USERS_PER_PAGE),
            )
        )
        last = rows[-1][0] if len(rows) == USERS_PER_PAGE else until
        return last, [UserEntry(client_id, name) for row, client_id, name in rows if row != without.row]

    def accounts(self, after: int, most: int) -> Sequence[Account]:
        """At most so many users with a row above `after`, in order."""
        rows = self._database.execute(
            "SELECT row, client_id, name, proven FROM user WHERE row > ? ORDER BY row LIMIT ?", (after, most)
        )
        return [
            Account(row, client_id, name, bool(proven) or row in self._newly_authenticated)
            for row, client_id, name, proven in rows
        ]

    def authenticated(self) -> int:
        """How many have authenticated once."""
        marked: int = self._database.row("SELECT coalesce(sum(proven), 0) FROM user")[0]
        for row in self._newly_authenticated:
            marked += not self._database.row("SELECT proven FROM user WHERE row = ?", (row,))[0]
        return marked
