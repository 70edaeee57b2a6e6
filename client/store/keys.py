"""Symmetric keys, made here or received: kept for decrypting for ever, and used for sending while
usable.

Owns: the keys, and whether a contact was asked for one.
Promises: a key is never replaced by another; a damaged one is ignored, as if it had never come.
Exposure: as `client.store.home_store`.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from client.crypto.ciphers import SymmetricKey
from client.errors import CipherError
from client.store.database import Database, SqlValue
from client.store.inbox import InboxTable
from client.store.sealing import KEY, Sealing
from common.values import ClientId, PublicKey

MOST_BEFORE: Final = 64
"""How many of a contact's keys from before a message are tried with it."""
MOST_BEHIND: Final = 16
"""The same for those from after it."""
MOST_CALLED_BACK: Final = 4
"""How often an unreadable message is returned once more because of another key of its sender."""
_COLUMNS: Final = "number, key, usable, made, sealed_to, message"
_ABOVE_ALL: Final = 2**63 - 1


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
        """All symmetric keys ever shared with a contact, newest first. There may be very many.

        A damaged one is ignored, here and below, as if it had never come: `damaged_rows` names it.
        """
        return self._found(contact, "number > 0 ORDER BY number DESC")

    def newest(self, contact: ClientId, most: int) -> list[KeyRow]:
        """The newest `most` of them, newest first."""
        return self._found(contact, "number > 0 ORDER BY number DESC LIMIT ?", most)

    def near(self, contact: ClientId, message: int) -> list[KeyRow]:
        """Those that the message with this inbox number may be encrypted under, newest first. A key
        comes before what is encrypted under it. So these are the last ones before the message, some
        after it, in case one was late, and the newest of all. However many keys a contact sends,
        the cost of a message does not grow.
        """
        # The newest key that anybody sent before it: numbers of keys and of messages grow together.
        before = int(
            self._database.value(
                "SELECT number FROM shared_key WHERE message <= ? ORDER BY message DESC LIMIT 1", message
            )
            or 0
        )
        found = [
            *self.newest(contact, MOST_BEFORE),
            *self._found(contact, "number <= ? ORDER BY number DESC LIMIT ?", before, MOST_BEFORE),
            *self._found(contact, "number > ? ORDER BY number LIMIT ?", before, MOST_BEHIND),
        ]
        return sorted(dict.fromkeys(found), key=_number, reverse=True)

    def numbered(self, contact: ClientId, number: int) -> KeyRow | None:
        """The one with this number, if it is shared with this contact."""
        found = self._found(contact, "number = ?", number)
        return found[0] if found else None

    def newest_usable(self, contact: ClientId, sealed_to: PublicKey | None) -> KeyRow | None:
        """The newest that encrypts; with `sealed_to`, the newest that was made here and sealed to
        this public key.
        """
        below = _ABOVE_ALL
        while True:
            rows = self._rows(
                contact,
                "number < ? AND usable AND (? IS NULL OR (made AND sealed_to = ?)) ORDER BY number DESC LIMIT 16",
                below,
                sealed_to,
                sealed_to,
            )
            for row in self._opened(contact, rows):
                return row
            if not rows:
                return None
            below = rows[-1][0]

    def _found(self, contact: ClientId, condition: str, *values: int) -> list[KeyRow]:
        return list(self._opened(contact, self._rows(contact, condition, *values)))

    def _rows(self, contact: ClientId, condition: str, *values: SqlValue) -> list[tuple[Any, ...]]:
        # The condition is our own text.
        query = f"SELECT {_COLUMNS} FROM shared_key WHERE contact = ? AND {condition}"  # noqa: S608
        return self._database.rows(query, contact, *values)

    def _opened(self, contact: ClientId, rows: Iterable[tuple[Any, ...]]) -> Iterator[KeyRow]:
        for number, sealed, usable, made, sealed_to, message in rows:
            with contextlib.suppress(CipherError):
                key = self._sealing.open(KEY, sealed, number, contact, made, sealed_to, message)
                yield KeyRow(number, key, bool(usable), bool(made), sealed_to)

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
        """Forget a key that definitely never left."""
        with self._database.transaction():
            self._database.run("DELETE FROM shared_key WHERE number = ?", number)

    def add_received(self, contact: ClientId, key: SymmetricKey, now: int, message: int) -> None:
        """Keep the key that a message brought, and return unreadable messages once more. Doing it
        twice changes nothing. After `MOST_CALLED_BACK` times a message is not returned again:
        otherwise a sender of keys and unreadable messages in turn would have all of them returned
        for each key.
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
                last = self._database.value(
                    "SELECT message FROM shared_key WHERE contact = ? AND message IS NOT NULL "
                    "ORDER BY number DESC LIMIT 1 OFFSET ?",
                    contact,
                    MOST_CALLED_BACK,
                )
                self._inbox.call_back(contact, behind=int(last or 0))

    def copy(self, old: ClientId, new: ClientId, now: int) -> None:
        """Let the keys of one id decrypt messages from another id of the same person; none of them
        encrypts.
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
        """Note that a contact was asked for a symmetric key."""
        with self._database.transaction():
            self._database.run("UPDATE contact SET key_asked = 1 WHERE client_id = ?", contact)

    def asked_since(self, contact: ClientId, number: int) -> bool:
        """Whether a contact has asked for a key since the one of this number was added:
        they may have lost it.
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
        """Whether the key in a message came unasked while one was in use; None if the message has
        no key.
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


def _number(row: KeyRow) -> int:
    return row.number
