"""Whether anybody lives in a folder, and opening a home, whatever was under way when the program
died.

Owns: what counts as a user's own in a home; what is ended before anything else is done: an import
that was whole, a change of the passphrase or of the server that was decided.
Promises: looking changes nothing. Who opens a home through here sees the state before such a step
or the one after it, and never one between; while a home is brought into a folder nobody opens it,
and nobody else brings another one.
Exposure: an import brings a store.db that somebody else may have made: what it wants to have
written is written only if it is a file that holds a key, or server.info.

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
"""The same once all of it is on disk; what is in there belongs one level up."""


def what_is_there(home: Path) -> Path | None:
    """Return the first thing of a user's own in a home: identity, key, store, import; None if
    nobody lives yet.

    Raises `StoreUnusable` if that can't be seen.
    """
    with told(home):
        if not home.exists():
            return None
        return next((path for path in sorted(home.iterdir()) if _is_somebodys(path.name)), None)


def home_sentence(home: Path) -> str:
    """Say where the home is, to somebody who did not name it."""
    return f"Your identity, keys and messages are kept in {home}; --home names another folder."


def require_somebody(home: Path) -> None:
    """Raise `NotRegistered` if nobody lives yet: opening such a folder would leave a store in it.

    Raises `StoreUnusable` too.
    """
    if what_is_there(home) is None:
        if not home.exists():
            raise NotRegistered(f"There is no home {home}.", "Register first, or use --home.")
        raise identity_files.no_identity()


def refuse_a_home_in_use(home: Path) -> None:
    """Raise `AlreadyRegistered` if somebody lives already: nothing of anybody's is replaced."""
    settle_import(home)
    _refuse_somebody(home)


@contextlib.contextmanager
def moving_in(home: Path) -> Iterator[None]:
    """Hold a folder in which nobody lives, made if it is missing, while a home is brought into it.

    Meanwhile nobody opens it. If this fails, a folder that was made is gone. Raises
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
    """Lock a home's folder: shared by who opens it, alone for who brings a home into it.
    Leaves no file behind.
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

    `to_read`: if the home can't be written, a copy in memory is opened, and what was left to be
    written is left.

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
    """Convert a store that an earlier version made, and tell so in a sentence; else change nothing.

    For commands that open the home without saying so. Raises what `open_store` raises.
    """
    if (home / STORE_FILE).exists():
        store = open_store(home, to_read=to_read)
        try:
            if store.conversion is not None:
                tell(store.conversion)
        finally:
            store.close()


def settle_import(home: Path) -> None:
    """Move what a whole import brought to its place. Raises `StoreUnusable`."""
    with told(home):
        if not (home / ARRIVED).is_dir():
            return
    with _held(home, fcntl.LOCK_EX):
        settle_held(home)


def settle_held(home: Path) -> None:
    """As `settle_import`, within `moving_in`."""
    arrived = home / ARRIVED
    with told(arrived):
        # Another process may have done it meanwhile.
        if arrived.is_dir():
            for path in sorted(arrived.iterdir()):
                path.replace(home / path.name)
            sync_folder(home)
            arrived.rmdir()
            sync_folder(home)
