"""The SQLite database itself: opening it, migrating it, transactions, and its failures in words.

Owns: the only SQLite of the client, except for the copies of `client.store.memory_copy`.
Promises: what was committed is on disk (WAL, synchronous=FULL); the files are mode 0600; a failure
is a `StoreUnusable` that says what to do, and a `StoreUnwritable` if it may be read.
Exposure: reads a file that somebody else may have written.

Source: docs/guarantees.md.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import apsw

from client import paths
from client.errors import StoreOfLaterVersion, StoreUnusable, StoreUnwritable
from client.store.memory_copy import memory_copy
from client.store.schema import APPLICATION_ID, FIRST, LATER_PARTS, VERSION
from common import filesystem

BUSY_MS: Final = 5000
_SNAPSHOT_TRIES: Final = 5

SqlValue = int | str | bytes | None
"""The types of this schema's columns."""


class Database:
    """One connection. Used from one thread."""

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection,
        copied_because: StoreUnwritable | None = None,
        converted_from: int | None = None,
    ) -> None:
        self.path = path
        self.converted_from = converted_from
        """The schema version that it had until this opening; None if that is the present one, or it
        is new.
        """
        self.copied_because = copied_because
        """Why this is a copy in memory, which can't be changed; None if it is the database itself.
        """
        self.connection = connection
        self._has_replaced = False
        """Whether the log may hold what was overwritten or deleted for good."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database, making it if there is none. Raises `StoreUnusable`."""
        with told(path):
            with paths.for_sqlite(path) as name:
                connection = apsw.Connection(name)
            try:
                return cls(path, connection, converted_from=_prepare(path, connection))
            except BaseException:
                connection.close()
                raise

    @classmethod
    def open_copy(cls, path: Path, because: StoreUnwritable) -> Self:
        """Open a copy in memory of a database that can't be written, in our present schema. Raises
        `StoreUnusable`.

        Every change of it raises a `StoreUnwritable` of `because`.
        """
        with told(path):
            connection = memory_copy(path)
            try:
                _prepare(path, connection)
                connection.execute("PRAGMA query_only = ON")
                return cls(path, connection, because)
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Closing twice changes nothing."""
        self.connection.close()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[bytes | None]:
        """Hold everything in the one file, while nobody can write to it; yields None. If the WAL
        can't be copied into the file, yields the whole content that the file would have. Raises
        `StoreUnusable` (busy).
        """
        whole = None
        try:
            if self.copied_because is not None or not self._gathered():
                with told(self.path):
                    whole = self.connection.serialize("main")
            yield whole
        finally:
            self._roll_back()

    def _gathered(self) -> bool:
        """Begin a transaction in which nobody else can write; return whether everything is in the
        file; False if there was no room.
        """
        try:
            self.gather()
        except StoreUnwritable:
            with told(self.path):
                self.connection.execute("BEGIN IMMEDIATE")
            return False
        return True

    def gather(self) -> None:
        """Copy the WAL into the database, and let nobody write."""
        with told(self.path):
            for _ in range(_SNAPSHOT_TRIES):
                next(self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
                self.connection.execute("BEGIN IMMEDIATE")
                wal = self.path.with_name(f"{self.path.name}-wal")
                if not wal.exists() or wal.stat().st_size == 0:
                    break
                # Another process wrote in between, or still reads an earlier state.
                self.connection.execute("ROLLBACK")
            else:
                raise StoreUnusable(f"{self.path} is busy; nothing was exported.", "Try again.")

    def check(self) -> None:
        """Check every page. Raises `StoreUnusable` if it is damaged."""
        found = self.value("PRAGMA integrity_check(1)")
        if found != "ok":
            raise _damaged(self.path, str(found).replace("\n", " "))

    def overwrite_freed(self) -> None:
        """From now on, overwritten or deleted content leaves nothing in the pages; nor in the log
        after `erase_replaced`.
        """
        self.connection.execute("PRAGMA secure_delete = ON")
        self._has_replaced = True

    def erase_replaced(self) -> None:
        """Empty the log, which has every page as it was after each transaction since. If another
        process reads or writes just now, that is left to the next time. Nothing happens if nothing
        was replaced.
        """
        if not self._has_replaced:
            return
        with told(self.path):
            self.connection.set_busy_timeout(0)
            try:
                busy, _, _ = next(self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
            except apsw.BusyError:
                busy = 1
            finally:
                self.connection.set_busy_timeout(BUSY_MS)
        self._has_replaced = bool(busy)

    def rewrite(self) -> bool:
        """Rewrite everything, so that nothing deleted is left in the file; False if another process
        uses it.
        """
        with told(self.path):
            self.overwrite_freed()
            self.connection.execute("VACUUM")
            busy, _, _ = next(self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
            return not busy

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: all or nothing. Raises `StoreUnusable`."""
        if self.copied_because is not None:
            raise StoreUnwritable(str(self.copied_because), self.copied_because.advice) from self.copied_because
        with told(self.path):
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back by itself.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def run(self, statement: str, *values: SqlValue) -> None:
        """Change something; only within a transaction."""
        self.connection.execute(statement, values)

    def rows(self, query: str, *values: SqlValue) -> list[tuple[Any, ...]]:
        """Return the rows that a query finds."""
        # Any: the STRICT tables check the types, and each caller knows its columns.
        with told(self.path):
            return list(self.connection.execute(query, values))

    def value(self, query: str, *values: SqlValue) -> SqlValue:
        """Return the one value that a query finds, or None."""
        rows: list[tuple[SqlValue, ...]] = self.rows(query, *values)
        return rows[0][0] if rows else None

    def read_texts(self, table: str, column: str) -> None:
        """Read every text of a column, one at a time. Raises `StoreUnusable` if one is not UTF-8.
        The names are our own text.
        """
        with told(self.path):
            for _ in self.connection.execute(f"SELECT {column} FROM {table} WHERE typeof({column}) = 'text'"):  # noqa: S608
                pass

    def changed(self) -> int:
        """Return how many rows the last statement changed."""
        return self.connection.changes()

    def last_row(self) -> int:
        """Return the number of the row that was inserted last."""
        return self.connection.last_insert_rowid()

    def next_number(self, table: str) -> int:
        """Return the number that the next row of a table gets, which is sealed with its secrets.
        Only within a transaction.
        """
        return int(self.value("SELECT seq FROM sqlite_sequence WHERE name = ?", table) or 0) + 1


