"""The tables of a shard, as the worker uses them that has the shard.

Owns: the epoch of this worker. Promises: the first act is to raise the owner's epoch, in a commit
that the server and its standbys acknowledge. From then on a worker with an earlier epoch writes not
one row: a turn is appended in one statement that looks at the epoch, and every transaction begins
with that look. Who finds another epoch there raises `StoreSuperseded`, and nothing is written.
Exposure: none of its own.

The look locks the owner's row against the next takeover until the commit, so a takeover waits for
what is being committed, and sees it.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from storage_worker.engine.errors import StoreFailed, StoreSuperseded
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.connection import Connection, Parameter, Row


class Opened(NamedTuple):
    """What a takeover found. `server_id`: 16 bytes; `starts`: how often the store was opened."""

    epoch: int
    server_id: bytes
    generation: int
    starts: int


def take_over(connection: Connection) -> Opened:
    """Become the owner: whoever was it before writes nothing any more. Raises `StoreFailed`."""
    with connection.transaction():
        [(epoch,)] = connection.rows(statements.TAKE_OVER)
        [found] = connection.rows(statements.COUNT_START)
    return Opened(epoch, *found)


class Database:
    """The tables, under the epoch that `take_over` gave."""

    def __init__(self, connection: Connection, epoch: int) -> None:
        self._connection = connection
        self._epoch = epoch
        self._inside = False
        self.rows = connection.rows

    def row(self, statement: str, *parameters: Parameter) -> Row:
        """The one row that a statement gives."""
        [found] = self.rows(statement, *parameters)
        return found

    def find(self, statement: str, *parameters: Parameter) -> Row | None:
        """The first row that a statement gives, or None."""
        found = self.rows(statement, *parameters)
        return found[0] if found else None

    def change(self, statement: str, *parameters: Parameter) -> int:
        """Inside a transaction: how many rows a statement changed."""
        assert self._inside, "what is not in a transaction is not fenced"
        return self._connection.change(statement, *parameters)

    def write_fenced(self, statement: str, *parameters: Parameter) -> None:
        """A statement whose first parameter is the epoch, and which writes one row where this
        worker has the shard. Raises `StoreSuperseded` where it does not.
        """
        if not self._connection.change(statement, self._epoch, *parameters):
            raise _superseded()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """What is inside is committed, all of it or nothing. Raises `StoreSuperseded` where another
        worker has the shard.
        """
        with self._connection.transaction():
            self._hold()
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def joined(self) -> AbstractContextManager[None]:
        """The transaction that is open, or one of its own."""
        return nullcontext() if self._inside else self.transaction()

    def _hold(self) -> None:
        if not self.rows(statements.HOLD, self._epoch):
            raise _superseded()

    def begin(self) -> None:
        """Begin a transaction that `commit` or `roll_back` ends, maybe in another thread. Raises as
        `transaction`; nothing is begun then.
        """
        self._connection.begin()
        try:
            self._hold()
        except BaseException:
            self._connection.roll_back()
            raise
        self._inside = True

    def commit(self) -> None:
        """Commit it. Raises as `transaction`."""
        self._inside = False
        self._connection.commit()

    def roll_back(self) -> None:
        """Undo it."""
        self._inside = False
        self._connection.roll_back()

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()


def beside(connection: Connection, epoch: int) -> Database:
    """The tables over one more connection of the worker that has this epoch. Raises
    `StoreSuperseded` where another worker has the shard meanwhile, and `StoreFailed` where this is
    another server than the one of the takeover: what lies between may have sent it there.
    """
    [(found,)] = connection.rows(statements.EPOCH)
    if found > epoch:
        raise _superseded()
    if found < epoch:
        raise StoreFailed("PostgreSQL: a second connection came to a server that does not know of the takeover")
    return Database(connection, epoch)


def _superseded() -> StoreSuperseded:
    return StoreSuperseded("another storage worker has taken the shard over: this one writes nothing any more")
