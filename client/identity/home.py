"""Whether a folder is a home, and opening a home, including one where the program died halfway.

Owns: which files show that a folder is in use; what is completed before anything else is done: an
import that was fully written, and a change of passphrase or server that was committed.
Promises: looking changes nothing. A home that is opened here is in the state before such a step or
after it, and never between. While a home is imported into a folder, nobody opens it, and no other
import begins.
Exposure: an import brings a store.db that somebody else may have made: a file that it names is
written only if it is one that holds a key, or server.info.

Source: docs/client.md, "Export and import"; `client.identity.passphrase`.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from client.errors import AlreadyRegistered, HomeInUse, NotRegistered, StoreUnusable
from client.identity import identity_files
from client.store.database import told
from client.store.home_store import SPOOL_FOLDER, STORE_FILE, Store
from common.errors import FileUnwritten
from common.filesystem import sync_folder, writing
from common.info_files import SERVER_INFO

ARRIVING: Final = ".importing"
"""The folder in a home into which an import writes."""
ARRIVED: Final = ".imported"
"""The same folder once all of it is on disk; its files belong one level up."""


def what_is_there(home: Path) -> Path | None:
    """Return the first file that shows that a home is in use: identity, key, store, import; None if
    there is none.

    Raises `StoreUnusable` if the folder can't be read.
    """
    with told(home):
        if not home.exists():
            return None
        return next((path for path in sorted(home.iterdir()) if _is_somebodys(path.name)), None)


def home_sentence(home: Path) -> str:
    """Return a sentence on where the home is, for a user who did not name it."""
    return f"Your identity, keys and messages are kept in {home}; --home names another folder."


def require_somebody(home: Path) -> None:
    """Raise `NotRegistered` if the folder is not in use: opening it would leave a store in it.

    Raises `StoreUnusable` too.
    """
    if what_is_there(home) is None:
        if not home.exists():
            raise NotRegistered(f"There is no home {home}.", "Register first, or use --home.")
        raise identity_files.no_identity()


def refuse_a_home_in_use(home: Path) -> None:
    """Raise `AlreadyRegistered` if the home is in use: nothing is replaced."""
    settle_import(home)
    _refuse_somebody(home)


@contextlib.contextmanager
def moving_in(home: Path) -> Iterator[None]:
    """Lock an unused folder, made if it is missing, while a home is imported into it.

    Meanwhile nobody can open it. If this fails, a folder that was made is removed. Raises
    `AlreadyRegistered`, `HomeInUse`, `FileUnwritten`, `StoreUnusable`, and what comes from within.
    """
    try:
        made = not home.exists()
        with writing(home):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(home, fcntl.LOCK_EX | fcntl.LOCK_NB):
            try:
                _refuse_somebody(home)
                yield
            except BaseException:
                if made:
                    with contextlib.suppress(OSError):
                        home.rmdir()
                raise
    except FileUnwritten as error:
        raise FileUnwritten(error.path, f"{error.problem}; nothing was imported", error.advice) from error


def _refuse_somebody(home: Path) -> None:
    found = what_is_there(home)
    if found is not None:
        raise AlreadyRegistered(
            f"{found} exists, and it is not replaced; nothing was imported.", "Use --home for a new folder."
        )


@contextlib.contextmanager
def _held(home: Path, how: int) -> Iterator[None]:
    """Lock a home's folder: shared to open it, exclusive to import into it. Leaves no
    file behind.
    """
    with told(home):
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError as error:
            raise HomeInUse(
                f"Another process imports into {home}, or opens it just now.", "Try again when it is done."
            ) from error
        yield
    finally:
        os.close(descriptor)


def _is_somebodys(name: str) -> bool:
    return identity_files.holds_key(name) or name in {STORE_FILE, SPOOL_FOLDER, ARRIVED}


def open_store(home: Path, *, to_read: bool = False) -> Store:
    """Open a home's store, still locked if it has a passphrase.

    `to_read`: if the home can't be written, a copy in memory is opened, and files that were left to
    be written stay so.

    Raises `StoreUnusable`, `InfoFileError`, and `HomeInUse` while another process imports into it.
    """
    settle_import(home)
    with _held(home, fcntl.LOCK_SH | fcntl.LOCK_NB):
        store = Store.open_to_read(home) if to_read else Store.open(home)
    if store.unwritable is not None:
        return store

    try:
        store.sealing.settle(lambda name, content: write_settled(home, name, content))
        store.erase_traces()
    except BaseException:
        store.close()
        raise
    return store


def write_settled(home: Path, name: str, content: str) -> None:
    """Write a file that the store left to be written. Raises `FileUnwritten`, and `StoreUnusable`
    if that is none of a home's.
    """
    if not identity_files.holds_key(name) and name != SERVER_INFO:
        raise StoreUnusable(
            f"{home / STORE_FILE} wants to write {name!r}, which is none of its files: somebody altered it.",
            "Move it away, and restore an export of yours.",
        )
    identity_files.write_whole(home / name, content)


def convert(home: Path, tell: Callable[[str], None], *, to_read: bool = False) -> None:
    """Convert a store of an earlier version, and return a sentence about it; otherwise change
    nothing.

    For commands that open the home indirectly. Raises what `open_store` raises.
    """
    if (home / STORE_FILE).exists():
        store = open_store(home, to_read=to_read)
        try:
            if store.conversion is not None:
                tell(store.conversion)
        finally:
            store.close()


def settle_import(home: Path) -> None:
    """Move the files of a complete import to their places. Raises `StoreUnusable`."""
    with told(home):
        if not (home / ARRIVED).is_dir():
            return
    with _held(home, fcntl.LOCK_EX):
        settle_held(home)


def settle_held(home: Path) -> None:
    """As `settle_import`, within `moving_in`."""
    arrived = home / ARRIVED
    with told(arrived):
        # Another process may have done it in the meantime.
        if arrived.is_dir():
            for path in sorted(arrived.iterdir()):
                path.replace(home / path.name)
            sync_folder(home)
            arrived.rmdir()
            sync_folder(home)
