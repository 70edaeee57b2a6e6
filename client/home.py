"""Opening a home, whatever was under way when the program died.

Owns: what is ended before anything else is done: an import that was whole, a change of the passphrase that was decided.
Promises: who opens a home through here sees the state before such a step or the one after it, and never one between.
Exposure: an import brings a store.db that somebody else may have made: what it wants to have written is written only
where it is a file that holds a key.

Source: docs/client.md, "Export and import"; `client.passphrase`.
"""

from pathlib import Path
from typing import Final

from client import identity_files
from client.store import STORE_FILE, Store
from client.tables.database import told
from common.disk import sync_folder
from common.errors import StoreBroken

ARRIVING: Final = ".importing"
"""The folder in a home into which an import writes."""
ARRIVED: Final = ".imported"
"""The same once all of it is on disk; what is in there belongs one level up."""


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
    if not arrived.is_dir():
        return
    with told(arrived):
        for path in sorted(arrived.iterdir()):
            path.replace(home / path.name)
        sync_folder(home)
        arrived.rmdir()
        sync_folder(home)
