"""`messageu-admin store create|upgrade|check|new-generation`: a store in PostgreSQL.

Owns: these commands. Promises: `create` makes the tables where there are none, and changes nothing
else; `upgrade` brings them up to this version, in one transaction; `check` reads everything beside
a running worker and says what is altered; `new-generation` tells senders, after a backup was put
back, that mail may be lost. Passwords are not shown.
Exposure: whoever may connect to the database.

Source: docs/storage-engine.md, "PostgreSQL".
"""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any, Final

from common.errors import SettingRejected
from storage_worker.admin_output import Say, show
from storage_worker.engine.errors import StoreFailed
from storage_worker.settings import add_shard_options, check_directory, place_of

if TYPE_CHECKING:
    from storage_worker.engine.postgres.connection import Connection
    from storage_worker.engine.postgres.operators_tables import PostgresTables
    from storage_worker.engine.postgres.schema import Place

EXIT_ALTERED: Final = 1


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    command = commands.add_parser("store", help="make, upgrade or check a store in PostgreSQL")
    command.add_argument(
        "step",
        choices=["create", "upgrade", "check", "new-generation"],
        help="make its tables; bring them up to this version; read everything and name what is altered; tell senders "
        "that a backup was put back",
    )
    command.add_argument("--store", required=True, metavar="URL", help="the database, postgresql://…")
    add_shard_options(command)


def run(settings: argparse.Namespace, say: Say) -> int:
    """Do one step. Raises `SettingRejected` and `StorageError`."""
    numbers = place_of(settings.store, settings.shard)
    check_directory(settings.directory, numbers[0])
    # Who has no store there need not have its packages.
    try:
        from storage_worker.engine.postgres import schema, statements
        from storage_worker.engine.postgres.connection import Connection, shown
    except ImportError as error:
        raise SettingRejected(f"--store needs the package psycopg ({error}): install messageu[postgres]") from error
    place = schema.Place(*numbers)
    connection = Connection(settings.store, place.schema)
    now_ms = time.time_ns() // 1_000_000
    line: dict[str, object]
    try:
        if settings.step == "create":
            schema.create(connection, place, _server_id(settings, place), now_ms)
            where, warnings = shown(settings.store), _warnings(connection)
            line = {"type": "store-created", "store": where, "schema": place.schema, "warnings": warnings}
            sentence = f"The store is made: {where}, schema {place.schema}."
            show(say, line, sentence, *warnings, as_json=settings.json)
            return 0
        if settings.step == "upgrade":
            before = schema.stored_version(connection, place)
            sentences: list[str] = []
            schema.upgrade(connection, place, sentences.append)
            line = {"type": "store-upgraded", "from": before, "to": schema.stored_version(connection, place)}
            show(say, line, *sentences, as_json=settings.json)
            return 0
        schema.check_version(connection, place)
        if settings.step == "new-generation" and place.number:
            raise SettingRejected(f"all parts have the generation of part 0: run this with --shard 0/{place.shards}")
        if settings.step == "check":
            return _check(connection, say, as_json=settings.json)
        with connection.transaction():
            # The worker, where one runs, told gateways another one: it ends.
            connection.rows(statements.TAKE_OVER)
            [(generation,)] = connection.rows(statements.NEW_GENERATION, now_ms)
        show(
            say,
            {"type": "generation", "generation": generation},
            f"The store's generation is {generation} now. A worker that was running has lost the store: start it "
            "again.",
            as_json=settings.json,
        )
        return 0
    finally:
        connection.close()


def tables_in_postgres(store: str, shard_store: str | None = None) -> "PostgresTables":
    """What an operator's commands change in this database, and in the one that has the shard of a
    user. Raises `SettingRejected` and `StorageError`.
    """
    for one in (store, shard_store or store):
        place_of(one, None)
    try:
        from storage_worker.engine.postgres.operators_tables import PostgresTables
    except ImportError as error:
        raise SettingRejected(f"--store needs the package psycopg ({error}): install messageu[postgres]") from error
    return PostgresTables(store, time.sleep, shard_store)


def _server_id(settings: argparse.Namespace, place: "Place") -> bytes:
    """A new one for the directory; for another part the directory's, so that has to be there."""
    if not place.number:
        return os.urandom(16)
    from storage_worker.engine.postgres import statements
    from storage_worker.engine.postgres.directory import connect

    connection = connect(settings.directory or settings.store, place.shards)
    try:
        [(server_id, *_state)] = connection.rows(statements.DIRECTORY_STATE)
    finally:
        connection.close()
    return bytes(server_id)


def _warnings(connection: "Connection") -> list[str]:
    """What of the server's settings may cost mail, a sentence each."""
    found: list[str] = []
    if not connection.setting("synchronous_standby_names"):
        found.append("The server waits for no standby: what is acknowledged is on one machine's disk.")
    found += [
        f"The server runs with {name}=off: a power cut loses what was acknowledged."
        for name in ("fsync", "full_page_writes")
        if connection.setting(name) == "off"
    ]
    return found


def _check(connection: "Connection", say: Say, *, as_json: bool) -> int:
    from storage_worker.engine.paged.journal_records import decode_records
    from storage_worker.engine.postgres import statements
    from storage_worker.engine.postgres.blobs import Blobs
    from storage_worker.engine.postgres.database import Database
    from storage_worker.engine.postgres.mail_pages import MailPages

    database = Database(connection, epoch=0)
    pages, blobs = MailPages(database), Blobs(database)
    problems = list(pages.altered())
    for one in list(pages.in_blobs()):
        problem = blobs.altered(one.blob_id, one.size)
        # The worker may have deleted it since.
        if problem and any(
            page.blob_id == one.blob_id for page in pages.overlapping(one.recipient, one.sequence, one.sequence)
        ):
            problems.append(f"{problem}. Message {one.sequence} in the mailbox of {pages.owner(one.recipient)}")
    behind = 0
    while rows := database.rows(statements.JOURNAL, behind, 100):
        for number, payload in rows:
            try:
                decode_records(payload)
            except StoreFailed as error:
                problems.append(f"turn {number}: {error}")
        behind = rows[-1][0]
    warnings = _warnings(connection)
    conclusion = "Altered messages are not delivered; everything else works." if problems else "Nothing is altered."
    line = {"type": "check", "altered": problems, "warnings": warnings}
    show(say, line, *problems, *warnings, conclusion, as_json=as_json)
    return EXIT_ALTERED if problems else 0
