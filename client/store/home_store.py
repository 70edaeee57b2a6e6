"""The home's store.db: what must outlive the program. Owns: opening it, the locks between the
processes of one home, and changes to the whole store; its tables are in `client.store`.
Promises: what a method stored is on disk when it returns (WAL, synchronous=FULL); the files are
mode 0600; a failure is a `StoreUnusable` that says what to do. Several processes may use one home;
one at a time receives (`receiver`), and one at a time empties the outbox (`sender`). A home that
can't be written can still be read, on request, from a copy of the database in memory. If the home
has a passphrase, every secret in it is sealed for its place in the store.
Exposure: holds shared keys and mail; without a passphrase they are not encrypted, and whoever can
read the home can read them. With one, somebody who can write to the home may alter or move rows:
that is detected, and such a row is not used.

Source: docs/guarantees.md, docs/journeys.md.
"""

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self

from client.crypto.ciphers import RandomBytes
from client.errors import HomeInUse, StoreUnusable, StoreUnwritable
from client.store import schema
from client.store.acknowledged import AcknowledgedTable
from client.store.contacts import ContactTable
from client.store.database import Database, told
from client.store.inbox import InboxTable
from client.store.keys import KeyTable
from client.store.outbox import OutboxTable
from client.store.own_keys import OwnKeysTable
from client.store.peers import PeerTable
from client.store.pins import PinTable
from client.store.schema import VERSION
from client.store.sealing import ERASE_DUE, Sealing
from client.store.sent import SentTable
from client.store.settings import ServerTable, Settings
from client.store.silenced import SilencedTable
from client.store.spool import Spools
from common.filesystem import NO_LEAVE, NO_ROOM, birth_of

STORE_FILE: Final = schema.STORE_FILE
SPOOL_FOLDER: Final = "store.spool"
LOCK_FILE: Final = "store.lock"
SENDER_LOCK_FILE: Final = "outbox.lock"
WATCH_LOCK_FILE: Final = "watch.lock"
USE_FILE: Final = "store.use"
"""A lock, shared by all who have the store open; a change of the passphrase needs it
exclusively.
"""


