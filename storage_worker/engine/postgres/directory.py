"""The directory as the workers of the other shards see it: who is a user, and who is none any more.

Owns: a connection to the schema of shard 0, which may be in another cluster than the shard's own.
Promises: what is read was committed, and is never older than the moment of asking. Nothing is
written but the day on which a user was seen, and that a shard has nothing of a deleted user any
more. Where the directory can't be reached `DirectoryUnreachable` is raised at once, and a thread
goes on trying; the shard lives on with the users that it knows.
Exposure: an operator's connection string.

Source: docs/decisions/0024-shards.md.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from storage_worker.engine.errors import DirectoryUnreachable, StorageError, StoreUnusable
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.connection import Connection, Parameter, Row, ServerAddress
from storage_worker.engine.postgres.schema import Place, check_version

log = logging.getLogger("storage_worker")

NUMBER: Final = 0
"""Of the shard that is the directory."""
MOST_LEAVING: Final = 1_000
"""Deleted users that are named at a time."""


class State(NamedTuple):
    """`server_id`: 16 bytes. `changes` grows with what others may remember of users and must not
    any more.
    """

    server_id: bytes
    generation: int
    changes: int


def connect(url: str, shards: int, at: ServerAddress | None = None) -> Connection:
    """A connection to the directory of so many shards. Raises as `Connection`, and `StoreUnusable`
    where there is none.
    """
    place = Place(NUMBER, shards)
    connection = Connection(url, place.schema, at)
    try:
        check_version(connection, place)
    except BaseException:
        connection.close()
        raise
    return connection


class Directory:
    """`connection` is open; `reconnect` opens another one, and is called beside the loop."""

    def __init__(self, connection: Connection, reconnect: Callable[[], Connection]) -> None:
        self._connection: Connection | None = connection
        self._reconnect = reconnect
        self._thread: threading.Thread | None = None
        self._found: Connection | None = None
        self._closed = False

    def state(self) -> State:
        """What all shards share beside users."""
        [found] = self._rows(statements.DIRECTORY_STATE)
        return State(*found)

    def users(self, client_ids: Sequence[bytes]) -> list[Row]:
        """Of those who are users: client id, row, proven, seen, disabled."""
        return self._rows(statements.DIRECTORY_USERS, client_ids)

    def row_of(self, client_id: bytes) -> int | None:
        """The row of a user, also of one who is being deleted."""
        found = self._rows(statements.ROW_OF, client_id)
        return found[0][0] if found else None

    def public_key(self, row: int) -> bytes:
        """The 160 bytes that the user registered."""
        [(key,)] = self._rows(statements.PUBLIC_KEY, row)
        return bytes(key)

    def leaving(self, shard: int) -> list[tuple[int, bytes]]:
        """Rows and client ids of deleted users of whom this shard may have something."""
        return [(row, client_id) for row, client_id in self._rows(statements.LEAVING, shard, MOST_LEAVING)]

    def report_gone(self, row: int, shard: int) -> None:
        """Nothing is left of a deleted user in this shard."""
        self._rows(statements.REPORT_GONE, row, shard)

    def note_seen(self, rows: Sequence[int], days: Sequence[int]) -> None:
        """These users were seen on these days."""
        self._rows(statements.LATER_SEEN, rows, days)

    def _rows(self, statement: str, *parameters: Parameter) -> list[Row]:
        connection = self._connection or self._take_found()
        if connection is None:
            raise DirectoryUnreachable("the directory can't be reached")
        try:
            return connection.rows(statement, *parameters)
        except StorageError as error:
            log.warning("the directory can't be reached; users who are not known yet are refused: %s", error)
            connection.close()
            self._connection = None
            self._begin()
            raise DirectoryUnreachable("the directory can't be reached") from error

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._look, name="directory", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        try:
            self._found = self._reconnect()
        except StoreUnusable as error:
            log.error("the directory is not the one of before: %s", error)
        except StorageError as error:
            log.debug("the directory can't be reached: %s", error)

    def _take_found(self) -> Connection | None:
        thread = self._thread
        if thread is None or thread.is_alive() or self._closed:
            return None
        found, self._found, self._thread = self._found, None, None
        if found is None:
            self._begin()
        else:
            log.info("the directory is reached again")
            self._connection = found
        return found

    def close(self) -> None:
        """Let go of the server."""
        self._closed = True
        if self._thread is not None:
            self._thread.join()
        for connection in (self._connection, self._found):
            if connection is not None:
                connection.close()
        self._connection = self._found = None
