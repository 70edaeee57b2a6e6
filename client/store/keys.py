"""Symmetric keys: made here or received, for decrypting for ever and for sending while usable.

Owns: the keys, and whether a contact was asked for one.
Promises: a key is never replaced by another; a damaged one is passed over, as if it had never come.
Exposure: as `client.store.home_store`.
"""

import contextlib
from typing import NamedTuple

from client.crypto.ciphers import SymmetricKey
from client.store.database import Database
from client.store.inbox import InboxTable
from client.store.sealing import KEY, Sealing
from common.errors import CipherError
from common.values import ClientId, PublicKey


class KeyRow(NamedTuple):
    """A symmetric key that is, or was, shared with a contact."""

    number: int
    key: SymmetricKey
    usable: bool
    made: bool = False
    sealed_to: PublicKey | None = None


class KeyTable:
    """The keys shared with every contact."""

    def __init__(self, database: Database, sealing: Sealing, inbox: InboxTable) -> None:
        self._database = database
        self._sealing = sealing
        self._inbox = inbox

    def of(self, contact: ClientId) -> list[KeyRow]:
        """All symmetric keys ever shared with a contact, the newest first.

        A damaged one is passed over, as if it had never come: `damaged_rows` names it.
        """
        rows = self._database.rows(
            "SELECT number, key, usable, made, sealed_to, message FROM shared_key WHERE contact = ? "
            "ORDER BY number DESC",
            contact,
        )
        found = []
        for number, sealed, usable, made, sealed_to, message in rows:
            with contextlib.suppress(CipherError):
                key = self._sealing.open(KEY, sealed, number, contact, made, sealed_to, message)
                found.append(KeyRow(number, key, bool(usable), bool(made), sealed_to))
        return found

    def add_made(self, contact: ClientId, key: SymmetricKey, now: int, sealed_to: PublicKey | None = None) -> int:
        """Keep a key that was made here. It decrypts from now on, and encrypts once it is
        confirmed.
        """
        with self._database.transaction():
            number = self._database.next_number("shared_key")
            self._database.run(
                "INSERT INTO shared_key (number, contact, key, made, usable, added_at, sealed_to, after) "
                "VALUES (?, ?, ?, 1, 0, ?, ?, (SELECT coalesce(max(number), 0) FROM inbox))",
                number,
                contact,
                self._sealing.seal(KEY, key, number, contact, 1, sealed_to, None),
                now,
                sealed_to,
            )
            return number

    def confirm(self, number: int) -> None:
        """Use a key: the server has the message with it, or gets it before anything that
        is encrypted from now on.
        """
        with self._database.transaction():
            self._database.run("UPDATE shared_key SET usable = 1 WHERE number = ?", number)

    def drop(self, number: int) -> None:
        """Forget a key that surely never left."""
        with self._database.transaction():
            self._database.run("DELETE FROM shared_key WHERE number = ?", number)

    def add_received(self, contact: ClientId, key: SymmetricKey, now: int, message: int) -> None:
        """Keep the key that a message brought, and call back what was unreadable. Doing
        it twice changes nothing.
        """
        with self._database.transaction():
            unasked = self._replaces_unasked(contact)
            number = self._database.next_number("shared_key")
            self._database.run(
                "INSERT INTO shared_key (number, contact, key, made, usable, added_at, message, unasked, after) "
                "VALUES (?1, ?2, ?3, 0, 1, ?4, ?5, ?6, ?5) ON CONFLICT (message) DO NOTHING",
                number,
                contact,
                self._sealing.seal(KEY, key, number, contact, 0, None, message),
                now,
                message,
                unasked,
            )
            if self._database.changed():
                self._database.run("UPDATE contact SET key_asked = 0 WHERE client_id = ?", contact)
                self._inbox.call_back(contact)

    def copy(self, old: ClientId, new: ClientId, now: int) -> None:
        """Have what was shared with one id decrypt what comes from another of the same
        person; none encrypts.
        """
        with self._database.transaction():
            for row in reversed(self.of(old)):
                number = self._database.next_number("shared_key")
                self._database.run(
                    "INSERT INTO shared_key (number, contact, key, made, usable, added_at, sealed_to, after) "
                    "VALUES (?, ?, ?, ?, 0, ?, ?, (SELECT coalesce(max(number), 0) FROM inbox))",
                    number,
                    new,
                    self._sealing.seal(KEY, row.key, number, new, int(row.made), row.sealed_to, None),
                    int(row.made),
                    now,
                    row.sealed_to,
                )
            self._inbox.call_back(new)

    def ask(self, contact: ClientId) -> None:
        """Note that a contact is asked for a symmetric key."""
        with self._database.transaction():
            self._database.run("UPDATE contact SET key_asked = 1 WHERE client_id = ?", contact)

    def asked_since(self, contact: ClientId, number: int) -> bool:
        """Whether a contact has asked for a key since the one of this number was added:
        he may have lost it.
        """
        return bool(
            self._database.value(
                "SELECT EXISTS (SELECT 1 FROM inbox WHERE sender = ?1 AND kind = 1 "
                "AND number > (SELECT after FROM shared_key WHERE number = ?2))",
                contact,
                number,
            )
        )

    def came_unasked(self, message: int) -> bool | None:
        """Whether the key that a message brought came unasked while one was in use; None:
        that message brought none.
        """
        value = self._database.value("SELECT unasked FROM shared_key WHERE message = ?", message)
        return None if value is None else bool(value)

    def _replaces_unasked(self, contact: ClientId) -> bool:
        return bool(
            self._database.value(
                "SELECT EXISTS (SELECT 1 FROM shared_key WHERE contact = ?1 AND usable) "
                "AND NOT EXISTS (SELECT 1 FROM contact WHERE client_id = ?1 AND key_asked)",
                contact,
            )
        )