@contextlib.contextmanager
def foreign(path: Path) -> Iterator[Database]:
    """Open a database file that somebody else may have made, read-only; nothing is written, and no
    file is made beside it. It has to be undamaged, with exactly the tables and indexes of one of
    our versions: no triggers, no views, nothing else. Raises `StoreUnusable`.
    """
    with told(path), paths.for_sqlite(path) as name:
        uri = f"file:{quote(os.fsencode(name))}?mode=ro&immutable=1"
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            _defend(connection)
            (version,) = next(connection.execute("PRAGMA user_version"))
            (application,) = next(connection.execute("PRAGMA application_id"))
            if application == APPLICATION_ID and version > VERSION:
                raise StoreOfLaterVersion(
                    f"{path.name} was written by a later version of MessageU.", "Upgrade this one."
                )
            if application != APPLICATION_ID or not 1 <= version <= VERSION:
                raise StoreUnusable(
                    f"{path.name} is no store that this version of MessageU knows.", "Install the newest one."
                )
            if _schema(connection) != _schema_of(version):
                raise StoreUnusable(f"{path.name} has other tables than a store of MessageU.", "Use another export.")
            (found,) = next(connection.execute("PRAGMA integrity_check(1)"))
            if found != "ok":
                raise _damaged(path, str(found).replace("\n", " "))
            yield Database(path, connection)
        finally:
            connection.close()


