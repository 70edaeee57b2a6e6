"""What store.db remembers by name, and the server that this identity has proven itself to.

Owns: the settings, among them the cursor of `watch`, and how far the server's mail was fetched.
Promises: as `client.tables`.
Exposure: the server's id and generation are what it said at the proof.
"""

from typing import NamedTuple

from client.tables.database import Database


class Settings:
    """Values by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        """Read what was set under a name."""
        value = self._database.value("SELECT value FROM setting WHERE name = ?", name)
        return None if value is None else str(value)

    def put(self, name: str, value: str) -> None:
        """Remember a value under a name."""
        with self._database.transaction():
            self._database.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, value)

    def drop(self, name: str) -> None:
        """Forget what was set under a name."""
        with self._database.transaction():
            self._database.run("DELETE FROM setting WHERE name = ?", name)


class ServerRow(NamedTuple):
    """The server that this identity belongs to, and how far its mail was fetched."""

    server_id: bytes
    generation: int
    ack: int


class ServerTable:
    """The server of the first proof."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self) -> ServerRow | None:
        """Give the server of the first proof; None before it."""
        rows = self._database.rows("SELECT server_id, generation, ack FROM server")
        return ServerRow(*rows[0]) if rows else None

    def remember(self, server_id: bytes, generation: int) -> None:
        """Note a proof. Another generation, a store of its own history, numbers mail in its own way."""
        known = self.known()
        if known is None or known.generation != generation:
            with self._database.transaction():
                self._database.run("INSERT OR REPLACE INTO server VALUES (1, ?, ?, 0)", server_id, generation)

    def forget_ack(self) -> None:
        """Fetch from the beginning: what comes again is recognised."""
        with self._database.transaction():
            self._database.run("UPDATE server SET ack = 0")
