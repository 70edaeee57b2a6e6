"""The files of the data folder, and its lock.

Owns: the names of the files, the lock that one worker holds, how file names are made durable, and
which failures mean that there is no room, or that no more files may be open.
Promises: never two workers on one store; a new name in it survives a power cut once `sync_folder`
returned.
Exposure: the folder's owner.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from common import filesystem
from common.data_folder import exclusive
from storage_worker.engine.errors import NoFileLeft, StorageError, StoreFailed, StoreFull, StoreInUse, StoreUnusable

DATABASE_NAME: Final = "mail.db"
JOURNAL_NAMES: Final = ("mail.journal", "mail.journal.2")
BLOBS_NAME: Final = "bodies"
GENERATION_NAME: Final = "store.generation"
LOCK_NAME: Final = "worker.lock"
OWN_NAMES: Final = (
    LOCK_NAME,
    DATABASE_NAME,
    f"{DATABASE_NAME}-wal",
    f"{DATABASE_NAME}-shm",
    *JOURNAL_NAMES,
    BLOBS_NAME,
    GENERATION_NAME,
    f"{GENERATION_NAME}.new",
)
"""All that the worker makes in the data folder. Others may have files of their own there."""
_PUT_BACK: Final = "Move it away, or put the whole data folder back from a backup"


def folder_lock(folder: Path) -> AbstractContextManager[None]:
    """Lock the data folder. Entering raises `StoreInUse` if another process has locked it.

    ZeroMQ would not notice: a second bind of the same ipc path succeeds silently.
    """
    return exclusive(folder / LOCK_NAME, StoreInUse(f"another storage worker holds {folder}"))


def refuse_lost_database(folder: Path) -> None:
    """Check whether the database is gone although other files show that there was one.

    They are made after it, and it is on disk before they are. A new database would tell everybody
    to register again. Raises `StoreUnusable`.
    """
    database = folder / DATABASE_NAME
    try:
        if database.exists() and database.stat().st_size:
            return
        blobs = folder / BLOBS_NAME
        others = [name for name in (GENERATION_NAME, *JOURNAL_NAMES) if (folder / name).exists()]
        if blobs.is_dir() and any(blobs.iterdir()):
            others.append(f"{BLOBS_NAME}/")
        state = "is empty" if database.exists() else "is missing"
    except OSError as error:
        raise StoreUnusable(f"{folder} can't be read: {error.strerror}") from error
    if others:
        raise StoreUnusable(
            f"{database} {state}, but {', '.join(others)} beside it shows that there was a store. Put the whole data "
            "folder back from a backup and run `scripts/admin new-generation`; or move the folder away and start "
            "anew, where everybody registers again"
        )


def refuse_wrong_kinds(folder: Path) -> None:
    """Check that each of our names in the data folder is a file, and `blobs` a folder.

    Opening a pipe instead of a file would block forever. Raises `StoreUnusable`.
    """
    for name in OWN_NAMES:
        path = folder / name
        kind = "folder" if name == BLOBS_NAME else "file"
        try:
            if path.exists() and not (path.is_dir() if kind == "folder" else path.is_file()):
                raise StoreUnusable(f"{path} is no {kind}. {_PUT_BACK}")
        except OSError as error:
            raise StoreUnusable(f"{path} can't be read: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut. Raises `StoreFailed` and `NoFileLeft`."""
    try:
        filesystem.sync_folder(folder)
    except OSError as error:
        raise failed(error, f"{folder} can't be synced") from error


def failed(error: OSError, what: str) -> StorageError:
    """The error for a failure of `what`: `NoFileLeft` if no file could be opened, else
    `StoreFailed`.
    """
    failure = NoFileLeft if error.errno in filesystem.NO_FILE else StoreFailed
    return failure(f"{what}: {error.strerror}")


def unwritten(error: OSError, path: Path) -> StorageError:
    """The error for a failed write: `StoreFull` if there was no room, `NoFileLeft`, else
    `StoreFailed`.
    """
    failure = (
        StoreFull
        if error.errno in filesystem.NO_ROOM
        else NoFileLeft
        if error.errno in filesystem.NO_FILE
        else StoreFailed
    )
    return failure(filesystem.told(error, path).problem)
