"""The passphrase of store.db: which columns are secret, and how each is sealed for its place.

Owns: the list of secrets, the wrapped data key, and the change from sealed to clear and back.
Promises: with a passphrase no secret is unencrypted, and one that was altered or moved is detected
and not used. One commit decides a change: it puts the new texts of the identity files into
`rewrite`, from where whoever opens the home next writes them, so that store and files agree after
any crash.
Exposure: reads what somebody who can write to the home may have altered.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from client import paths
from client.crypto.ciphers import RandomBytes
from client.crypto.sealed_storage import DataKey
from client.errors import CipherError, PassphraseNeeded, PassphraseWrong, StoreUnusable
from client.store.database import Database, SqlValue


class Secret(NamedTuple):
    """A column that is sealed if the home has a passphrase, and the columns that identify its rows.

    A sealed text is stored as base64. The columns in `known_by` never change in a row; they are
    authenticated with the secret, so that it opens only in its own row.
    """

    table: str
    column: str
    known_by: tuple[str, ...]

    def place(self, *values: SqlValue) -> bytes:
        """Return what is authenticated with the secret of one row."""
        assert len(values) == len(self.known_by)
        told = [value.hex() if isinstance(value, bytes) else str(value) for value in values]
        return "\0".join((self.table, self.column, *told)).encode("utf-8")


KEY: Final = Secret("shared_key", "key", ("number", "contact", "made", "sealed_to", "message"))
INBOX_CONTENT: Final = Secret("inbox", "content", ("number", "sender", "kind", "digest"))
SAVED_PATH: Final = Secret("inbox", "saved_path", ("number", "sender"))
OUTBOX_CONTENT: Final = Secret("outbox", "content", ("number", "token", "recipient", "kind"))
OUTBOX_PROBLEM: Final = Secret("outbox", "problem", ("number", "recipient"))
ACKNOWLEDGED_CONTENT: Final = Secret("acknowledged", "content", ("number", "token", "recipient", "kind"))
SENT_TEXT: Final = Secret("sent", "text", ("number", "recipient", "queued_at"))
SENT_PATH: Final = Secret("sent", "path", ("number", "recipient", "queued_at"))
SENT_PROBLEM: Final = Secret("sent", "problem", ("number", "recipient", "queued_at"))
OWN_KEYS: Final = Secret("own_keys", "state", ("number",))
PEER_STATE: Final = Secret("peer", "state", ("number", "client_id"))
SECRETS: Final = (
    KEY, INBOX_CONTENT, SAVED_PATH, OUTBOX_CONTENT, OUTBOX_PROBLEM, ACKNOWLEDGED_CONTENT, SENT_TEXT, SENT_PATH,
    SENT_PROBLEM, OWN_KEYS, PEER_STATE,
)  # fmt: skip
ERASE_DUE: Final = "erase_due"
"""The setting that says that content from before the passphrase changed may still be in the file's
free space.
"""


class Sealing:
    """The secrets of one database, and its passphrase."""

    def __init__(self, database: Database, random_bytes: RandomBytes, unlocked: "Sealing | None" = None) -> None:
        self.database = database
        self._random_bytes = random_bytes
        self._key: DataKey | None = None if unlocked is None else unlocked._key
        # It does not change while we have the store open.
        self.wrapped = self._wrapped_key()

    @property
    def has_passphrase(self) -> bool:
        """Whether its secrets are sealed."""
        return self.wrapped is not None

    @property
    def is_locked(self) -> bool:
        """Whether it has a passphrase that was not given yet."""
        return self.wrapped is not None and self._key is None

    def unlock(self, passphrase: str) -> None:
        """Unlock with the passphrase. Raises `PassphraseWrong`."""
        assert self.wrapped is not None
        key = DataKey.unwrap(self.wrapped, passphrase, self._random_bytes)
        if key is None:
            raise PassphraseWrong(
                f"That is not the passphrase of {self.database.path.parent}; nothing was changed.", "Try again."
            )
        self._key = key

    def seal_under(self, passphrase: str | None, files: Mapping[str, str]) -> None:
        """Seal all secrets under a passphrase, or none for None, in one transaction. Only if nobody
        else has the store open, and not locked.

        `files` are the identity files' new texts; `settle` writes them. Another passphrase for a
        store that has one wraps the data key again and touches no row.
        """
        key = None if passphrase is None else self._unlocked() or DataKey.new(self._random_bytes)
        wrapped = None if passphrase is None or key is None else key.wrap(passphrase)
        # Overwritten content leaves nothing in the pages.
        self.database.overwrite_freed()
        with self.database.transaction():
            if (key is None) != (self._key is None):
                for secret in SECRETS:
                    self._convert(secret, self._key, key)
            self.database.run("DELETE FROM vault")
            if wrapped is not None:
                self.database.run("INSERT INTO vault VALUES (1, ?)", wrapped)
            self.database.run("DELETE FROM rewrite")
            for name, content in files.items():
                self.database.run("INSERT INTO rewrite VALUES (?, ?)", name, content)
            self.database.run("INSERT OR REPLACE INTO setting VALUES (?, '1')", ERASE_DUE)
        self._key, self.wrapped = key, wrapped

    def _convert(self, secret: Secret, old: DataKey | None, new: DataKey | None) -> None:
        columns = ", ".join((secret.column, *secret.known_by))
        # The names are our own.
        numbers = self.database.rows(f"SELECT number FROM {secret.table} WHERE {secret.column} IS NOT NULL")  # noqa: S608
        for (number,) in numbers:
            ((value, *known),) = self.database.rows(f"SELECT {columns} FROM {secret.table} WHERE number = ?", number)  # noqa: S608
            place = secret.place(*known)
            try:
                plain = _opened(old, place, value)
                if isinstance(plain, str) and not paths.is_utf8(plain):
                    # A path, sealed by an earlier version.
                    plain = paths.kept(paths.from_kept(plain))
            except CipherError as error:
                raise StoreUnusable(
                    f"Row {number} of {secret.table} in {self.database.path} was altered or is damaged; nothing "
                    "was changed.",
                    "`messageu doctor` counts such rows. The passphrase can be changed, but not removed, with them.",
                ) from error
            self.database.run(
                f"UPDATE {secret.table} SET {secret.column} = ? WHERE number = ?",  # noqa: S608
                _sealed(new, place, plain),
                number,
            )

    @property
    def is_unsettled(self) -> bool:
        """Whether files are left to be written."""
        return bool(self.database.rows("SELECT 1 FROM rewrite LIMIT 1"))

    def settle(self, write: Callable[[str, str], None]) -> None:
        """Write the files that the last change of the passphrase, or of the server, left to be
        written.
        """
        if not self.is_unsettled:
            return
        # Within the transaction, so that no other process does the same.
        with self.database.transaction():
            for name, content in self.database.rows("SELECT name, content FROM rewrite"):
                write(name, content)
            self.database.run("DELETE FROM rewrite")

    def damaged_rows(self) -> list[str]:
        """Check every secret; return the rows where one was altered, moved or damaged:
        `inbox 12`.
        """
        key, found = self._unlocked(), []
        for secret in SECRETS:
            columns = ", ".join(("number", secret.column, *secret.known_by))
            query = f"SELECT {columns} FROM {secret.table} WHERE {secret.column} IS NOT NULL"  # noqa: S608
            for number, value, *known in self.database.rows(query):
                try:
                    _opened(key, secret.place(*known), value)
                except CipherError:
                    found.append(f"{secret.table} {number}")
        return found

    def _wrapped_key(self) -> bytes | None:
        value = self.database.value("SELECT wrapped FROM vault")
        return value if isinstance(value, bytes) else None

    def _unlocked(self) -> DataKey | None:
        if self.is_locked:
            raise PassphraseNeeded("This home is locked with a passphrase.", "Give it first.")
        return self._key

    def seal(self, secret: Secret, value: SqlValue, *known: SqlValue) -> SqlValue:
        """Return a value as its column holds it."""
        return _sealed(self._unlocked(), secret.place(*known), value)

    def open(self, secret: Secret, value: Any, *known: SqlValue) -> Any:
        """Return a column's value. Raises `CipherError` if the row was altered."""
        # Any: as in `Database.rows`.
        return _opened(self._unlocked(), secret.place(*known), value)


def _sealed(key: DataKey | None, place: bytes, value: SqlValue) -> SqlValue:
    if key is None or value is None:
        return value
    if isinstance(value, bytes):
        return key.seal(place, value)
    return base64.b64encode(key.seal(place, str(value).encode("utf-8", "surrogateescape"))).decode("ascii")


def _opened(key: DataKey | None, place: bytes, value: SqlValue) -> SqlValue:
    """Raises `CipherError`."""
    if key is None or value is None:
        return value
    if isinstance(value, bytes):
        return key.open(place, value)
    try:
        sealed = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CipherError("it was altered or is damaged") from error
    return key.open(place, sealed).decode("utf-8", "surrogateescape")
