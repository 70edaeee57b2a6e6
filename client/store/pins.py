"""Under which id and key a name was first met, and what the server names now if that is something
else.

Owns: the pin rows; what they mean is in `client.trust.trust`.
Promises: a pinned key is replaced only by `replace`.
Exposure: offered ids and keys are the server's.
"""

from typing import NamedTuple

from client import paths
from client.store.database import Database
from common.values import ClientId, PublicKey


class PinRow(NamedTuple):
    """Under which id and key a name was first met, and what the server names now if that is
    something else.
    """

    client_id: ClientId
    name: str
    public_key: PublicKey
    since: int
    verified_at: int | None
    offered_id: ClientId | None
    offered_key: PublicKey | None
    offered_since: int | None


class PinTable:
    """The pins of one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_name(self, name: str) -> PinRow | None:
        """Return who was met under a name."""
        # A typed name may be anything.
        rows = self._database.rows("SELECT * FROM pin WHERE name = ?", name) if paths.is_utf8(name) else []
        return PinRow(*rows[0]) if rows else None

    def of_id(self, client_id: ClientId) -> PinRow | None:
        """Return who was met with an id."""
        rows = self._database.rows("SELECT * FROM pin WHERE client_id = ?", client_id)
        return PinRow(*rows[0]) if rows else None

    def all(self) -> list[PinRow]:
        """Return everybody who was met, by name."""
        return [PinRow(*row) for row in self._database.rows("SELECT * FROM pin ORDER BY name")]

    def changed(self) -> list[PinRow]:
        """Return those for whom the server names something else than is pinned."""
        return [
            PinRow(*row) for row in self._database.rows("SELECT * FROM pin WHERE offered_key IS NOT NULL ORDER BY name")
        ]

    def add(self, client_id: ClientId, name: str, key: PublicKey, now: int) -> bool:
        """Keep under which id and key a name was first met; False if name or id are
        pinned already.
        """
        with self._database.transaction():
            if self._database.rows("SELECT 1 FROM pin WHERE client_id = ? OR name = ?", client_id, name):
                return False
            self._database.run(
                "INSERT INTO pin (client_id, name, public_key, since) VALUES (?, ?, ?, ?)", client_id, name, key, now
            )
            return True

    def offer(self, client_id: ClientId, offered: ClientId | None, key: PublicKey | None, since: int | None) -> None:
        """Record what the server names now for a pinned user; None: the same as pinned."""
        with self._database.transaction():
            self._database.run(
                "UPDATE pin SET offered_id = ?, offered_key = ?, offered_since = ? WHERE client_id = ?",
                offered,
                key,
                since,
                client_id,
            )

    def replace(self, old: ClientId, client_id: ClientId, name: str, key: PublicKey, now: int) -> None:
        """Pin another id and key for a name, and stop using earlier symmetric keys for sending."""
        with self._database.transaction():
            self._database.run("DELETE FROM pin WHERE client_id IN (?, ?) OR name = ?", old, client_id, name)
            self._database.run(
                "INSERT INTO pin (client_id, name, public_key, since) VALUES (?, ?, ?, ?)", client_id, name, key, now
            )
            self._database.run("UPDATE shared_key SET usable = 0 WHERE contact IN (?, ?)", old, client_id)

    def move(self, old: ClientId, client_id: ClientId) -> None:
        """Pin the same key under another id; the contact of the old one keeps it, to be
        known as the same.
        """
        with self._database.transaction():
            self._database.run(
                "INSERT INTO contact (client_id, name, listed, public_key) "
                "SELECT client_id, name, 0, public_key FROM pin WHERE client_id = ? "
                "ON CONFLICT (client_id) DO UPDATE SET public_key = excluded.public_key",
                old,
            )
            self._database.run(
                "UPDATE pin SET client_id = ?, offered_id = NULL, offered_key = NULL, offered_since = NULL "
                "WHERE client_id = ?",
                client_id,
                old,
            )

    def verify(self, client_id: ClientId, key: PublicKey, now: int) -> None:
        """Record that a pin was compared: only if it still has this key."""
        with self._database.transaction():
            self._database.run(
                "UPDATE pin SET verified_at = ? WHERE client_id = ? AND public_key = ?", now, client_id, key
            )
