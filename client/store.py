"""The home's store.db: what must outlive the program.

Owns: the only SQLite of the client, its schema, and the folder of large contents beside it.
Promises: what a method stored is on disk when it returns (WAL, synchronous=FULL); the files are mode 0600; a failure
is a `StoreBroken` that says what to do. Several processes may use one home; one at a time receives (`receiver`), and
one at a time empties the outbox (`sender`).
Where the home has a passphrase, every secret in it (`_SECRETS`) is sealed for its place in the store.
Exposure: holds shared keys and mail; without a passphrase in the clear: who can read the home can read them. With one
it holds what somebody who can write to the home may have altered or moved: such a row is found, and not believed.

A received message's states:

    state       means                                     leaves when
    ─────────   ───────────────────────────────────────   ──────────────────────────────────────────────
    RECEIVED    on disk, nobody has seen it               it is about to be shown → SHOWING
    SHOWING     shown, or about to be when we died        it was shown → SHOWN or UNREADABLE;
                                                          found so at a start → shown once more, as repeated
    SHOWN       the user has it                           never
    UNREADABLE  the user was told that it can't be read   a key of its sender comes → RECEIVED, as late

Source: docs/guarantees.md, docs/journeys.md.
"""

import base64
import binascii
import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Self

import apsw

from client.ciphers import RandomBytes, SymmetricKey
from client.vault import Vault
from common.disk import sync_folder
from common.errors import CipherError, HomeInUse, PassphraseNeeded, PassphraseWrong, StoreBroken
from common.values import ClientId, MessageKind, PublicKey, Token
from common.wire.fields import message_id

STORE_FILE: Final = "store.db"
SPOOL_FOLDER: Final = "store.spool"
LOCK_FILE: Final = "store.lock"
SENDER_LOCK_FILE: Final = "outbox.lock"
WATCH_LOCK_FILE: Final = "watch.lock"
USE_FILE: Final = "store.use"
"""Locked, shared by all who have the store open; whoever changes the passphrase wants it alone."""
_APPLICATION_ID: Final = 0x4D534755
_SCHEMA_VERSION: Final = 5
_BUSY_MS: Final = 5000
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SNAPSHOT_TRIES: Final = 5
_ORPHAN_AGE: Final = 24 * 3600 * 1000
"""Milliseconds."""

SqlValue = int | str | bytes | None
"""What this schema's columns hold."""

_SCHEMA: Final = """
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contact (
    client_id  BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    listed     INTEGER NOT NULL,          -- whether the server's last list had it
    public_key BLOB                       -- of old homes, whose keys are pins since
) STRICT, WITHOUT ROWID;

CREATE TABLE shared_key (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    contact  BLOB NOT NULL,
    key      BLOB NOT NULL,
    made     INTEGER NOT NULL,            -- 1: made here, 0: received
    usable   INTEGER NOT NULL,            -- whether we encrypt with it: the other side gets it before what follows
    added_at INTEGER NOT NULL,
    message  INTEGER UNIQUE               -- the inbox number that brought it
) STRICT;
CREATE INDEX shared_key_of ON shared_key (contact, number);

CREATE TABLE pull (                       -- a 604 that brought messages
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    complete INTEGER NOT NULL             -- whether its reply came to its end
) STRICT;

CREATE TABLE inbox (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    sender        BLOB NOT NULL,
    kind          INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    content       BLOB,                   -- a small content, as it came
    spool         TEXT,                   -- the file that holds a large one
    digest        BLOB NOT NULL,          -- SHA-256 of the content as it came
    server_number INTEGER NOT NULL,       -- 2104's message id, 2143's sequence
    token         BLOB,                   -- 2143's
    pull          INTEGER,                -- 2104's
    received_at   INTEGER NOT NULL,       -- Unix ms, our clock
    accepted_at   INTEGER,                -- Unix ms, the server's clock
    sender_proven INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    repeated      INTEGER NOT NULL,       -- may have been shown before
    late          INTEGER NOT NULL,       -- was shown as unreadable before
    saved_path    TEXT                    -- where a file went
) STRICT;
CREATE UNIQUE INDEX inbox_token ON inbox (sender, token) WHERE token IS NOT NULL;
CREATE INDEX inbox_unread ON inbox (number) WHERE state < 2;
CREATE INDEX inbox_unreadable ON inbox (sender, number) WHERE state = 3;
CREATE INDEX inbox_pull ON inbox (pull, sender, server_number) WHERE pull IS NOT NULL;

CREATE TABLE outbox (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    token     BLOB NOT NULL UNIQUE,
    recipient BLOB NOT NULL,
    kind      INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    content   BLOB,                       -- a small content, as it is sent
    spool     TEXT,                       -- the file that holds a large one
    shared_key INTEGER,                   -- the number of the key that it carries
    queued_at INTEGER NOT NULL,           -- Unix ms, our clock
    problem   TEXT                        -- why it was refused for good; NULL: it waits
) STRICT;

CREATE TABLE server (                     -- the one this identity has proven itself to
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    server_id  BLOB NOT NULL,
    generation INTEGER NOT NULL,
    ack        INTEGER NOT NULL           -- everything up to this sequence of its is in the inbox
) STRICT;
"""

