"""The SQLite database: its settings, its transactions and its checkpoints.

Owns: the one connection. The tables are in `storage_worker.engine.sqlite.schema`, the meaning of
errors in `storage_worker.engine.sqlite.sqlite_errors`.
Promises: what a transaction wrote is on disk when `transaction` ends without an error (WAL,
synchronous=FULL), and a transaction that failed left nothing; one that is not `synced` is on disk
once a later one or a checkpoint is (`lasting`). Checkpoints are made only here, because SQLite's
automatic one ignores a failed sync. Every page of the file carries a checksum, which is compared
whenever it is read: damage is detected, be it in a user, a token, an index or mail
(docs/decisions/0013-checksums-of-pages.md).
Exposure: the files in the data folder; whoever can write them owns the mail.

Errors become `StoreFull` (rolled back, go on), `StoreFailed` (end at once), while opening
`StoreUnusable`; anything else is a bug and passes unchanged.
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
from apsw import sqlite_extra

from common.name_rule import looks
from storage_worker.engine.errors import (
    StoreFailed,
    StoreFull,
    StoreUnusable,
    TablesDamaged,
)
from storage_worker.engine.sqlite import schema
from storage_worker.engine.sqlite.folder import sync_folder
from storage_worker.engine.sqlite.sqlite_errors import (
    BROKEN,
    PASSING,
    TRANSLATED,
    TranslatedErrors,
    damage_message,
    finding,
    is_altered,
)

log = logging.getLogger("storage_worker")

_NEXT_STEP: Final = (
    "An older version of MessageU made it, and this version can't convert it: start that one, let everybody "
    "fetch their pending messages, then start this one with a new folder (--data-folder), "
    "where everybody registers again."
)
_OLDEST_VERSION: Final = 2
_CHECKSUMS_SINCE: Final = 5

PAGE_SIZE: Final = 16384
"""Bytes of a page of a new database. Of SQLite's own 4096 four times as many are written for the
same mail, each with two calls of the system (docs/decisions/0010-pages-of-16-kib.md)."""

CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""In the write-ahead log, after which it is copied into the database."""

BUSY_TIMEOUT_MS: Final = 5000
"""An admin command may hold the write lock for a moment; nobody else ever does."""

_BALLAST_BYTES: Final = 256 * 1024

_CHECKSUM_BYTES: Final = 8
"""At the end of each page, where SQLite keeps room for the layer below it."""
_CHECKING: Final = "cksmvfs"
"""SQLite's own layer that writes and compares these checksums."""

Value = int | bytes | str | None
Row = tuple[Any, ...]

_RESTORE: Final = (
    "Put the whole data folder back from a backup and run `scripts/admin new-generation`; or move the folder away and "
    "start with a new one, where everybody registers again."
)


def load_checksums() -> str:
    """Load SQLite's checksum layer, once per process; returns its name. Raises `StoreUnusable`.

    It is read from the installed packages: a program that changes its user has to call this before.
    """
    layers = apsw.vfs_names()
    if _CHECKING not in layers:
        connection = apsw.Connection(":memory:")
        try:
            sqlite_extra.load(connection, "cksumvfs")
        except (sqlite_extra.NotAvailable, LookupError, apsw.Error) as error:
            raise StoreUnusable(
                f"the package apsw lacks SQLite's checksums ({error}): install it as a wheel from the package index"
            ) from error
        finally:
            connection.close()
        # It makes itself the layer of every database that is opened without naming one.
        apsw.set_default_vfs(layers[0])
    return _CHECKING


def _not_now(path: Path, error: apsw.Error) -> StoreFailed:
    if isinstance(error, apsw.BusyError):
        return StoreFailed(f"{path} is busy: another program has it open and reads it. End that one")
    return StoreFailed(f"{path} can't be opened now ({type(error).__name__}: {error})")