class Store:
    """The home's store: the database, and its parts as attributes. Used from one thread."""

    def __init__(
        self,
        home: Path,
        database: Database,
        use: int,
        random_bytes: RandomBytes = os.urandom,
        unlocked: Sealing | None = None,
        *,
        to_read: bool = False,
    ) -> None:
        self._home = home
        self._to_read = to_read
        self.database = database
        self._use = use
        self._snapshots: list[BinaryIO] = []
        self.sealing = Sealing(database, random_bytes, unlocked)
        self.settings = Settings(database)
        self.server = ServerTable(database)
        self.contacts = ContactTable(database)
        self.pins = PinTable(database)
        self.silenced = SilencedTable(database)
        self.spools = Spools(home / SPOOL_FOLDER)
        self.inbox = InboxTable(database, self.sealing, self.spools, self.silenced)
        self.keys = KeyTable(database, self.sealing, self.inbox)
        self.own_keys = OwnKeysTable(database, self.sealing)
        self.peers = PeerTable(database, self.sealing)
        self.sent = SentTable(database, self.sealing)
        self.acknowledged = AcknowledgedTable(database, self.sealing)
        self.outbox = OutboxTable(database, self.sealing, self.spools, self.sent, self.acknowledged)

    @classmethod
    def open(cls, home: Path, unlocked: Sealing | None = None) -> Self:
        """Open the home's store, making it if there is none. Raises `StoreUnusable`.

        `unlocked`: the sealing of an open store of the same home, whose passphrase was given
        already.
        """
        path = home / STORE_FILE
        with told(path):
            # Created before SQLite does, so that neither the file nor its WAL is ever readable by
            # others.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
            use = os.open(home / USE_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                # Waits while another process changes the passphrase.
                fcntl.flock(use, fcntl.LOCK_SH)
                database = Database.open(path)
                try:
                    return cls(home, database, use, unlocked=unlocked)
                except BaseException:
                    database.close()
                    raise
            except BaseException:
                os.close(use)
                raise

    @classmethod
    def open_to_read(cls, home: Path) -> Self:
        """Open the home's store; if it can't be written, a copy of it in memory: see `unwritable`.

        Raises `StoreUnusable`.
        """
        try:
            store = cls.open(home)
        except StoreUnwritable as error:
            return cls._open_copy(home, error)
        store._to_read = True
        return store

    @classmethod
    def _open_copy(cls, home: Path, because: StoreUnwritable) -> Self:
        path = home / STORE_FILE
        with told(path):
            use = _open_lock(home / USE_FILE, to_read=True)
            try:
                if use is not None:
                    fcntl.flock(use, fcntl.LOCK_SH)
                database = Database.open_copy(path, because)
                try:
                    return cls(home, database, -1 if use is None else use, to_read=True)
                except BaseException:
                    database.close()
                    raise
            except BaseException:
                if use is not None:
                    os.close(use)
                raise

    @property
    def unwritable(self) -> StoreUnwritable | None:
        """Why this is a copy in memory, where every change raises `StoreUnwritable`; None for the
        store itself.
        """
        return self.database.copied_because

    @property
    def inode(self) -> str:
        """What the database's file has and no copy has. Raises `StoreUnusable`."""
        with told(self.database.path):
            return birth_of(self.database.path)

    def check(self) -> None:
        """Check every page of the database. Raises `StoreUnusable` if it is damaged."""
        self.database.check()

    @property
    def conversion(self) -> str | None:
        """A sentence for the user if this opening converted a store of an earlier version; else
        None.
        """
        before = self.database.converted_from
        if before is None:
            return None
        return (
            f"{self.database.path} was of schema version {before} and is of version {VERSION} now; an older MessageU "
            "can't open it any more."
        )

    def another(self) -> Self:
        """Open the same store once more, for another thread; the passphrase is given already."""
        return type(self).open(self._home, self.sealing)

    def close(self) -> None:
        """Close the database. Closing twice changes nothing."""
        self.database.close()
        while self._snapshots:
            self._snapshots.pop().close()
        if self._use >= 0:
            os.close(self._use)
            self._use = -1

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[BinaryIO]:
        """Yield the complete database file, while nobody can write to it. Raises `StoreUnusable`
        (busy). If there is no room to complete the file, it is one in memory.
        """
        with self.database.standing_still() as whole:
            if whole is not None:
                yield io.BytesIO(whole)
                return
            with told(self.database.path):
                file = self.database.path.open("rb")
            # Closed with the database: closing any descriptor of the file releases SQLite's locks
            # on it.
            self._snapshots.append(file)
            yield file

    @contextlib.contextmanager
    def receiver(self) -> Iterator[None]:
        """Become the one process of this home that receives or registers. Raises `HomeInUse`."""
        with self._lock(LOCK_FILE, wait=False) as held:
            if not held:
                raise HomeInUse("Another process receives for this home.", "Use that one, or end it and try again.")
            yield

    @contextlib.contextmanager
    def sender(self, *, wait: bool) -> Iterator[bool]:
        """Become the one process of this home that empties the outbox; yields whether it is.
        `wait`: wait until it is.
        """
        with self._lock(SENDER_LOCK_FILE, wait=wait) as held:
            yield held

    @contextlib.contextmanager
    def watcher(self) -> Iterator[None]:
        """Become the one process of this home that hands messages out after the watch's cursor;
        waits until it is.
        """
        with self._lock(WATCH_LOCK_FILE, wait=True):
            yield

    @contextlib.contextmanager
    def _lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        path = self._home / name
        with told(path):
            descriptor = _open_lock(path, to_read=self._to_read)
        if descriptor is None:
            # A missing lock file is held by nobody.
            yield True
            return
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
        """Become the one process, and the one `Store`, that has this home open. Raises
        `HomeInUse`.
        """
        with told(self._home / USE_FILE):
            try:
                fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                # The attempt may have released the shared lock.
                fcntl.flock(self._use, fcntl.LOCK_SH)
                raise HomeInUse(
                    "Another process works in this home; nothing was changed.",
                    "End it (a console, a watch, a chat) and try again.",
                ) from error
        try:
            yield
        finally:
            fcntl.flock(self._use, fcntl.LOCK_SH)

    def erase_traces(self) -> bool:
        """Erase content from before the last change of the passphrase from the file; False if that
        has to wait: for room on the disk, or until nobody else has the store open.
        """
        if self.settings.get(ERASE_DUE) is None:
            return True
        try:
            with self.alone():
                if not self.database.rewrite():
                    return False
                self.settings.drop(ERASE_DUE)
        except (HomeInUse, StoreUnusable):
            return False
        return True

    def sweep(self, now: int) -> None:
        """Remove large contents that no message refers to. Only for the process that receives."""
        self.spools.sweep({*self.inbox.spooled(), *self.outbox.spooled()}, now)


def _open_lock(path: Path, *, to_read: bool) -> int | None:
    """Open a lock file, made if it is missing; None if it is missing and can't be made, when only
    reading.

    Raises `OSError`.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if not to_read or error.errno not in NO_ROOM | NO_LEAVE:
            raise
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
