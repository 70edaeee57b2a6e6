"""What writes the journal's mail into the tables while turns go on: a thread, with a connection of
its own.

Owns: that thread and that connection. Promises: one flush at a time. `write` runs in a transaction
that begins with a look at the epoch, as every one does, so a worker that was superseded writes
nothing. The loop commits it, and so decides between which turns the tables change. Any failure is
raised by `is_done`, and nothing is written then; the thread survives it.
Exposure: none.

Source: docs/decisions/0025-pages-beside-the-turns.md.
"""

import threading
from collections.abc import Callable
from typing import Final, Protocol

from storage_worker.engine.postgres.database import Database

_END_WITHIN: Final = 2.0
"""Seconds; a thread that waits for a server which was cut off ends with the process."""

Write = Callable[[Database], None]


class Flusher(Protocol):
    """Writes, and leaves the commit to its caller."""

    @property
    def running(self) -> bool:
        """Whether a flush was begun that is neither committed nor failed."""

    def begin(self, write: Write) -> None:
        """Begin a transaction and call `write` in it; none is running."""

    def is_done(self, *, wait: bool) -> bool:
        """Whether all is written and `commit` may be called. Raises what `write` raised, as
        `Database.transaction` does; the transaction is undone then.
        """

    def commit(self) -> None:
        """Commit what is done. Raises as `Database.transaction`."""

    def close(self) -> None:
        """Let go of the server; a transaction that is open is undone."""


class FlushThread:
    """`database` is for it alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._write: Write | None = None
        self._running = False
        self._ending = False
        self._outcome: BaseException | bool = False
        """Whether it is done, or why it failed."""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="flushes", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether a flush was begun that is neither committed nor failed."""
        return self._running

    def begin(self, write: Write) -> None:
        """Begin a transaction and call `write` in it; none is running."""
        with self._news:
            self._running = True
            self._outcome = False
            self._write = write
            self._news.notify_all()

    def is_done(self, *, wait: bool) -> bool:
        """Whether all is written; see `Flusher`."""
        with self._news:
            while wait and self._outcome is False:
                self._news.wait()
            outcome = self._outcome
        if isinstance(outcome, BaseException):
            self._running = False
            raise outcome
        return outcome

    def commit(self) -> None:
        """Commit what is done. Raises as `Database.transaction`."""
        self._running = False
        self._database.commit()

    def _run(self) -> None:
        while True:
            with self._news:
                while self._write is None and not self._ending:
                    self._news.wait()
                write, self._write = self._write, None
                if write is None:
                    return
            outcome: BaseException | bool = True
            try:
                write_in_transaction(self._database, write)
            except BaseException as error:
                # A bug, too, is the loop's to hear of: without the thread nothing would be written
                # any more.
                outcome = error
            with self._news:
                self._outcome = outcome
                self._news.notify_all()

    def close(self) -> None:
        """Let go of the server; a transaction that is open is undone."""
        with self._news:
            self._ending = True
            self._news.notify_all()
        self._thread.join(_END_WITHIN)
        if not self._thread.is_alive():
            self._database.close()


def write_in_transaction(database: Database, write: Write) -> None:
    """Begin a transaction and write, without a commit. Where that raises, all is undone."""
    database.begin()
    try:
        write(database)
    except BaseException:
        database.roll_back()
        raise
