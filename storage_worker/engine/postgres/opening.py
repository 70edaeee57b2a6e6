"""How a worker comes to a shard: connections, version, takeover, engine.

Owns: the order of these. Promises: nothing is answered before the takeover is acknowledged, and
what the last worker's journal holds is read after it: that worker can't add to it any more. All
connections are to the server where the takeover was: a connection string may name another one that
takes itself for the primary, too, and does not have what this one has.
Exposure: an operator's connection string.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack

from storage_worker.engine.errors import DirectoryUnreachable, StoreFailed, StoreUnusable
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.connection import Connection, ServerAddress, shown
from storage_worker.engine.postgres.database import Database, beside, take_over
from storage_worker.engine.postgres.directory import Directory, connect
from storage_worker.engine.postgres.engine import PostgresEngine, Shared
from storage_worker.engine.postgres.flusher import Flusher, FlushThread
from storage_worker.engine.postgres.schema import Place, check_version

log = logging.getLogger("storage_worker")


def _ask_directory(url: str, place: Place, server_id: bytes, at: ServerAddress | None) -> Directory:
    def connected() -> Connection:
        connection = connect(url, place.shards, at)
        [(found, *_state)] = connection.rows(statements.DIRECTORY_STATE)
        if found != server_id:
            connection.close()
            raise StoreUnusable(f"{shown(url)} has the directory of another server than shard {place.number}")
        return connection

    return Directory(connected(), connected)


def open_engine(
    url: str,
    place: Place,
    random_bytes: Callable[[int], bytes],
    now_ms: int,
    directory_url: str | None = None,
    *,
    flusher_over: Callable[[Database], Flusher] = FlushThread,
) -> PostgresEngine:
    """Take a shard over. `random_bytes(n)` gives n random bytes; `directory_url`: where shard 0 is,
    if not at `url`. Raises `StoreUnusable` where it is not there, or of another version, and
    `StoreFailed`.
    """
    with ExitStack() as opened_so_far:

        def connected(at: ServerAddress | None = None) -> Connection:
            connection = Connection(url, place.schema, at)
            opened_so_far.callback(connection.close)
            return connection

        connection = connected()
        check_version(connection, place)
        for setting in ("fsync", "full_page_writes"):
            if connection.setting(setting) == "off":
                log.warning("PostgreSQL runs with %s=off: a power cut loses what was acknowledged", setting)
        opened = take_over(connection)
        here = connection.server
        database = Database(connection, opened.epoch)
        pieces, flushes = (beside(connected(here), opened.epoch) for _ in range(2))
        flusher = flusher_over(flushes)
        opened_so_far.callback(flusher.close)
        try:
            directory: Directory | None = None
            if place.number:
                directory = _ask_directory(
                    directory_url or url, place, opened.server_id, None if directory_url else here
                )
                opened_so_far.callback(directory.close)
            shared = Shared(place, directory)
            engine = PostgresEngine(database, pieces, flusher, opened, random_bytes, now_ms, shared)
        except DirectoryUnreachable as error:
            raise StoreFailed(str(error)) from error
        opened_so_far.pop_all()
        return engine
