"""Users whom the server listed, now or earlier.

Owns: the contact rows; pins are in `client.store.pins`. Promises: no listed user is ever forgotten.
Queries cost the same with a million names as with ten; only taking over a list costs as much as the
list is long.
Exposure: names are the server's, unchecked.
"""

from collections.abc import Iterable
from typing import NamedTuple

from client import paths
from client.store.database import Database
from common.values import ClientId, PublicKey


class ContactRow(NamedTuple):
    """A user whom the server listed, now or earlier."""

    client_id: ClientId
    name: str
    listed: bool
    public_key: PublicKey | None = None
    """For a user's earlier id: the key that was pinned with it."""


class ContactTable:
    """The lists of users from the server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_id(self, client_id: ClientId) -> ContactRow | None:
        """Return the user who was listed with an id."""
        rows = self._database.rows(
            "SELECT client_id, name, listed, public_key FROM contact WHERE client_id = ?", client_id
        )
        return ContactRow(rows[0][0], rows[0][1], bool(rows[0][2]), rows[0][3]) if rows else None

    def listed_as(self, name: str) -> list[ClientId]:
        """Return who has a name on the server's last list: nobody, one user, or two if there are
        more.
        """
        # A typed name may be anything.
        if not paths.is_utf8(name):
            return []
        rows = self._database.rows("SELECT client_id FROM contact WHERE listed AND name = ? LIMIT 2", name)
        return [client_id for (client_id,) in rows]

    def names_near(self, name: str, most: int) -> list[str]:
        """Return the listed names before and after a name in the alphabet, up to `most` on each
        side.
        """
        if not paths.is_utf8(name):
            return []
        before = self._database.rows(
            "SELECT name FROM contact WHERE listed AND name < ? ORDER BY name DESC LIMIT ?", name, most
        )
        behind = self._database.rows(
            "SELECT name FROM contact WHERE listed AND name >= ? ORDER BY name LIMIT ?", name, most
        )
        return sorted({name for (name,) in (*before, *behind)})

    def replace_list(self, users: Iterable[tuple[ClientId, str]]) -> None:
        """Store the server's list: users who are no longer on it stay known, as not listed. While
        `users` is read, which may take long, the store is not locked.
        """
        self._database.run(
            "CREATE TEMP TABLE IF NOT EXISTS on_list (client_id BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID"
        )
        self._database.run("DELETE FROM on_list")
        for client_id, name in users:
            self._database.run("INSERT OR REPLACE INTO on_list VALUES (?, ?)", client_id, name)
        with self._database.transaction():
            self._database.run(
                "INSERT INTO contact (client_id, name, listed) SELECT client_id, name, 1 FROM on_list WHERE true "
                "ON CONFLICT (client_id) DO UPDATE SET name = excluded.name, listed = 1 "
                "WHERE name <> excluded.name OR NOT listed"
            )
            self._database.run(
                "UPDATE contact SET listed = 0 WHERE listed AND client_id NOT IN (SELECT client_id FROM on_list)"
            )
        self._database.run("DELETE FROM on_list")
