"""A store that came from outside: the checks of each row before it may become this home's.

Owns: the condition of each table, and the spool files that belong to rows.
Promises: a store that passes is one that this program could have written: ids, sizes, numbers and
times are in range, and large contents have our form of names, exist, and have the size that their
rows say. Anything else is a `StoreUnusable` that names the table and the row.
Exposure: somebody else chose every byte; `foreign` of the database checks its form first.
"""

from pathlib import Path
from typing import Final

from client.errors import StoreUnusable
from client.store.database import Database, foreign
from client.store.sent import WITHHELD
from client.store.settings import RESTORED
from client.store.spool import spool_name
from common.values import MessageKind

_ID: Final = "length({0}) = 16"
_NUMBER: Final = "{0} BETWEEN 1 AND 9007199254740992"
_TIME: Final = "{0} BETWEEN 0 AND 253402300799999"
"""Unix milliseconds of our own clock, up to the year 9999."""
_SIZE: Final = "{0} BETWEEN 0 AND 4294967295"
_FLAG: Final = "{0} IN (0, 1)"
_NAME: Final = (
    "length({0}) BETWEEN 1 AND 254 AND {0} NOT GLOB '*[' || char(1, unicode('-'), 31, 127, unicode('-'), 159) || ']*'"
)
"""Without control characters; other characters of a server's names are sanitized when they are
shown.
"""
_KEY: Final = "length({0}) = 160"
_ANY_NUMBER: Final = "{0} BETWEEN 0 AND 9223372036854775807"
_HASH: Final = "length({0}) = 32"
_COUNT: Final = "{0} BETWEEN 0 AND 9007199254740992"
_BYTE: Final = "{0} BETWEEN 0 AND 255"


def _or_none(condition: str) -> str:
    return f"({{0}} IS NULL OR {condition})"


_TEXT: Final = "length({0}) <= 268435456"
_CONTENT: Final = "length({0}) <= 17825792"
"""A payload of suite 1 has up to 16 MiB."""
COLUMNS: Final = {
    "setting": {
        "name": "length({0}) BETWEEN 1 AND 100 AND (({0} NOT GLOB 'watch_aside:*' AND {0} NOT GLOB 'watch_tries:*') OR "
        "(length({0}) = 28 AND substr({0}, 13) NOT GLOB '*[^0-9]*'))",
        "value": "length({0}) <= 65536 AND ((name <> 'watch_cursor' AND name NOT GLOB 'watch_tries:*') OR "
        "(length({0}) BETWEEN 1 AND 16 AND {0} NOT GLOB '*[^0-9]*'))",
    },
    "contact": {
        "client_id": _ID, "name": _NAME, "listed": _FLAG, "public_key": _or_none(_KEY),
        "key_asked": "{0} BETWEEN 0 AND 9007199254740992",
    },
    "shared_key": {
        "number": _NUMBER, "contact": _ID, "key": "length({0}) BETWEEN 16 AND 256", "made": _FLAG, "usable": _FLAG,
        "added_at": _TIME, "message": _or_none(_NUMBER), "sealed_to": _or_none(_KEY), "unasked": _FLAG,
        "after": _COUNT,
    },
    "pull": {"number": _NUMBER, "complete": _FLAG},
    "inbox": {
        "number": _NUMBER, "sender": _ID, "kind": _BYTE, "size": _SIZE, "content": _or_none(_CONTENT),
        "digest": "length({0}) = 32", "server_number": _ANY_NUMBER, "token": _or_none(_ID), "pull": _or_none(_NUMBER),
        "received_at": _TIME, "accepted_at": _or_none(_ANY_NUMBER), "sender_proven": _FLAG,
        "state": "{0} BETWEEN 0 AND 3", "repeated": _FLAG, "late": _FLAG,
        "saved_path": _or_none(f"({_TEXT} AND state IN (1, 2))"), "opened": _or_none(_COUNT),
        "payload_id": _or_none(_ID), "mark": _or_none("length({0}) <= 100"), "ask": _FLAG,
    },
    "outbox": {
        "number": _NUMBER, "token": _ID, "recipient": _ID, "kind": "{0} BETWEEN 1 AND 5", "size": _SIZE,
        "content": _or_none(_CONTENT), "shared_key": _or_none(_NUMBER), "queued_at": _TIME, "problem": _or_none(_TEXT),
        "under": _or_none(_NUMBER), "tried_at": _or_none(_TIME), "again": _FLAG,
        "digest": _or_none("length({0}) = 32"), "unsealed": _FLAG,
    },
    "acknowledged": {
        "number": _NUMBER, "token": _ID, "recipient": _ID, "kind": "{0} BETWEEN 1 AND 5", "size": _SIZE,
        "content": _or_none(_CONTENT), "shared_key": _or_none(_NUMBER), "under": _or_none(_NUMBER),
        "digest": _or_none("length({0}) = 32"), "acknowledged_at": _TIME, "lost": _FLAG,
    },
    "server": {"server_id": _ID, "generation": _ANY_NUMBER, "ack": _ANY_NUMBER},
    "sent": {
        "number": _NUMBER, "recipient": _ID, "kind": "{0} BETWEEN 1 AND 5", "text": _or_none(_TEXT),
        "path": _or_none(_TEXT), "queued_at": _TIME, "stored_at": _or_none(_TIME),
        "message_id": _or_none(_ANY_NUMBER), "problem": _or_none(_TEXT), "outbox": _or_none(_NUMBER),
        "after": _COUNT, "payload_id": _or_none(_ID), "asked_again": "{0} BETWEEN 0 AND 3",
    },
    "pin": {
        "client_id": _ID, "name": _NAME, "public_key": _KEY, "since": _TIME, "verified_at": _or_none(_TIME),
        "offered_id": _or_none(_ID), "offered_key": _or_none(_KEY), "offered_since": _or_none(_TIME),
    },
    "silenced": {
        "client_id": _ID, "blocked": _FLAG, "muted": _FLAG, "told": "{0} BETWEEN -1 AND 9223372036854775807",
    },
    "own_keys": {
        "number": "{0} = 1", "client_id": _ID, "state": "length({0}) <= 16777216", "server_id": _or_none(_ID),
        "generation": _or_none(_ANY_NUMBER),
    },
    "peer": {
        "number": _NUMBER, "client_id": _ID, "ed25519": _HASH, "curve25519": _HASH, "since": _TIME, "after": _COUNT,
        "verified_at": _or_none(_TIME), "offered_ed25519": _or_none(_HASH), "offered_curve25519": _or_none(_HASH),
        "offered_since": _or_none(_TIME), "told": _FLAG, "asked_at": _or_none(_TIME),
        "state": _or_none("length({0}) <= 1048576"),
    },
    "vault": {"wrapped": "length({0}) BETWEEN 1 AND 4096"},
    # An export has it empty; a row here would be written into the home.
    "rewrite": {"name": "0", "content": "0"},
    # The value that AUTOINCREMENT continues from: at its maximum no row could be added any more.
    "sqlite_sequence": {"seq": "{0} BETWEEN 0 AND 9007199254740992"},
}  # fmt: skip
"""By table and column, except for `spool`, the condition that a value must satisfy."""
_SPOOLING: Final = ("inbox", "outbox")