def _schema(connection: apsw.Connection) -> list[tuple[Any, ...]]:
    return sorted(connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"))


def _schema_of(version: int) -> list[tuple[Any, ...]]:
    """Return what `_schema` says of a new store of a version."""
    connection = apsw.Connection(":memory:")
    try:
        connection.execute(FIRST)
        for added_in, part in LATER_PARTS:
            if added_in <= version:
                connection.execute(part)
        return _schema(connection)
    finally:
        connection.close()


def _defend(connection: apsw.Connection) -> None:
    """Make SQLite trust nothing in a file that somebody else may have written."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)


def _prepare(path: Path, connection: apsw.Connection) -> int | None:
    """Upgrade it to the current schema; return its earlier version, None if nothing was
    converted.
    """
    _defend(connection)
    connection.set_busy_timeout(BUSY_MS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (application,) = next(connection.execute("PRAGMA application_id"))
        (found,) = next(connection.execute("PRAGMA user_version"))
        version = found
        (tables,) = next(connection.execute("SELECT count(*) FROM sqlite_schema"))
        if application == 0 and version == 0 and tables == 0:
            connection.execute(FIRST)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            version = 1
        elif application != APPLICATION_ID:
            raise StoreUnusable(f"{path} is not a store of MessageU.", "Use another home, or move that file away.")
        elif not 1 <= version <= VERSION:
            raise StoreUnusable(
                f"{path} was written by a newer MessageU: it has schema version {version}, and this program knows "
                f"{VERSION} at most.",
                "Install the newer one; nothing was changed. Or use --home for a new home.",
            )
        for added_in, part in LATER_PARTS:
            if version < added_in:
                connection.execute(part)
        if found != VERSION:
            connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    return found if found not in {0, VERSION} else None


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the failures of SQLite and of the file system, and texts that are none, into
    `StoreUnusable`.
    """
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise _damaged(path, str(error)) from error
    except UnicodeDecodeError as error:
        # SQLite stores a text as the bytes that it was given.
        raise _damaged(path, "a text in it is not UTF-8") from error
    except apsw.BusyError as error:
        raise StoreUnusable(f"{path} is busy.", "Another process works on it; try again.") from error
    except apsw.Error as error:
        number = _why_unwritable(error, path)
        if number is not None:
            raise _unusable(OSError(number, os.strerror(number)), path) from error
        # Perhaps a file beside it can't be made, for a reason that SQLite does not report.
        kind = StoreUnwritable if isinstance(error, apsw.CantOpenError) else StoreUnusable
        raise kind(f"{path} can't be used ({error}).", "Check the folder, its permissions and the disk.") from error
    except OSError as error:
        raise _unusable(error, path) from error


def _damaged(path: Path, how: str) -> StoreUnusable:
    return StoreUnusable(
        f"{path} is damaged ({how}).",
        "Restore an export, or move it away: contacts, keys and history then start empty.",
    )


def _unusable(error: OSError, path: Path) -> StoreUnusable:
    problem, advice = filesystem.told(error, path, "used")
    kind = StoreUnwritable if error.errno in filesystem.NO_ROOM | filesystem.NO_LEAVE else StoreUnusable
    return kind(f"{problem}.", advice)


def _why_unwritable(error: apsw.Error, path: Path) -> int | None:
    """Return the system's error number behind an error of SQLite which means that nothing can be
    written.
    """
    # The second: no room for the index of the WAL, which is a file too. (apsw's stubs do not have
    # the attribute.)
    extended = getattr(error, "extendedresult", None)
    if isinstance(error, apsw.FullError) or extended == apsw.SQLITE_IOERR_SHMSIZE:
        return errno.ENOSPC
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
            return errno.EROFS
        # SQLite makes files in the folder, beside the one that it writes.
        if isinstance(error, apsw.ReadOnlyError) or not os.access(path.parent, os.W_OK | os.X_OK):
            return errno.EACCES
        free = os.statvfs(path.parent)
        if not free.f_bavail or (free.f_files and not free.f_favail):
            # No room for a file name, or for another file.
            return errno.ENOSPC
    return None
