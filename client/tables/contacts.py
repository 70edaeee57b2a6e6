"""Whom the server listed, now or earlier.

Owns: the contact rows; who is who by trust, `client.tables.pins`.
Promises: nobody who was ever listed is forgotten.
Exposure: names are the server's, unchecked.
"""

from collections.abc import Iterable
from typing import NamedTuple

from client.tables.database import Database
from common.values import ClientId


class ContactRow(NamedTuple):
    """Somebody whom the server listed, now or earlier."""

    client_id: ClientId
    name: str
    listed: bool


class ContactTable:
    """The server's lists."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[ContactRow]:
        """Everybody who was ever listed."""
        rows = self._database.rows("SELECT client_id, name, listed FROM contact ORDER BY name, client_id")
        return [ContactRow(client_id, name, bool(listed)) for client_id, name, listed in rows]

    def replace_list(self, users: Iterable[tuple[ClientId, str]]) -> None:
        """Take over the server's list: who is not on it any more stays known, as not listed."""
        with self._database.transaction():
            self._database.run("UPDATE contact SET listed = 0")
            for client_id, name in users:
                self._database.run(
                    "INSERT INTO contact (client_id, name, listed) VALUES (?, ?, 1) "
                    "ON CONFLICT (client_id) DO UPDATE SET name = excluded.name, listed = 1",
                    client_id,
                    name,
                )
