"""What the errors of SQLite mean: damage, a full disk, a failing disk, or a bug of ours.

Owns: how they are told apart, and their wording. Promises: pure; errors that are not the store's or
its disk's pass unchanged.
Exposure: none.
"""

from typing import Final

import apsw

from storage_worker.engine.errors import StorageError, StoreDamaged, StoreFailed, StoreFull

BROKEN: Final = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.BusyError,
    apsw.ProtocolError,
    apsw.NoLFSError,
    apsw.NoMemError,
    apsw.InterruptError,
)
"""The store or its disk fails; anything else is a bug."""

CHECK_STEP: Final = "`scripts/admin check` names what is altered, and what to do"

PASSING: Final = (apsw.BusyError, apsw.IOError, apsw.NoMemError, apsw.ProtocolError)
"""What may have passed when the database is opened the next time."""


def is_altered(error: BaseException) -> bool:
    """Whether SQLite found a page that is altered or malformed."""
    return isinstance(error, apsw.CorruptError | apsw.NotADBError) or (
        isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA
    )


def finding(error: BaseException) -> str:
    """What SQLite found. For a wrong checksum its own message is only "disk I/O error"."""
    return "a page is not as it was written" if isinstance(error, apsw.IOError) else str(error)


def damage_message(error: BaseException) -> str:
    """A sentence for an error that `is_damage`: what is damaged, and the next step."""
    if isinstance(error, StoreDamaged):
        return str(error) if CHECK_STEP in str(error) else f"{error}. {CHECK_STEP}"
    return f"mail.db is damaged: {finding(error)}. {CHECK_STEP}"


def is_store_error(error: BaseException) -> bool:
    """Whether an exception from inside a transaction is the store's failure, not the program's.

    Damage is none: what touches it is refused, and the store continues.
    """
    return isinstance(error, (apsw.FullError, *BROKEN)) and not is_altered(error)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that what was read is damaged."""
    return isinstance(error, StoreDamaged) or is_altered(error)


class TranslatedErrors:
    """A context that raises our errors in place of SQLite's: `StoreFull`, `StoreDamaged`, and
    `failure` for the rest. Not a generator, because each turn enters it twice.
    """

    def __init__(self, failure: type[StorageError]) -> None:
        self._failure = failure

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, apsw.FullError):
            raise StoreFull(str(error)) from error
        if isinstance(error, BROKEN):
            if is_altered(error):
                raise StoreDamaged(damage_message(error)) from error
            raise self._failure(f"{type(error).__name__}: {error}") from error


TRANSLATED: Final = TranslatedErrors(StoreFailed)
"""Raises `StoreFailed`, `StoreFull`, `StoreDamaged`."""
