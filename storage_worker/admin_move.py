"""`messageu-admin move SOURCE TARGET`: a store to another engine, or into another number of parts,
while no worker runs.

Owns: this command. Promises: everything that was acknowledged is in the target, with the same ids,
sequences, generation and server id, so that clients notice nothing. The source is not changed, and
can be gone back to until a worker was started on the target. A move that breaks off leaves a target
that no worker starts on, and that the next move refuses or does not see.
Exposure: whoever may read the data folder, or connect to the database.

Source: docs/operations.md, "Move to PostgreSQL and back".
"""

import argparse
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from common.data_folder import become_owner
from common.errors import SettingRejected
from storage_worker.admin_output import Say, show
from storage_worker.engine.paged.moving import Source, Target, move
from storage_worker.engine.sqlite.database import load_checksums
from storage_worker.engine.sqlite.moving import SqliteSource, SqliteTarget
from storage_worker.settings import place_of

if TYPE_CHECKING:
    from storage_worker.engine.postgres.schema import Place

_SCHEME: Final = "://"


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    command = commands.add_parser("move", help="copy a store to or from PostgreSQL, while the server is stopped")
    command.add_argument("source", metavar="SOURCE", help="a data folder, or postgresql://… with all parts of a store")
    command.add_argument("target", metavar="TARGET", help="the same: an empty folder, or a database without a store")
    command.add_argument(
        "--shards", metavar="N", default="1", help="into PostgreSQL: how many parts it gets (default: 1)"
    )


def run(settings: argparse.Namespace, say: Say) -> int:
    """Copy the store. Raises `SettingRejected` and `StorageError`."""
    ends = settings.source, settings.target
    urls = [end for end in ends if _SCHEME in end]
    if not urls:
        raise SettingRejected(
            "SOURCE or TARGET, or both, begin with postgresql://; the other one is a data folder, which is copied to "
            "another one with the tools of the system"
        )
    if settings.shards != "1" and _SCHEME not in settings.target:
        raise SettingRejected("--shards is for a move into PostgreSQL: how many parts a source has it says itself")
    if len(set(ends)) == 1:
        raise SettingRejected("SOURCE and TARGET are the same database: name another one, which has no store")
    place = [_place(url, settings.shards) for url in urls][-1]
    load_checksums()
    for end in ends:
        if _SCHEME not in end and Path(end).exists():
            become_owner(Path(end))
    with _source(settings.source) as source, _target(settings.target, place) as target:
        moved = move(source, target)
    show(
        say,
        {"type": "moved", **moved._asdict()},
        f"Copied: {moved.users} users, and {moved.messages} messages of {moved.content_bytes} bytes, {moved.large} of "
        "them large.",
        f"Start {'the storage worker' if settings.shards == '1' else 'a storage worker for each part'} on the new "
        "store. Start none on the old one any more:",
        "what the new one accepts it does not have. Uploads that were not finished begin again; their senders' "
        "programs do that.",
        as_json=settings.json,
    )
    return 0


def _place(url: str, shards: str) -> "Place":
    numbers = place_of(url, f"0/{shards}")
    try:
        from storage_worker.engine.postgres.schema import Place
    except ImportError as error:
        raise SettingRejected(f"it needs the package psycopg ({error}): install messageu[postgres]") from error
    return Place(*numbers)


def _source(end: str) -> AbstractContextManager[Source]:
    if _SCHEME not in end:
        return SqliteSource(Path(end).resolve())
    from storage_worker.engine.postgres.moving import PostgresSource

    return PostgresSource(end)


def _target(end: str, place: "Place") -> AbstractContextManager[Target]:
    if _SCHEME not in end:
        return SqliteTarget(Path(end).resolve(), os.urandom)
    from storage_worker.engine.postgres.moving import PostgresTarget

    return PostgresTarget(end, place)
