"""How a worker comes to a shard: connections, version, takeover, engine.

Owns: the order of these. Promises: nothing is answered before the takeover is acknowledged, and
what the last worker's journal holds is read after it: that worker can't add to it any more.
Exposure: an operator's connection string.
"""

import logging
from collections.abc import Callable

from storage_worker.engine.postgres.connection import Connection
from storage_worker.engine.postgres.database import Database, take_over
from storage_worker.engine.postgres.engine import PostgresEngine
from storage_worker.engine.postgres.schema import Place, check_version

log = logging.getLogger("storage_worker")


def open_engine(url: str, place: Place, random_bytes: Callable[[int], bytes], now_ms: int) -> PostgresEngine:
    """Take a shard over. `random_bytes(n)` gives n random bytes. Raises `StoreUnusable` where it is
    not there, or of another version, and `StoreFailed`.
    """
    connection = Connection(url, place.schema)
    try:
        check_version(connection, place)
        for setting in ("fsync", "full_page_writes"):
            if connection.setting(setting) == "off":
                log.warning("PostgreSQL runs with %s=off: a power cut loses what was acknowledged", setting)
        opened = take_over(connection)
        pieces = Connection(url, place.schema)
    except BaseException:
        connection.close()
        raise
    database, of_pieces = Database(connection, opened.epoch), Database(pieces, opened.epoch)
    try:
        return PostgresEngine(database, of_pieces, opened, random_bytes, now_ms)
    except BaseException:
        database.close()
        of_pieces.close()
        raise
