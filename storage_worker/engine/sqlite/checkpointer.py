"""Checkpoints in a separate thread, with a connection of its own.

Owns: that thread.
Promises: one checkpoint at a time; its outcome is reported once. Any failure is raised by the next
call of `outcome`; the thread survives it.
Exposure: none.

A checkpoint syncs SQLite's log, copies it into the database and syncs that: tens of milliseconds
for some megabytes, during which the loop goes on committing.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from storage_worker.engine.sqlite.database import Database


class Checkpoints(Protocol):
    """Makes checkpoints."""

    @property
    def running(self) -> bool:
        """Whether one was begun whose outcome was not reported."""

    def begin(self) -> None:
        """Begin one; none is running."""

    def outcome(self) -> bool | None:
        """Whether it copied all that there was when it began; None while it is not known.
        Raises as `checkpoint`.
        """

    def close(self) -> None:
        """End, after the one that is running. Its outcome can be asked for still."""


class CheckpointThread:
    """`open_database` gives the thread's own connection, beside the loop's."""

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._database = open_database()
        self._running = False
        self._ending = False
        self._outcome: bool | Exception | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether one was begun whose outcome was not reported."""
        return self._running

    def begin(self) -> None:
        """Begin one; none is running."""
        with self._news:
            self._running = True
            self._outcome = None
            self._news.notify()

    def outcome(self) -> bool | None:
        """Whether it copied all that there was when it began; None while it is not known.
        Raises as `checkpoint`.
        """
        with self._news:
            outcome = self._outcome
            if outcome is None:
                return None
            self._running = False
            self._outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _run(self) -> None:
        while True:
            with self._news:
                while not (self._running and self._outcome is None) and not self._ending:
                    self._news.wait()
                if self._ending:
                    return
            outcome: bool | Exception
            try:
                outcome = self._database.checkpoint()
            except Exception as error:
                # A bug, too, is the loop's to hear of: without the thread nothing would be copied
                # any more.
                outcome = error
            with self._news:
                self._outcome = outcome

    def close(self) -> None:
        """End, after the one that is running. Its outcome can be asked for still."""
        with self._news:
            self._ending = True
            self._news.notify()
        self._thread.join()
        self._database.abandon()
