"""Maintenance between transactions: checkpoints, and keeping `store.generation` up to date.

Owns: when checkpoints are made. Promises: a checkpoint that finds no room, or is held up by a
reader, is tried again after a second.
Exposure: none.
"""

import logging
from typing import Final, Protocol

from storage_worker.engine.errors import StoreFull
from storage_worker.engine.sqlite.checkpointer import Checkpoints
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.store_identity import StoreIdentityFile, record_progress

log = logging.getLogger("storage_worker")

_NOTE_EVERY_MS: Final = 60_000
_TRY_AGAIN_MS: Final = 1000
"""After a checkpoint that found no room or somebody in its way."""


class Upkeep(Protocol):
    """What the engine asks of `Maintenance`; tests that make checkpoints themselves have none."""

    def work(self, now_ms: int) -> None:
        """After every turn."""

    @property
    def has_waiting(self) -> bool:
        """Whether `work` will soon have something to do."""

    def close(self, now_ms: int) -> None:
        """Stop."""


class Maintenance:
    """Makes checkpoints through `checkpoints`, and keeps `file` up."""

    def __init__(self, database: Database, file: StoreIdentityFile, checkpoints: Checkpoints) -> None:
        self._database = database
        self._file = file
        self._checkpoints = checkpoints
        self._commits = 0
        self._noted_at = 0
        self._held_up_at: int | None = None

    def work(self, now_ms: int) -> None:
        """Called after every turn; cheap if nothing is due. Raises `StoreFailed`."""
        if self._checkpoints.running:
            self._look(now_ms)
        if self._database.checkpoint_due and not self._checkpoints.running and self._may_begin(now_ms):
            self._commits = self._database.commits
            self._checkpoints.begin()
        if not 0 <= now_ms - self._noted_at < _NOTE_EVERY_MS:
            self._noted_at = now_ms
            record_progress(self._database, self._file)

    @property
    def has_waiting(self) -> bool:
        """Whether `work` will soon have something to do: a checkpoint is due, or its outcome."""
        return self._checkpoints.running or self._database.checkpoint_due

    def _may_begin(self, now_ms: int) -> bool:
        # A clock that was set back must not put it off for long.
        return self._held_up_at is None or not 0 <= now_ms - self._held_up_at < _TRY_AGAIN_MS

    def _look(self, now_ms: int) -> None:
        try:
            copied = self._checkpoints.outcome()
        except StoreFull:
            log.debug("no room for a checkpoint; the log keeps growing until there is")
            copied = False
        if copied is not None:
            self._held_up_at = None if copied else now_ms
        if copied:
            self._database.checkpointed(self._commits)

    def give_back(self) -> None:
        """Space is short: shrink the log."""
        try:
            self._database.checkpoint(truncate=True, waits=False)
        except StoreFull:
            log.debug("no room for a checkpoint")

    def close(self, now_ms: int) -> None:
        """Stop checkpoints, and take the outcome of the last one. Raises `StoreFailed`."""
        self._checkpoints.close()
        self._look(now_ms)

    def abandon(self) -> None:
        """After a failure, which ends the worker: log a failure of the last checkpoint too."""
        self._checkpoints.close()
        try:
            self._checkpoints.outcome()
        except Exception as error:
            log.error("the last checkpoint failed, too: %s", error)