_HISTORY: Final = """
CREATE TABLE sent (                       -- texts and files that left, or were to leave, for the user to look up
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient  BLOB NOT NULL,
    kind       INTEGER NOT NULL,
    text       TEXT,                      -- of a type 3
    path       TEXT,                      -- of a type 4
    queued_at  INTEGER NOT NULL,          -- Unix ms, our clock
    stored_at  INTEGER,                   -- Unix ms, our clock: the server has it
    message_id INTEGER,                   -- 2103's
    problem    TEXT,                      -- why it was refused for good
    outbox     INTEGER UNIQUE             -- its outbox number, where it went through the outbox
) STRICT;
"""
_PINS: Final = """
CREATE TABLE pin (                        -- under which id and key a name was first met
    client_id     BLOB PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    public_key    BLOB NOT NULL,
    since         INTEGER NOT NULL,       -- Unix ms
    verified_at   INTEGER,                -- both sides saw the same safety number
    offered_id    BLOB,                   -- what the server names now, where that is something else
    offered_key   BLOB,
    offered_since INTEGER
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO pin (client_id, name, public_key, since)
    SELECT client_id, name, public_key, unixepoch() * 1000 FROM contact WHERE public_key IS NOT NULL;
ALTER TABLE contact ADD COLUMN key_asked INTEGER NOT NULL DEFAULT 0;  -- whether we wait for a symmetric key
ALTER TABLE shared_key ADD COLUMN sealed_to BLOB;  -- for one made here: the public key it was sealed to
"""
_LOCK: Final = """
CREATE TABLE vault (                      -- the home has a passphrase, and what _SECRETS names is sealed
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    wrapped BLOB NOT NULL                 -- the data key, under the passphrase
) STRICT;

CREATE TABLE rewrite (                    -- identity files that are to be written as the passphrase now wants them
    name    TEXT PRIMARY KEY,
    content TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
_UNASKED: Final = """
ALTER TABLE shared_key ADD COLUMN unasked INTEGER NOT NULL DEFAULT 0;  -- it came unasked while one was in use
"""
_LATER_PARTS: Final = ((2, _HISTORY), (3, _PINS), (4, _LOCK), (5, _UNASKED))
"""What each version of the schema added to the one before."""


class _Secret(NamedTuple):
    """A column that is sealed where the home has a passphrase, and what its rows are known by.

    A sealed text is stored as base64. The columns in `known_by` never change in a row; they are authenticated with the
    secret, so that it opens in its own row alone.
    """

    table: str
    column: str
    known_by: tuple[str, ...]

    def place(self, *values: SqlValue) -> bytes:
        """What is authenticated with the secret of one row."""
        assert len(values) == len(self.known_by)
        told = [value.hex() if isinstance(value, bytes) else str(value) for value in values]
        return "\0".join((self.table, self.column, *told)).encode("utf-8")


_KEY: Final = _Secret("shared_key", "key", ("number", "contact", "made", "sealed_to", "message"))
_INBOX_CONTENT: Final = _Secret("inbox", "content", ("number", "sender", "kind", "digest"))
_SAVED_PATH: Final = _Secret("inbox", "saved_path", ("number", "sender"))
_OUTBOX_CONTENT: Final = _Secret("outbox", "content", ("number", "token", "recipient", "kind"))
_OUTBOX_PROBLEM: Final = _Secret("outbox", "problem", ("number", "recipient"))
_SENT_TEXT: Final = _Secret("sent", "text", ("number", "recipient", "queued_at"))
_SENT_PATH: Final = _Secret("sent", "path", ("number", "recipient", "queued_at"))
_SENT_PROBLEM: Final = _Secret("sent", "problem", ("number", "recipient", "queued_at"))
_SECRETS: Final = (
    _KEY, _INBOX_CONTENT, _SAVED_PATH, _OUTBOX_CONTENT, _OUTBOX_PROBLEM, _SENT_TEXT, _SENT_PATH, _SENT_PROBLEM,
)  # fmt: skip
_ERASE_DUE: Final = "erase_due"
"""The setting that says: what lay here before the passphrase changed may still be in the file's free space."""


class MessageState(IntEnum):
    """How far a received message has come; the table in this module's head."""

    RECEIVED = 0
    SHOWING = 1
    SHOWN = 2
    UNREADABLE = 3


class ContactRow(NamedTuple):
    """Somebody whom the server listed, now or earlier."""

    client_id: ClientId
    name: str
    listed: bool


class KeyRow(NamedTuple):
    """A symmetric key that is, or was, shared with a contact."""

    number: int
    key: SymmetricKey
    usable: bool
    made: bool = False
    sealed_to: PublicKey | None = None


class NewMessage(NamedTuple):
    """A message as it came from the server. A large content is in the spool file `spool`."""

    sender: ClientId
    kind: int
    size: int
    content: bytes | None
    spool: str | None
    digest: bytes
    server_number: int
    token: bytes | None
    accepted_at: int | None
    sender_proven: bool


class InboxRow(NamedTuple):
    """A received message as it is kept."""

    number: int
    sender: ClientId
    kind: int
    size: int
    content: bytes | None
    spool: str | None
    received_at: int
    accepted_at: int | None
    sender_proven: bool
    repeated: bool
    late: bool
    saved_path: str | None
    damaged: bool = False
    """Sealed, and altered or moved since: there is neither content nor path."""


class OutboxRow(NamedTuple):
    """An outgoing message as it is kept."""

    number: int
    token: Token
    recipient: ClientId
    kind: int
    size: int
    content: bytes | None
    spool: str | None
    queued_at: int
    damaged: bool = False
    """Sealed, and altered or moved since: there is no content."""


class PinRow(NamedTuple):
    """Under which id and key a name was first met, and what the server names now where that is something else."""

    client_id: ClientId
    name: str
    public_key: PublicKey
    since: int
    verified_at: int | None
    offered_id: ClientId | None
    offered_key: PublicKey | None
    offered_since: int | None


class Outgoing(NamedTuple):
    """What the history keeps of a message that is sent: its text, or the path of the file."""

    text: str | None
    path: str | None


class SentRow(NamedTuple):
    """An outgoing text or file as the history has it. With neither `stored_at` nor `problem` it waits where
    `waiting`, and else nobody knows whether the server has it.
    """

    number: int
    recipient: ClientId
    kind: int
    text: str | None
    path: str | None
    queued_at: int
    stored_at: int | None
    message_id: int | None
    problem: str | None
    waiting: bool
    outbox: int | None
    damaged: bool = False
    """Sealed, and altered or moved since."""


class ServerRow(NamedTuple):
    """The server that this identity belongs to, and how far its mail was fetched."""

    server_id: bytes
    generation: int
    ack: int