class Database:
    """The open database. `vfs` names another file layer, `size_limit` is in bytes: both for tests.

    `beside`: a worker may be running on it, so it must exist and is left as it is. `synchronous`
    other than "FULL" loses acknowledged mail when the power goes; it exists to show just that.
    Raises `StoreUnusable` for what is not our database, is newer, corrupt, or can't be opened, and
    `StoreFailed` for what may have passed at the next try, such as another program reading it, or a
    disk error.
    """

    def __init__(
        self,
        path: Path,
        *,
        vfs: str | None = None,
        synchronous: str = "FULL",
        size_limit: int | None = None,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        beside: bool = False,
    ) -> None:
        self._path = path
        self.checkpoint_bytes = checkpoint_bytes
        self.wal_pages = 0
        self._commits = 0
        self._lasting_commits = 0
        self._has_ballast = True
        self._closed = False
        self._inside = False
        self.was_upgraded = False
        """Whether an earlier version of this program made it, and this opening brought it over."""
        self._beside = beside
        try:
            with TranslatedErrors(StoreUnusable):
                try:
                    self._open(path, vfs, synchronous, size_limit)
                except BROKEN as error:
                    if is_altered(error):
                        raise StoreUnusable(f"{path} is damaged ({finding(error)}). {_RESTORE}") from error
                    if isinstance(error, PASSING):
                        raise _not_now(path, error) from error
                    if not isinstance(error, apsw.CantOpenError):
                        raise StoreUnusable(f"{path} can't be used ({type(error).__name__}: {error})") from error
                    raise StoreUnusable(f"{path} can't be opened ({error}); who may use it?") from error
        except StoreFull as error:
            raise StoreUnusable(f"no room to open {path}: {error}") from error

    def _open(self, path: Path, vfs: str | None, synchronous: str, size_limit: int | None) -> None:
        is_new = not path.exists()
        if is_new and self._beside:
            raise StoreUnusable(f"there is no store in {path.parent}")
        flags = apsw.SQLITE_OPEN_READWRITE | (0 if self._beside else apsw.SQLITE_OPEN_CREATE)
        checked = vfs is None
        connection = apsw.Connection(str(path), flags=flags, vfs=load_checksums() if vfs is None else vfs)
        self.connection = connection
        self._run = connection.execute
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        found = self.row("SELECT count(*) FROM sqlite_schema")[0]
        if (found or self._beside) and self.row("PRAGMA application_id")[0] != schema.APPLICATION_ID:
            connection.close()
            raise StoreUnusable(f"{path} is not a database of this program")
        version = self.row("PRAGMA user_version")[0]
        if found and not _OLDEST_VERSION <= version <= schema.VERSION:
            connection.close()
            raise StoreUnusable(
                f"{path} has schema version {version}, this program knows {schema.VERSION}; nothing was changed. "
                f"{_NEXT_STEP if version < schema.VERSION else 'Start the newer version of MessageU that made it.'}"
            )
        if checked and found and version >= _CHECKSUMS_SINCE and connection.reserve_bytes("main") != _CHECKSUM_BYTES:
            connection.close()
            raise StoreUnusable(f"{path} is damaged (its header says that its pages have no checksums). {_RESTORE}")
        if not found:
            self._run(f"PRAGMA page_size = {PAGE_SIZE}")
            if checked:
                connection.reserve_bytes("main", _CHECKSUM_BYTES)
        self._run("PRAGMA journal_mode = WAL").fetchall()
        self._synchronous = synchronous
        self._run(f"PRAGMA synchronous = {synchronous}")
        self._run("PRAGMA foreign_keys = ON")
        self.overwrite_deleted(always=False)
        self._run("PRAGMA temp_store = MEMORY")
        self._run("PRAGMA cache_size = -16384")
        # SQLite's own checkpoint ignores a sync that fails; `checkpoint` does not.
        connection.wal_autocheckpoint(0)
        connection.set_wal_hook(self._note_wal_pages)
        self._page_size = int(self.row("PRAGMA page_size")[0])
        if size_limit is not None:
            self._run(f"PRAGMA max_page_count = {size_limit // self._page_size}").fetchall()
        if self._beside:
            return
        if not found:
            with self.transaction():
                self._run(schema.SCHEMA).fetchall()
                self._run("INSERT INTO ballast VALUES (1, zeroblob(?))", (_BALLAST_BYTES,))
        elif version < schema.VERSION:
            self._upgrade(version, checked=checked)
            self.was_upgraded = True
            log.info("%s was of schema version %d and is of version %d now", path, version, schema.VERSION)
        if not self.has_tally:
            with self.transaction():
                self._run(schema.TALLY).fetchall()
        self._has_ballast = self.find("SELECT 1 FROM ballast") is not None
        self._look_for_deleted()
        # What a crash left in the log is made safe before anything of it is answered: a failed sync
        # may have left bytes that can be read and are not on disk.
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.wal_pages = 0
        if is_new and vfs is None:
            sync_folder(path.parent)

    def _look_for_deleted(self) -> None:
        """Where a user was deleted, whatever is deleted from then on is overwritten."""
        if self.find("SELECT 1 FROM deleted_user LIMIT 1") is not None:
            self.overwrite_deleted(always=True)

    def _upgrade(self, version: int, *, checked: bool) -> None:
        """Upgrade a store of an earlier version. Raises SQLite's errors; the store is then
        unchanged, or of a version between.
        """
        if version < 4:
            with self.transaction():
                if version == 2:
                    self._run(schema.UPGRADE_FROM_2).fetchall()
                self._run(schema.UPGRADE_FROM_3).fetchall()
        if version < _CHECKSUMS_SINCE:
            self._add_checksums(checked=checked)
        elif checked and version < 7:
            # What these versions deleted is still in there.
            self._rewrite()
        if version < 6:
            with self.transaction():
                self._run(schema.UPGRADE_FROM_5).fetchall()
                users: list[Row] = self._run("SELECT row, name FROM user").fetchall()
                for row, name in users:
                    self.add_looks(row, name, looks(name))
        if version >= 7:
            self._look_for_deleted()
        with self.transaction():
            if version < 7:
                self._run(schema.UPGRADE_FROM_6).fetchall()
            if version < 8:
                self._run(schema.UPGRADE_FROM_7).fetchall()
            if version < 9:
                self._run(schema.UPGRADE_FROM_8).fetchall()
            if version < 10:
                self._run(schema.UPGRADE_FROM_9).fetchall()
            if version < 11:
                self._run(schema.UPGRADE_FROM_10).fetchall()
            if version < 12:
                self._run(schema.UPGRADE_FROM_11).fetchall()
            if version < 13:
                self._run(schema.PAGES_OF_TOKENS).fetchall()
                self._run(schema.UPGRADE_FROM_12).fetchall()
            self._run(schema.UPGRADE_FROM_13).fetchall()

    def _add_checksums(self, *, checked: bool) -> None:
        if checked:
            # One that broke off leaves pages with checksums, in which version 4 may have written
            # since.
            self._run("PRAGMA checksum_verification = OFF").fetchall()
            self.connection.reserve_bytes("main", _CHECKSUM_BYTES)
            self._rewrite()
            self._run("PRAGMA checksum_verification = ON").fetchall()
        with self.transaction():
            self._run(schema.UPGRADE_FROM_4).fetchall()

    def _rewrite(self) -> None:
        """Rewrite all pages, without what was deleted from them."""
        # In memory it would take as much as the mail.
        self._run("PRAGMA temp_store = FILE")
        self._run("VACUUM")
        self._run("PRAGMA temp_store = MEMORY")

    def add_looks(self, user: int, name: str, seen: Sequence[str]) -> None:
        """Inside a transaction: note what the name of a user looks like."""
        beyond_ascii = 0 if name.isascii() else 1
        self.execute_many("INSERT INTO name_look VALUES (?, ?, ?)", [(look, beyond_ascii, user) for look in seen])

    def _note_wal_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return 0

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Generator[None]:
        """Everything written inside is committed together when it ends; any exception undoes all of
        it.

        Not `synced`: a power cut before the next checkpoint may undo it, as a whole, with all
        transactions behind it. Raises `StoreFull` and `StoreFailed`; other exceptions from inside
        pass after the rollback.
        """
        if synced:
            with self._transaction():
                yield
            self._lasting_commits = self._commits
            return
        with TRANSLATED:
            self._run("PRAGMA synchronous = NORMAL")
        try:
            with self._transaction():
                yield
        finally:
            with TRANSLATED:
                self._run(f"PRAGMA synchronous = {self._synchronous}")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with TRANSLATED:
            self._run("BEGIN IMMEDIATE")
            self._inside = True
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                # Some errors make SQLite roll back by itself.
                if not self.connection.get_autocommit():
                    self._run("ROLLBACK")
                raise
            finally:
                self._inside = False
            self._commits += 1

    @staticmethod
    def reading() -> AbstractContextManager[None]:
        """Read outside of a transaction: each statement sees what was committed. Raises
        `StoreFailed`, `StoreFull`.
        """
        return TRANSLATED

    @contextmanager
    def writing(self) -> Generator[None]:
        """Inside a transaction, around writes: damage raises `TablesDamaged`. Other errors pass."""
        try:
            yield
        except BROKEN as error:
            if not is_altered(error):
                raise
            raise TablesDamaged(damage_message(error)) from error

    @property
    def in_transaction(self) -> bool:
        """Whether what is read may still be undone."""
        return self._inside

    def refuse_undone(self, error: BaseException) -> None:
        """Raise `TablesDamaged` if the damage that was read made SQLite undo the transaction, in
        which nothing may follow.
        """
        if self._inside and self.connection.get_autocommit():
            raise TablesDamaged(damage_message(error)) from error

    @contextmanager
    def unchecked(self) -> Generator[None]:
        """Inside, pages are read even if their checksums are wrong; pages that are written get
        right ones. Only for an operator's command.

        Raises `StoreDamaged`, `StoreFailed`, `StoreFull`.
        """
        with TRANSLATED:
            self._run("PRAGMA checksum_verification = OFF").fetchall()
            try:
                yield
            finally:
                self._run("PRAGMA checksum_verification = ON").fetchall()

    def execute(self, sql: str, bindings: Sequence[Value] = ()) -> Iterator[Row]:
        """Run one statement; the rows come as they are asked for."""
        return self._run(sql, bindings)

    def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each of `rows`."""
        self.connection.executemany(sql, rows)

    def find(self, sql: str, bindings: Sequence[Value] = ()) -> Row | None:
        """The first row, or None."""
        found: Row | None = self._run(sql, bindings).fetchone()
        return found

    def row(self, sql: str, bindings: Sequence[Value] = ()) -> Row:
        """The only row, which must exist."""
        found = self.find(sql, bindings)
        assert found is not None, sql
        return found

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong with the file: none where it is sound."""
        try:
            found = [str(line) for (line,) in self._run("PRAGMA integrity_check(100)")]
        except BROKEN as error:
            return [finding(error)]
        unread = f"unable to get the page. error code={apsw.SQLITE_IOERR_DATA}"
        return [] if found == ["ok"] else [line.replace(unread, "is not as it was written") for line in found]

    @property
    def is_current(self) -> bool:
        """Whether its schema is this version's. It may not be until a worker of this version has
        started.
        """
        version: int = self.row("PRAGMA user_version")[0]
        return version == schema.VERSION

    @property
    def has_tally(self) -> bool:
        """Whether the table `tally` exists. It does not until a worker of this version has opened
        the store.
        """
        return self.find("SELECT 1 FROM sqlite_schema WHERE name = 'tally'") is not None

    def changes(self) -> int:
        """How many rows the last statement changed."""
        return self.connection.changes()

    def data_version(self) -> int:
        """A number that changes when another process has changed the database."""
        # Asked in every turn, so without the steps of `row`.
        for (version,) in self._run("PRAGMA data_version"):
            return int(version)
        raise AssertionError("SQLite always has a data version")

    def overwrite_deleted(self, *, always: bool) -> None:
        """Whether what is deleted is overwritten with zeros in whole pages, too, which then have to
        be written. In pages that are written anyway it always is.
        """
        self._run(f"PRAGMA secure_delete = {'ON' if always else 'FAST'}").fetchall()

    def take_free(self, most_bytes: int) -> int:
        """Inside a transaction: overwrite free pages, up to so many bytes of them, and keep them
        from being used; how many bytes are still free.
        """
        self._run("CREATE TABLE IF NOT EXISTS overwritten (row INTEGER PRIMARY KEY, zeros BLOB NOT NULL) STRICT")
        # SQLite leaves what it does not need of a value's last page as it was: so each page is
        # full, and what is over lies in the row, beside others.
        in_page = self._page_size - self.connection.reserve_bytes("main") - 4
        pages = int(self.row("PRAGMA freelist_count")[0])
        taken = min(most_bytes // self._page_size, pages)
        if taken:
            self._run("INSERT INTO overwritten (zeros) VALUES (zeroblob(?))", (taken * in_page + self._page_size // 8,))
        return int(self.row("PRAGMA freelist_count")[0]) * self._page_size

    def give_free_back(self, rows: int) -> bool:
        """Inside a transaction: let go of what `take_free` took, so many pieces of it; whether that
        was all.
        """
        if self.find("SELECT 1 FROM sqlite_schema WHERE name = 'overwritten'") is None:
            return True
        self._run("DELETE FROM overwritten WHERE row IN (SELECT row FROM overwritten LIMIT ?)", (rows,))
        if self.find("SELECT 1 FROM overwritten") is not None:
            return False
        self._run("DROP TABLE overwritten")
        return True

    def unused_bytes(self) -> int:
        """Bytes inside the file that deleted rows left."""
        with TRANSLATED:
            return int(self.row("PRAGMA freelist_count")[0]) * self._page_size

    def used_bytes(self) -> int:
        """About how many bytes a copy of the file would take. Raises `StoreFailed`."""
        with TRANSLATED:
            pages = int(self.row("PRAGMA page_count")[0]) - int(self.row("PRAGMA freelist_count")[0])
        return pages * self._page_size

    def copy_to(self, path: Path) -> None:
        """Write a copy of the present state to a new file. Another connection may go on writing.
        Raises SQLite's errors, for `reading`.
        """
        self._run("VACUUM INTO ?", (str(path),)).fetchall()

    def interrupt(self) -> None:
        """Called from any thread: make this connection's current statement fail with
        `StoreFailed`.
        """
        self.connection.interrupt()

    def drop_ballast(self) -> None:
        """Inside a transaction: give up the ballast, so that this transaction finds free pages."""
        self._run("DELETE FROM ballast")
        self._has_ballast = False

    def take_ballast(self) -> bool:
        """In a transaction of its own: reserve the ballast again if it was given up. Returns
        whether it is reserved now.
        """
        if not self._has_ballast:
            try:
                with self.transaction():
                    self._run("INSERT OR REPLACE INTO ballast VALUES (1, zeroblob(?))", (_BALLAST_BYTES,))
            except StoreFull:
                return False
            self._has_ballast = True
        return True

    @property
    def lasting(self) -> bool:
        """Whether every transaction is on disk."""
        return self._lasting_commits == self._commits

    def make_lasting(self) -> None:
        """Outside of a transaction: make sure that every transaction is on disk. Raises
        `StoreFailed`, `StoreFull`.
        """
        if not self.lasting:
            with self.transaction():
                # SQLite neither writes nor syncs where a row gets the bytes that it has; a row's
                # key is written always.
                self._run("UPDATE store SET id = id")

    @property
    def commits(self) -> int:
        """How many transactions there were since it was opened."""
        return self._commits

    @property
    def checkpoint_due(self) -> bool:
        """Whether the log has grown enough for a checkpoint, or holds something that is not on
        disk.
        """
        return self.wal_pages * self._page_size >= self.checkpoint_bytes or not self.lasting

    def checkpoint(self, *, truncate: bool = False, waits: bool = True) -> bool:
        """Copy the log into the database; returns whether all of it was copied. `truncate`: also
        free its disk space. Without `waits`, do not wait for readers.

        Raises `StoreFull` and `StoreFailed`. Outside of transactions only.
        """
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
        with TRANSLATED:
            if not waits:
                self.connection.set_busy_timeout(0)
            try:
                pages, copied = self.connection.wal_checkpoint(mode=mode)
            except apsw.BusyError:
                # An admin command or a backup reads at this moment; the next time will do.
                return False
            finally:
                self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if pages != copied:
            return False
        self.checkpointed(self._commits)
        return True

    def checkpointed(self, commits: int) -> None:
        """A checkpoint, also one by another connection, copied the first `commits`
        transactions at least.
        """
        self._lasting_commits = max(self._lasting_commits, commits)
        if commits == self._commits:
            self.wal_pages = 0

    def close(self) -> None:
        """Checkpoint and close. Raises `StoreFailed` if that does not reach the disk."""
        if self._beside:
            self.abandon()
            return
        try:
            self.checkpoint(truncate=True)
        except StoreFull:
            # The log keeps what the database has no room for; the next start takes it from there.
            self.abandon()
            return
        self._closed = True
        self.connection.close()

    def abandon(self) -> None:
        """After a failure: close without writing anything more. Does nothing if it is closed."""
        if not self._closed:
            self._closed = True
            self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.connection.close()
