"""Named settings in store.db, and the server to which this identity has signed in.

Owns: the settings, among them the cursor of `watch`, and how far the server's mail was fetched.
Promises: as `client.store`.
Exposure: the server's id and generation are what it named at the proof.
"""

from typing import Final, NamedTuple

from client.store.acknowledged import mark_lost
from client.store.database import Database
from common.values import ClientId

OWN_ID: Final = "own_id"
"""Noted with the first note to oneself, and again under another id, separated by commas. The
history knows notes by it, and needs no private key.
"""

RESTORED: Final = "restored"
"""Set by an import, until the next sign-in: the state that was exported may have been used
since.
"""


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

    def is_own(self, client_id: ClientId) -> bool:
        """Whether this home has sent notes to itself under an id, now or earlier."""
        return client_id.hex() in (self.get(OWN_ID) or "").split(",")

    def add_own(self, client_id: ClientId) -> None:
        """Note an id under which this home sends notes to itself."""
        if not self.is_own(client_id):
            self.put(OWN_ID, ",".join(filter(None, (self.get(OWN_ID), client_id.hex()))))

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with a prefix of ASCII, in their order."""
        behind = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
        rows = self._database.rows(
            "SELECT name FROM setting WHERE name >= ? AND name < ? ORDER BY name", prefix, behind
        )
        return [str(name) for (name,) in rows]

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
        """Return the server of the first proof; None before it."""
        rows = self._database.rows("SELECT server_id, generation, ack FROM server")
        return ServerRow(*rows[0]) if rows else None

    def remember(self, server_id: bytes, generation: int, now: int) -> int:
        """Note a proof; return how many messages are possibly lost by that.

        Another generation is a store with a history of its own: its numbers of mail are its own,
        and it may lack what was acknowledged under the previous one.
        """
        known = self.known()
        if known is not None and known.generation == generation:
            return 0
        with self._database.transaction():
            # Another process of this home may have noted it meanwhile: what is acknowledged since
            # is not marked.
            known = self.known()
            if known is not None and known.generation == generation:
                return 0
            self._database.run("INSERT OR REPLACE INTO server VALUES (1, ?, ?, 0)", server_id, generation)
            return 0 if known is None else mark_lost(self._database, now)

    def forget_ack(self) -> None:
        """Fetch from the beginning: what comes again is recognised."""
        with self._database.transaction():
            self._database.run("UPDATE server SET ack = 0")