class SpoolFile:
    """A large content on its way to disk. `keep` makes it last; without it nothing stays."""

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(16)
        self._folder = folder
        self._path = folder / self.name
        with told(self._path):
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = open(descriptor, "w+b", buffering=0)  # noqa: PTH123, SIM115 - closed by keep and discard

    def write(self, data: bytes) -> None:
        """Append. Raises `StoreBroken` (no room)."""
        view = memoryview(data)
        with told(self._path):
            while view:
                view = view[self._file.write(view) :]

    def keep(self) -> str:
        """Sync the content and give the name under which the store finds it."""
        with told(self._path):
            os.fsync(self._file.fileno())
            self._file.close()
            sync_folder(self._folder)
        return self.name

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Store:
    """The home's database. Used from one thread."""

    def __init__(self, home: Path, database: apsw.Connection, use: int, random_bytes: RandomBytes = os.urandom) -> None:
        self._home = home
        self._database = database
        self._use = use
        self._random_bytes = random_bytes
        self._snapshots: list[BinaryIO] = []
        self._vault: Vault | None = None
        # Nobody changes it while we have the store open.
        self._wrapped = self._wrapped_key()

    @classmethod
    def open(cls, home: Path) -> Self:
        """Open the home's store, making it where there is none. Raises `StoreBroken`."""
        path = home / STORE_FILE
        with told(path):
            # Made before SQLite does, so that neither it nor its WAL is ever readable by others.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
            use = os.open(home / USE_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                # Waits while another process changes the passphrase.
                fcntl.flock(use, fcntl.LOCK_SH)
                database = apsw.Connection(str(path))
                try:
                    _prepare(path, database)
                    return cls(home, database, use)
                except BaseException:
                    database.close()
                    raise
            except BaseException:
                os.close(use)
                raise

    def another(self) -> Self:
        """Open the same store once more, for another thread; the passphrase is given already."""
        opened = type(self).open(self._home)
        opened._vault = self._vault
        return opened

    def close(self) -> None:
        """Close the database. Doing it twice changes nothing."""
        self._database.close()
        while self._snapshots:
            self._snapshots.pop().close()
        if self._use >= 0:
            os.close(self._use)
            self._use = -1

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[BinaryIO]:
        """Give the database file to be read whole, while nobody can write to it. Raises `StoreBroken` (busy)."""
        path = self._home / STORE_FILE
        with told(path):
            for _ in range(_SNAPSHOT_TRIES):
                next(self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
                self._database.execute("BEGIN IMMEDIATE")
                wal = path.with_name(f"{STORE_FILE}-wal")
                if not wal.exists() or wal.stat().st_size == 0:
                    break
                # Somebody wrote in between, or still reads what was there before.
                self._database.execute("ROLLBACK")
            else:
                raise StoreBroken(f"{path} is busy; nothing was exported.", "Try again.")
        try:
            with told(path):
                file = path.open("rb")
            # Closed with the database: to close any descriptor of the file gives up SQLite's locks on it.
            self._snapshots.append(file)
            yield file
        finally:
            self._roll_back()

    @contextlib.contextmanager
    def receiver(self) -> Iterator[None]:
        """Be the one process of this home that receives or registers. Raises `HomeInUse`."""
        with self._lock(LOCK_FILE, wait=False) as held:
            if not held:
                raise HomeInUse("Another process receives for this home.", "Use that one, or end it and try again.")
            yield

    @contextlib.contextmanager
    def sender(self, *, wait: bool) -> Iterator[bool]:
        """Be the one process of this home that empties the outbox: whether it is so. `wait`: until it is."""
        with self._lock(SENDER_LOCK_FILE, wait=wait) as held:
            yield held

    @contextlib.contextmanager
    def watcher(self) -> Iterator[None]:
        """Be the one process of this home that hands messages out behind the watch's cursor; waits until it is."""
        with self._lock(WATCH_LOCK_FILE, wait=True):
            yield

    @contextlib.contextmanager
    def _lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        path = self._home / name
        with told(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one process, and the one `Store`, that has this home open. Raises `HomeInUse`."""
        with told(self._home / USE_FILE):
            try:
                fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                # The attempt may have cost the shared one.
                fcntl.flock(self._use, fcntl.LOCK_SH)
                raise HomeInUse(
                    "Another process works in this home; nothing was changed.",
                    "End it (a console, a watch, a chat) and try again.",
                ) from error
        try:
            yield
        finally:
            fcntl.flock(self._use, fcntl.LOCK_SH)

    # --- the passphrase -----------------------------------------------------------------------------------------
    #
    # One commit decides. With it the identity files as they are to be go into `rewrite`; from there they are written
    # by whoever opens the home next, so that no crash leaves the two apart.

    @property
    def has_passphrase(self) -> bool:
        """Whether its secrets are sealed."""
        return self._wrapped is not None

    @property
    def is_locked(self) -> bool:
        """Whether it has a passphrase that was not given yet."""
        return self._wrapped is not None and self._vault is None

    def unlock(self, passphrase: str) -> None:
        """Take the passphrase. Raises `PassphraseWrong`."""
        assert self._wrapped is not None
        vault = Vault.unwrap(self._wrapped, passphrase, self._random_bytes)
        if vault is None:
            raise PassphraseWrong(f"That is not the passphrase of {self._home}; nothing was changed.", "Try again.")
        self._vault = vault

    def seal_under(self, passphrase: str | None, files: Mapping[str, str]) -> None:
        """Seal all secrets under a passphrase, or none for None, in one transaction. Only `alone`, and not locked.

        `files` are the identity files' new texts; `settle` writes them. Another passphrase for a store that has one
        wraps the data key anew and touches no row.
        """
        vault = None if passphrase is None else self._unlocked() or Vault.new(self._random_bytes)
        wrapped = None if passphrase is None or vault is None else vault.wrap(passphrase)
        # What is overwritten leaves nothing in the pages.
        self._database.execute("PRAGMA secure_delete = ON")
        with self._transaction():
            if (vault is None) != (self._vault is None):
                for secret in _SECRETS:
                    self._convert(secret, self._vault, vault)
            self._run("DELETE FROM vault")
            if wrapped is not None:
                self._run("INSERT INTO vault VALUES (1, ?)", wrapped)
            self._run("DELETE FROM rewrite")
            for name, content in files.items():
                self._run("INSERT INTO rewrite VALUES (?, ?)", name, content)
            self._run("INSERT OR REPLACE INTO setting VALUES (?, '1')", _ERASE_DUE)
        self._vault, self._wrapped = vault, wrapped

    def _convert(self, secret: _Secret, old: Vault | None, new: Vault | None) -> None:
        columns = ", ".join((secret.column, *secret.known_by))
        # The names are our own.
        numbers = self._rows(f"SELECT number FROM {secret.table} WHERE {secret.column} IS NOT NULL")  # noqa: S608
        for (number,) in numbers:
            ((value, *known),) = self._rows(f"SELECT {columns} FROM {secret.table} WHERE number = ?", number)  # noqa: S608
            place = secret.place(*known)
            try:
                plain = _opened(old, place, value)
            except CipherError as error:
                raise StoreBroken(
                    f"Row {number} of {secret.table} in {self._home / STORE_FILE} was altered or is damaged; nothing "
                    "was changed.",
                    "`messageu doctor` counts such rows. The passphrase can be changed, but not removed, with them.",
                ) from error
            self._run(
                f"UPDATE {secret.table} SET {secret.column} = ? WHERE number = ?",  # noqa: S608
                _sealed(new, place, plain),
                number,
            )

    def settle(self, write: Callable[[str, str], None]) -> None:
        """Have the identity files written that the last change of the passphrase left to be written."""
        if not self._rows("SELECT 1 FROM rewrite LIMIT 1"):
            return
        # Within the transaction, so that nobody else does the same.
        with self._transaction():
            for name, content in self._rows("SELECT name, content FROM rewrite"):
                write(name, content)
            self._run("DELETE FROM rewrite")

    def erase_traces(self) -> bool:
        """Leave nothing of before the last change of the passphrase in the file; False where that has to wait.

        It waits for room on the disk, and until nobody else has the store open.
        """
        if self.setting(_ERASE_DUE) is None:
            return True
        try:
            with self.alone(), told(self._home / STORE_FILE):
                self._database.execute("PRAGMA secure_delete = ON")
                self._database.execute("VACUUM")
                busy, _, _ = next(self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
                if busy:
                    return False
                with self._transaction():
                    self._run("DELETE FROM setting WHERE name = ?", _ERASE_DUE)
        except (HomeInUse, StoreBroken):
            return False
        return True

    def damaged_rows(self) -> list[str]:
        """Look at every secret; name the rows whose one was altered, moved or broken: `inbox 12`."""
        vault, found = self._unlocked(), []
        for secret in _SECRETS:
            columns = ", ".join(("number", secret.column, *secret.known_by))
            query = f"SELECT {columns} FROM {secret.table} WHERE {secret.column} IS NOT NULL"  # noqa: S608
            for number, value, *known in self._rows(query):
                try:
                    _opened(vault, secret.place(*known), value)
                except CipherError:
                    found.append(f"{secret.table} {number}")
        return found

    def _wrapped_key(self) -> bytes | None:
        value = self._value("SELECT wrapped FROM vault")
        return value if isinstance(value, bytes) else None

    def _unlocked(self) -> Vault | None:
        if self.is_locked:
            raise PassphraseNeeded("This home is locked with a passphrase.", "Give it first.")
        return self._vault

    def _seal(self, secret: _Secret, value: SqlValue, *known: SqlValue) -> SqlValue:
        return _sealed(self._unlocked(), secret.place(*known), value)

    def _open(self, secret: _Secret, value: Any, *known: SqlValue) -> Any:
        """Raises `CipherError` where the row was altered."""
        # Any: as in `_rows`.
        return _opened(self._unlocked(), secret.place(*known), value)

    def _next_number(self, table: str) -> int:
        """The number that the next row of a table gets: sealed with its secrets. Only within a transaction."""
        return int(self._value("SELECT seq FROM sqlite_sequence WHERE name = ?", table) or 0) + 1

    # --- settings ---------------------------------------------------------------------------------------------

    def setting(self, name: str) -> str | None:
        """Read what was set under a name."""
        value = self._value("SELECT value FROM setting WHERE name = ?", name)
        return None if value is None else str(value)

    def set_setting(self, name: str, value: str) -> None:
        """Remember a value under a name."""
        with self._transaction():
            self._run("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, value)

    # --- the server this identity has proven itself to -------------------------------------------------------

    def server(self) -> ServerRow | None:
        """Give the server of the first proof; None before it."""
        rows = self._rows("SELECT server_id, generation, ack FROM server")
        return ServerRow(*rows[0]) if rows else None

    def remember_server(self, server_id: bytes, generation: int) -> None:
        """Note a proof. Another generation, a store of its own history, numbers mail in its own way."""
        known = self.server()
        if known is None or known.generation != generation:
            with self._transaction():
                self._run("INSERT OR REPLACE INTO server VALUES (1, ?, ?, 0)", server_id, generation)

    def forget_ack(self) -> None:
        """Fetch from the beginning: what comes again is recognised."""
        with self._transaction():
            self._run("UPDATE server SET ack = 0")

    # --- contacts and keys ------------------------------------------------------------------------------------

    def contacts(self) -> list[ContactRow]:
        """Everybody who was ever listed."""
        rows = self._rows("SELECT client_id, name, listed FROM contact ORDER BY name, client_id")
        return [ContactRow(client_id, name, bool(listed)) for client_id, name, listed in rows]

    def replace_list(self, users: Iterable[tuple[ClientId, str]]) -> None:
        """Take over the server's list: who is not on it any more stays known, as not listed."""
        with self._transaction():
            self._run("UPDATE contact SET listed = 0")
            for client_id, name in users:
                self._run(
                    "INSERT INTO contact (client_id, name, listed) VALUES (?, ?, 1) "
                    "ON CONFLICT (client_id) DO UPDATE SET name = excluded.name, listed = 1",
                    client_id,
                    name,
                )

    def keys(self, contact: ClientId) -> list[KeyRow]:
        """All symmetric keys ever shared with a contact, the newest first.

        A damaged one is passed over, as if it had never come: `damaged_rows` names it.
        """
        rows = self._rows(
            "SELECT number, key, usable, made, sealed_to, message FROM shared_key WHERE contact = ? "
            "ORDER BY number DESC",
            contact,
        )
        found = []
        for number, sealed, usable, made, sealed_to, message in rows:
            with contextlib.suppress(CipherError):
                key = self._open(_KEY, sealed, number, contact, made, sealed_to, message)
                found.append(KeyRow(number, key, bool(usable), bool(made), sealed_to))
        return found

    def add_made_key(self, contact: ClientId, key: SymmetricKey, now: int, sealed_to: PublicKey | None = None) -> int:
        """Keep a key that was made here. It decrypts from now on, and encrypts once it is confirmed."""
        with self._transaction():
            number = self._next_number("shared_key")
            self._run(
                "INSERT INTO shared_key (number, contact, key, made, usable, added_at, sealed_to) "
                "VALUES (?, ?, ?, 1, 0, ?, ?)",
                number,
                contact,
                self._seal(_KEY, key, number, contact, 1, sealed_to, None),
                now,
                sealed_to,
            )
            return number

    def confirm_key(self, number: int) -> None:
        """Use a key: the server has the message with it, or gets it before anything that is encrypted from now on."""
        with self._transaction():
            self._run("UPDATE shared_key SET usable = 1 WHERE number = ?", number)

    def drop_key(self, number: int) -> None:
        """Forget a key that surely never left."""
        with self._transaction():
            self._run("DELETE FROM shared_key WHERE number = ?", number)

    def add_received_key(self, contact: ClientId, key: SymmetricKey, now: int, message: int) -> None:
        """Keep the key that a message brought, and call back what was unreadable. Doing it twice changes nothing."""
        with self._transaction():
            unasked = self._replaces_unasked(contact)
            number = self._next_number("shared_key")
            self._run(
                "INSERT INTO shared_key (number, contact, key, made, usable, added_at, message, unasked) "
                "VALUES (?, ?, ?, 0, 1, ?, ?, ?) ON CONFLICT (message) DO NOTHING",
                number,
                contact,
                self._seal(_KEY, key, number, contact, 0, None, message),
                now,
                message,
                unasked,
            )
            if self._database.changes():
                self._run("UPDATE contact SET key_asked = 0 WHERE client_id = ?", contact)
                self._run(
                    "UPDATE inbox SET state = ?, late = 1, repeated = 0 WHERE sender = ? AND state = ?",
                    MessageState.RECEIVED,
                    contact,
                    MessageState.UNREADABLE,
                )

    def ask_for_key(self, contact: ClientId) -> None:
        """Note that a contact is asked for a symmetric key."""
        with self._transaction():
            self._run("UPDATE contact SET key_asked = 1 WHERE client_id = ?", contact)

    def came_unasked(self, message: int) -> bool | None:
        """Whether the key that a message brought came unasked while one was in use; None: that message brought none."""
        value = self._value("SELECT unasked FROM shared_key WHERE message = ?", message)
        return None if value is None else bool(value)

    def _replaces_unasked(self, contact: ClientId) -> bool:
        return bool(
            self._value(
                "SELECT EXISTS (SELECT 1 FROM shared_key WHERE contact = ?1 AND usable) "
                "AND NOT EXISTS (SELECT 1 FROM contact WHERE client_id = ?1 AND key_asked)",
                contact,
            )
        )

    # --- pins -------------------------------------------------------------------------------------------------

    def pin_of_name(self, name: str) -> PinRow | None:
        """Who was met under a name."""
        rows = self._rows("SELECT * FROM pin WHERE name = ?", name)
        return PinRow(*rows[0]) if rows else None

    def pin_of_id(self, client_id: ClientId) -> PinRow | None:
        """Who was met with an id."""
        rows = self._rows("SELECT * FROM pin WHERE client_id = ?", client_id)
        return PinRow(*rows[0]) if rows else None

    def changed_names(self) -> list[str]:
        """Names for which the server names something else than is pinned."""
        return [row[0] for row in self._rows("SELECT name FROM pin WHERE offered_key IS NOT NULL ORDER BY name")]

    def add_pin(self, client_id: ClientId, name: str, key: PublicKey, now: int) -> None:
        """Keep under which id and key a name was first met."""
        with self._transaction():
            self._run(
                "INSERT INTO pin (client_id, name, public_key, since) VALUES (?, ?, ?, ?)", client_id, name, key, now
            )

    def offer(self, client_id: ClientId, offered: ClientId | None, key: PublicKey | None, since: int | None) -> None:
        """Keep what the server names now for somebody who is pinned; None: the same."""
        with self._transaction():
            self._run(
                "UPDATE pin SET offered_id = ?, offered_key = ?, offered_since = ? WHERE client_id = ?",
                offered,
                key,
                since,
                client_id,
            )

    def replace_pin(self, old: ClientId, client_id: ClientId, name: str, key: PublicKey, now: int) -> None:
        """Pin another id and key for a name, and use no symmetric key of before for sending."""
        with self._transaction():
            self._run("DELETE FROM pin WHERE client_id IN (?, ?) OR name = ?", old, client_id, name)
            self._run(
                "INSERT INTO pin (client_id, name, public_key, since) VALUES (?, ?, ?, ?)", client_id, name, key, now
            )
            self._run("UPDATE shared_key SET usable = 0 WHERE contact IN (?, ?)", old, client_id)

    def verify_pin(self, client_id: ClientId, key: PublicKey, now: int) -> None:
        """Note that a pin was compared: that of this key alone."""
        with self._transaction():
            self._run("UPDATE pin SET verified_at = ? WHERE client_id = ? AND public_key = ?", now, client_id, key)

    # --- inbox ------------------------------------------------------------------------------------------------

    def new_spool_file(self) -> SpoolFile:
        """Begin to keep a large content. Raises `StoreBroken`."""
        return SpoolFile(self._home / SPOOL_FOLDER)

    def read_spool(self, name: str, chunk: int) -> Iterator[bytes]:
        """Give a kept large content in parts. Raises `StoreBroken`."""
        path = self._home / SPOOL_FOLDER / name
        with told(path), path.open("rb", buffering=0) as file:
            while data := file.read(chunk):
                yield data

    def begin_pull(self) -> int:
        """Number a 604. Its rows are told from earlier ones by it."""
        with self._transaction():
            self._run("INSERT INTO pull (complete) VALUES (0)")
            return self._database.last_insert_rowid()

    def end_pull(self, pull: int) -> None:
        """Note that a 604's reply came to its end; one that brought nothing new is forgotten."""
        with self._transaction():
            self._run("UPDATE pull SET complete = 1 WHERE number = ?", pull)
            # Where nothing new came, the pull before it is still the one whose messages may come again.
            self._run("DELETE FROM pull WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM inbox WHERE pull = ?1)", pull)

    def add_pulled(self, messages: Collection[NewMessage], now: int, pull: int) -> int:
        """Keep messages of a 604, in one transaction, and say how many were new.

        A server gives the same messages again, with the same ids, when it has no proof that we got them. After a
        reply that broke that is certain, and what we have already is passed over. After a whole reply it may also
        be another message with the same id and bytes (some servers number anew when they start), so it is kept and
        marked as possibly repeated.
        """
        kept = 0
        with self._transaction(message.spool for message in messages):
            for message in messages:
                again = self._rows(
                    "SELECT p.complete FROM inbox i JOIN pull p ON p.number = i.pull "
                    "WHERE i.pull >= (SELECT coalesce(max(number), 0) FROM pull WHERE complete AND number < ?1) "
                    "AND i.pull < ?1 AND i.sender = ?2 AND i.server_number = ?3 AND i.kind = ?4 AND i.digest = ?5 "
                    "ORDER BY p.complete LIMIT 1",
                    pull,
                    message.sender,
                    message.server_number,
                    message.kind,
                    message.digest,
                )
                if again and not again[0][0]:
                    self._forget_spool(message.spool)
                    continue
                self._insert(message, now, pull, repeated=bool(again))
                kept += 1
        return kept

    def add_fetched(self, messages: Collection[NewMessage], now: int) -> None:
        """Keep messages of a 643, and how far that takes us, in one transaction.

        A token that its sender used before is the same message. One that came by 604 before, without its token, is
        marked as possibly repeated.
        """
        with self._transaction(message.spool for message in messages):
            for message in messages:
                if self._rows("SELECT 1 FROM inbox WHERE sender = ? AND token = ?", message.sender, message.token):
                    self._forget_spool(message.spool)
                else:
                    again = self._rows(
                        "SELECT 1 FROM inbox WHERE pull >= (SELECT max(number) FROM pull) AND sender = ? "
                        "AND server_number = ? AND kind = ? AND digest = ?",
                        message.sender,
                        message_id(message.server_number),
                        message.kind,
                        message.digest,
                    )
                    self._insert(message, now, None, repeated=bool(again))
                self._run("UPDATE server SET ack = ?", message.server_number)

    def next_unread(self, after: int) -> InboxRow | None:
        """The oldest message behind number `after` that nobody has seen.

        One that was being shown when we died counts as repeated.
        """
        rows = self._inbox_rows("state < 2 AND number > ? ORDER BY number LIMIT 1", after)
        return rows[0] if rows else None

    def seen(self, after: int) -> list[InboxRow]:
        """The messages behind number `after` that the user has seen, or was told that they can't be read."""
        return self._inbox_rows("state >= 2 AND number > ? ORDER BY number", after)

    def last_seen(self) -> int:
        """The number of the newest message that the user has seen; 0 where there is none."""
        return int(self._value("SELECT coalesce(max(number), 0) FROM inbox WHERE state >= 2") or 0)

    def clock_behind(self) -> int | None:
        """By how many milliseconds the newest message was accepted later than it was received; None: nothing tells."""
        behind = self._value(
            "SELECT accepted_at - received_at FROM inbox WHERE accepted_at IS NOT NULL ORDER BY number DESC LIMIT 1"
        )
        return behind if isinstance(behind, int) else None

    def _inbox_rows(self, condition: str, after: int) -> list[InboxRow]:
        rows = self._rows(
            # The condition is our own text.
            "SELECT number, sender, kind, size, content, spool, received_at, accepted_at, sender_proven, "  # noqa: S608
            f"repeated OR state = 1, late, saved_path, digest FROM inbox WHERE {condition}",
            after,
        )
        return [self._inbox_row(row) for row in rows]

    def _inbox_row(self, row: tuple[Any, ...]) -> InboxRow:
        (number, sender, kind, size, content, spool, received_at, accepted_at, proven, repeated, late, path, digest) = (
            row
        )
        damaged = False
        try:
            content = self._open(_INBOX_CONTENT, content, number, sender, kind, digest)
            path = self._open(_SAVED_PATH, path, number, sender)
        except CipherError:
            content, path, damaged = None, None, True
        return InboxRow(
            number, sender, kind, size, content, spool, received_at, accepted_at, bool(proven), bool(repeated),
            bool(late), path, damaged,
        )  # fmt: skip

    def begin_showing(self, number: int, saved_path: Path | None) -> None:
        """Note that a message is shown from now on; for a file, where it was saved."""
        path = None if saved_path is None else str(saved_path)
        with self._transaction():
            sender = self._value("SELECT sender FROM inbox WHERE number = ?", number)
            self._run(
                "UPDATE inbox SET state = ?, saved_path = ? WHERE number = ?",
                MessageState.SHOWING,
                self._seal(_SAVED_PATH, path, number, sender),
                number,
            )

    def was_shown(self, number: int, *, readable: bool) -> None:
        """Note that the user has seen a message. One that could not be read is kept until its key comes."""
        state = MessageState.SHOWN if readable else MessageState.UNREADABLE
        spool = self._value("SELECT spool FROM inbox WHERE number = ?", number) if readable else None
        with self._transaction():
            self._run("UPDATE inbox SET state = ? WHERE number = ?", state, number)
            if readable:
                self._run("UPDATE inbox SET spool = NULL WHERE number = ?", number)
        self._forget_spool(spool)

    def sweep(self, now: int) -> None:
        """Remove large contents that no message refers to: a crash left them. Only for the one who receives.

        Young ones stay: another process may be about to send them.
        """
        folder = self._home / SPOOL_FOLDER
        with told(folder):
            if folder.is_dir():
                known = {
                    row[0]
                    for row in self._rows(
                        "SELECT spool FROM inbox WHERE spool IS NOT NULL "
                        "UNION ALL SELECT spool FROM outbox WHERE spool IS NOT NULL"
                    )
                }
                for path in folder.iterdir():
                    if path.name not in known and now - path.stat().st_mtime * 1000 > _ORPHAN_AGE:
                        path.unlink(missing_ok=True)

    # --- outbox -----------------------------------------------------------------------------------------------

    def add_outgoing(
        self,
        recipient: ClientId,
        kind: MessageKind,
        size: int,
        body: bytes | str,
        token: Token,
        key: int | None,
        now: int,
        outgoing: Outgoing | None = None,
    ) -> int:
        """Keep a message to be sent: its content, or the name of the spool file with it. Gives its number.

        `outgoing` is what the history keeps of it.
        """
        content, spool = (body, None) if isinstance(body, bytes) else (None, body)
        with self._transaction([spool]):
            number = self._next_number("outbox")
            self._run(
                "INSERT INTO outbox (number, token, recipient, kind, size, content, spool, shared_key, queued_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                number,
                token,
                recipient,
                kind,
                size,
                self._seal(_OUTBOX_CONTENT, content, number, token, recipient, kind),
                spool,
                key,
                now,
            )
            if outgoing is not None:
                self._insert_sent(recipient, kind, outgoing, now, number)
            return number

    def waiting_count(self) -> int:
        """How many outgoing messages have no answer."""
        return int(self._value("SELECT count(*) FROM outbox WHERE problem IS NULL") or 0)

    def is_waiting(self, number: int) -> bool:
        """Whether the outgoing message with this number has no answer yet."""
        return bool(self._rows("SELECT 1 FROM outbox WHERE number = ? AND problem IS NULL", number))

    def outgoing(self) -> Iterator[OutboxRow]:
        """What is to be sent, the oldest first, one after the other."""
        number = 0
        while rows := self._rows(
            "SELECT number, token, recipient, kind, size, content, spool, queued_at FROM outbox "
            "WHERE problem IS NULL AND number > ? ORDER BY number LIMIT 1",
            number,
        ):
            row = self._outbox_row(rows[0])
            number = row.number
            yield row

    def _outbox_row(self, row: tuple[Any, ...]) -> OutboxRow:
        number, token, recipient, kind, size, content, spool, queued_at = row
        try:
            content = self._open(_OUTBOX_CONTENT, content, number, token, recipient, kind)
        except CipherError:
            return OutboxRow(number, token, recipient, kind, size, None, spool, queued_at, damaged=True)
        return OutboxRow(number, token, recipient, kind, size, content, spool, queued_at)

    def failed(self) -> list[tuple[OutboxRow, str]]:
        """What was refused for good, and why, the oldest first."""
        rows = self._rows(
            "SELECT number, token, recipient, kind, size, content, spool, queued_at, problem FROM outbox "
            "WHERE problem IS NOT NULL ORDER BY number"
        )
        failed = []
        for *row, sealed in rows:
            made = self._outbox_row(tuple(row))
            try:
                problem = self._open(_OUTBOX_PROBLEM, sealed, made.number, made.recipient)
            except CipherError as error:
                problem = f"why, can't be read: {error}"
            failed.append((made, problem))
        return failed

    def outgoing_stored(self, number: int, message_id: int, now: int) -> None:
        """The server has it: forget the message, and use the key that it carried."""
        spool = self._value("SELECT spool FROM outbox WHERE number = ?", number)
        with self._transaction():
            self._run(
                "UPDATE shared_key SET usable = 1 WHERE number = (SELECT shared_key FROM outbox WHERE number = ?)",
                number,
            )
            self._run("DELETE FROM outbox WHERE number = ?", number)
            self._run("UPDATE sent SET stored_at = ?, message_id = ? WHERE outbox = ?", now, message_id, number)
        self._forget_spool(spool)

    def outgoing_failed(self, number: int, problem: str) -> None:
        """The server refused it for good: keep it aside, and stop using the key that it carried."""
        spool = self._value("SELECT spool FROM outbox WHERE number = ?", number)
        with self._transaction():
            self._run(
                "UPDATE shared_key SET usable = 0 WHERE number = (SELECT shared_key FROM outbox WHERE number = ?)",
                number,
            )
            # The user still has the file that a spooled content was made from.
            recipient = self._value("SELECT recipient FROM outbox WHERE number = ?", number)
            sealed = self._seal(_OUTBOX_PROBLEM, problem, number, recipient)
            self._run("UPDATE outbox SET problem = ?, spool = NULL WHERE number = ?", sealed, number)
            self._set_sent_problem(self._value("SELECT number FROM sent WHERE outbox = ?", number), problem)
        self._forget_spool(spool)

    # --- what was sent ----------------------------------------------------------------------------------------

    def add_sent(self, recipient: ClientId, kind: int, outgoing: Outgoing, now: int) -> int:
        """Note a message that is sent without the outbox. Gives its number in the history."""
        with self._transaction():
            return self._insert_sent(recipient, kind, outgoing, now, None)

    def sent_stored(self, number: int, message_id: int, now: int) -> None:
        """The server has it."""
        with self._transaction():
            self._run("UPDATE sent SET stored_at = ?, message_id = ? WHERE number = ?", now, message_id, number)

    def sent_failed(self, number: int, problem: str) -> None:
        """The server surely does not have it."""
        with self._transaction():
            self._set_sent_problem(number, problem)

    def _set_sent_problem(self, number: SqlValue, problem: str) -> None:
        for known in self._rows("SELECT number, recipient, queued_at FROM sent WHERE number = ?", number):
            self._run(
                "UPDATE sent SET problem = ? WHERE number = ?", self._seal(_SENT_PROBLEM, problem, *known), number
            )

    def sent(self) -> list[SentRow]:
        """What was sent or was to be sent, the oldest first."""
        return self._sent_rows("1")

    def sent_by_outbox(self, number: int) -> SentRow | None:
        """What the history has of the message with an outbox number, whatever has become of it."""
        rows = self._sent_rows("outbox = ?", number)
        return rows[0] if rows else None

    def _sent_rows(self, condition: str, *values: SqlValue) -> list[SentRow]:
        rows = self._rows(
            # The condition is our own text.
            "SELECT number, recipient, kind, text, path, queued_at, stored_at, message_id, problem, "  # noqa: S608
            "EXISTS (SELECT 1 FROM outbox o WHERE o.number = sent.outbox AND o.problem IS NULL), "
            f"outbox FROM sent WHERE {condition} ORDER BY number",
            *values,
        )
        return [self._sent_row(row) for row in rows]

    def _sent_row(self, row: tuple[Any, ...]) -> SentRow:
        number, recipient, kind, text, path, queued_at, stored_at, message_id, problem, waiting, outbox = row
        known, damaged = (number, recipient, queued_at), False
        try:
            text = self._open(_SENT_TEXT, text, *known)
            path = self._open(_SENT_PATH, path, *known)
            problem = self._open(_SENT_PROBLEM, problem, *known)
        except CipherError:
            text, path, problem, damaged = None, None, None, True
        return SentRow(
            number,
            recipient,
            kind,
            text,
            path,
            queued_at,
            stored_at,
            message_id,
            problem,
            bool(waiting),
            outbox,
            damaged,
        )  # fmt: skip

    def _insert_sent(self, recipient: ClientId, kind: int, outgoing: Outgoing, now: int, outbox: int | None) -> int:
        number = self._next_number("sent")
        self._run(
            "INSERT INTO sent (number, recipient, kind, text, path, queued_at, outbox) VALUES (?, ?, ?, ?, ?, ?, ?)",
            number,
            recipient,
            kind,
            self._seal(_SENT_TEXT, outgoing.text, number, recipient, now),
            self._seal(_SENT_PATH, outgoing.path, number, recipient, now),
            now,
            outbox,
        )
        return number

    def _insert(self, message: NewMessage, now: int, pull: int | None, *, repeated: bool) -> None:
        number = self._next_number("inbox")
        self._run(
            "INSERT INTO inbox (number, sender, kind, size, content, spool, digest, server_number, token, pull, "
            "received_at, accepted_at, sender_proven, state, repeated, late) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            number,
            message.sender,
            message.kind,
            message.size,
            self._seal(_INBOX_CONTENT, message.content, number, message.sender, message.kind, message.digest),
            message.spool,
            message.digest,
            message.server_number,
            message.token,
            pull,
            now,
            message.accepted_at,
            int(message.sender_proven),
            MessageState.RECEIVED,
            int(repeated),
        )

    def _forget_spool(self, name: object) -> None:
        if isinstance(name, str):
            with told(self._home / SPOOL_FOLDER):
                (self._home / SPOOL_FOLDER / name).unlink(missing_ok=True)

    # --- the database -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, spools: Iterable[str | None] = ()) -> Iterator[None]:
        """All or nothing; `spools`, the large contents that it brings in, are removed where it surely failed."""
        with told(self._home / STORE_FILE):
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                # After anything else, an interrupt say, it may be committed. `sweep` finds what nobody refers to.
                if isinstance(error, apsw.Error | StoreBroken):
                    for spool in spools:
                        self._forget_spool(spool)
                raise

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back by itself.
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _run(self, statement: str, *values: SqlValue) -> None:
        self._database.execute(statement, values)

    def _rows(self, query: str, *values: SqlValue) -> list[tuple[Any, ...]]:
        # Any: what a column may hold is checked by the STRICT tables, and each caller knows its columns.
        with told(self._home / STORE_FILE):
            return list(self._database.execute(query, values))

    def _value(self, query: str, *values: SqlValue) -> SqlValue:
        rows: list[tuple[SqlValue, ...]] = self._rows(query, *values)
        return rows[0][0] if rows else None


def _sealed(vault: Vault | None, place: bytes, value: SqlValue) -> SqlValue:
    if vault is None or value is None:
        return value
    if isinstance(value, bytes):
        return vault.seal(place, value)
    return base64.b64encode(vault.seal(place, str(value).encode("utf-8", "surrogateescape"))).decode("ascii")


def _opened(vault: Vault | None, place: bytes, value: SqlValue) -> SqlValue:
    """Raises `CipherError`."""
    if vault is None or value is None:
        return value
    if isinstance(value, bytes):
        return vault.open(place, value)
    try:
        sealed = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CipherError("it was altered or is damaged") from error
    return vault.open(place, sealed).decode("utf-8", "surrogateescape")


def _prepare(path: Path, database: apsw.Connection) -> None:
    database.set_busy_timeout(_BUSY_MS)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("BEGIN IMMEDIATE")
    with database:
        (application,) = next(database.execute("PRAGMA application_id"))
        (found,) = next(database.execute("PRAGMA user_version"))
        version = found
        (tables,) = next(database.execute("SELECT count(*) FROM sqlite_schema"))
        if application == 0 and version == 0 and tables == 0:
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            version = 1
        elif application != _APPLICATION_ID:
            raise StoreBroken(f"{path} is not a store of MessageU.", "Use another home, or move that file away.")
        elif not 1 <= version <= _SCHEMA_VERSION:
            raise StoreBroken(f"{path} was written by another version of MessageU.", "Use that version, or a new home.")
        for added_in, part in _LATER_PARTS:
            if version < added_in:
                database.execute(part)
        if found != _SCHEMA_VERSION:
            database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    database.execute("COMMIT")


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the failures of SQLite and of the file system into `StoreBroken`."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreBroken(
            f"{path} is damaged ({error}).",
            "Restore an export, or move it away: contacts, keys and history then begin anew.",
        ) from error
    except apsw.BusyError as error:
        raise StoreBroken(f"{path} is busy.", "Another process works on it; try again.") from error
    except apsw.Error as error:
        # The second: no room for the index of the WAL, which is a file too. (apsw's stubs do not have the attribute.)
        extended = getattr(error, "extendedresult", None)
        if isinstance(error, apsw.FullError) or extended == apsw.SQLITE_IOERR_SHMSIZE:
            raise StoreBroken(f"There is no room to write {path}.", "Free some space and try again.") from error
        raise StoreBroken(
            f"{path} can't be used ({error}).", "Check the folder, its permissions and the disk."
        ) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreBroken(
                f"There is no room to write {path} ({error.strerror}).", "Free some space and try again."
            ) from error
        raise StoreBroken(
            f"{path} can't be used ({error.strerror}).", "Check the folder, its permissions and the disk."
        ) from error
