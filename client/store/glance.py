"""Reading the names in a store, for completion while a user types: nothing is created, converted or
locked.

Owns: what can be read of a home without its passphrase and without `client.store.home_store`.
Promises: changes nothing and waits for nobody. Returns no names if it could not keep that, if the
home has a passphrase, or if there is no store that this program can read.
Exposure: reads a file that somebody else may have written; names are the server's, and only valid
user names are returned.

Source: docs/client.md, "completion".
"""

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from client import paths
from client.store.schema import APPLICATION_ID
from common.errors import ValueRejected
from common.names import any_username

MOST: Final = 100
"""The most names; for others, the user types more letters."""


def names_beginning(path: Path, prefix: str) -> list[str]:
    """Return the listed names that begin so, in order, up to `MOST`."""
    if not paths.is_utf8(prefix) or not path.is_file():
        return []
    # A WAL belongs to a process that uses the home now, and has the newest pages. Without one the
    # file is complete, and SQLite would make a WAL to read it.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    try:
        with paths.for_sqlite(path) as name:
            connection = apsw.Connection(
                f"file:{quote(os.fsencode(name))}?{how}", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
        try:
            return _names(connection, prefix)
        finally:
            connection.close()
    except (apsw.Error, OSError):
        return []


def _names(connection: apsw.Connection, prefix: str) -> list[str]:
    known = next(connection.execute("PRAGMA application_id"))[0] == APPLICATION_ID
    if not known or connection.execute("SELECT 1 FROM vault WHERE wrapped IS NOT NULL").fetchall():
        return []
    rows = connection.execute(
        "SELECT name FROM contact WHERE listed AND name >= ? ORDER BY name LIMIT ?", (prefix, MOST)
    )
    return [name for (name,) in rows if isinstance(name, str) and name.startswith(prefix) and _is_usable(name)]


def _is_usable(name: str) -> bool:
    try:
        any_username(name)
    except ValueRejected:
        return False
    return True
