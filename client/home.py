"""Whether anybody lives in a folder, and opening a home, whatever was under way when the program died.

Owns: what counts as a user's own in a home; what is ended before anything else is done: an import that was whole, a
change of the passphrase that was decided.
Promises: looking changes nothing. Who opens a home through here sees the state before such a step or the one after it,
and never one between.
Exposure: an import brings a store.db that somebody else may have made: what it wants to have written is written only
where it is a file that holds a key.

Source: docs/client.md, "Export and import"; `client.passphrase`.
"""

from pathlib import Path
from typing import Final

from client import identity_files
from client.store import SPOOL_FOLDER, STORE_FILE, Store
from client.tables.database import told
from common.disk import sync_folder
from common.errors import NotRegistered, StoreBroken

ARRIVING: Final = ".importing"
"""The folder in a home into which an import writes."""
ARRIVED: Final = ".imported"
"""The same once all of it is on disk; what is in there belongs one level up."""


def what_is_there(home: Path) -> Path | None:
    """Give the first thing of a user's own in a home: identity, key, store, import; None where nobody lives yet.

    Raises `StoreBroken` where that can't be seen.
    """
    with told(home):
        if not home.exists():
            return None
        return next((path for path in sorted(home.iterdir()) if _is_somebodys(path.name)), None)


def require_somebody(home: Path) -> None:
    """Raise `NotRegistered` where nobody lives yet: opening such a folder would leave a store in it.

    Raises `StoreBroken` too.
    """
    if what_is_there(home) is None:
        if not home.exists():
            raise NotRegistered(f"There is no home {home}.", "Register first, or use --home.")
        raise identity_files.no_identity()


def _is_somebodys(name: str) -> bool:
    return identity_files.holds_key(name) or name in {STORE_FILE, SPOOL_FOLDER, ARRIVED}


def open_store(home: Path) -> Store:
    """Open a home's store, still locked where it has a passphrase. Raises `StoreBroken`, `InfoFileError`."""
    settle_import(home)
    store = Store.open(home)

    def write(name: str, content: str) -> None:
        if not identity_files.holds_key(name):
            raise StoreBroken(
                f"{home / STORE_FILE} wants to write {name!r}, which is none of its files: somebody altered it.",
                "Move it away, and restore an export of yours.",
            )
        identity_files.write_whole(home / name, content)

    try:
        store.sealing.settle(write)
        store.erase_traces()
    except BaseException:
        store.close()
        raise
    return store


def settle_import(home: Path) -> None:
    """Move what a whole import brought to its place. Raises `StoreBroken`."""
    arrived = home / ARRIVED
    with told(arrived):
        if not arrived.is_dir():
            return
        for path in sorted(arrived.iterdir()):
            path.replace(home / path.name)
        sync_folder(home)
        arrived.rmdir()
        sync_folder(home)