def check_foreign_store(path: Path, spool_folder: Path) -> None:
    """Check every row of a store, of any version, that is not yet this home's. Raises
    `StoreUnusable`.
    """
    with foreign(path) as database:
        for table, columns in COLUMNS.items():
            there = {name for (name,) in database.rows("SELECT name FROM pragma_table_info(?)", table)}
            for column in sorted(there & columns.keys()):
                _check_column(database, table, column, columns[column].format(column))
        for table in _SPOOLING:
            _check_spools(database, table, spool_folder)


def settle_foreign_store(path: Path) -> None:
    """Prepare a checked store that is not yet this home's: remove file names that might be sent
    again, as whoever made it chose the paths in its history; and note that its keys may have been
    used since. Raises `StoreUnusable`.
    """
    database = Database.open(path)
    try:
        with database.transaction():
            database.run(
                "DELETE FROM acknowledged WHERE kind NOT IN (1, 2, 3, 5) "
                "OR (kind = 5 AND number IN (SELECT outbox FROM sent WHERE path IS NOT NULL))"
            )
            database.run("UPDATE sent SET asked_again = ? WHERE path IS NOT NULL", WITHHELD)
            database.run("INSERT OR REPLACE INTO setting VALUES (?, '1')", RESTORED)
    finally:
        database.close()


def _check_column(database: Database, table: str, column: str, condition: str) -> None:
    # The names and the conditions are our own text.
    query = f"SELECT count(*) FROM {table} WHERE NOT coalesce({condition}, 0)"  # noqa: S608
    wrong = int(database.value(query) or 0)
    if wrong:
        raise StoreUnusable(
            f"store.db, {column} of {table}, holds what no MessageU wrote, {wrong} times.", "Use another export."
        )
    database.read_texts(table, column)


def _check_spools(database: Database, table: str, folder: Path) -> None:
    query = f"SELECT number, spool, size, content IS NULL, kind FROM {table} WHERE spool IS NOT NULL"  # noqa: S608
    for number, spool, size, alone, kind in database.rows(query):
        path = folder / spool_name(spool)
        try:
            there = not path.is_symlink() and path.is_file()
            # Of suite 1, the row has what comes before the file, perhaps sealed under a passphrase.
            fits = there and (kind == MessageKind.SEALED or (alone and path.stat().st_size == size))
        except OSError:
            fits = False
        if not fits:
            raise StoreUnusable(
                f"store.db, row {number} of {table}, names a large content that is not there.", "Export again."
            )
