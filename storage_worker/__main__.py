"""The storage worker as a program: arguments, signals, wiring.

Owns: the process; what ends it, with which code and which last line.
Promises: SIGTERM and SIGINT end it after the transaction it is in. Codes: 0 asked to end; 78
another try would not help (data folder in use or unusable, a bad setting); 1 a read, write or sync
failed and nothing is known.
Exposure: the command line and the environment of whoever starts it.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import common.server_packages  # noqa: F401 - ends the program where they are missing
from common.data_folder import DATA_VARIABLE, data_folder, link_endpoint, refuse_foreign_files
from common.errors import SettingRejected, StorageError, StoreDamaged, StoreFull, StoreInUse, StoreUnusable
from common.process_limits import forbid_core_dumps, raise_open_files
from common.server_log import begin_log
from storage_worker.engine.sqlite.blobs import Blobs, DiskBlobs, SyncThread
from storage_worker.engine.sqlite.checkpointer import Checkpoints, CheckpointThread
from storage_worker.engine.sqlite.database import CHECKPOINT_BYTES, Database
from storage_worker.engine.sqlite.disk_space import DiskSpaceMonitor
from storage_worker.engine.sqlite.folder import (
    BODIES_NAME,
    DATABASE_NAME,
    GENERATION_NAME,
    JOURNAL_NAMES,
    OWN_NAMES,
    folder_lock,
    refuse_lost_database,
    refuse_wrong_kinds,
)
from storage_worker.engine.sqlite.journal import DiskJournal, Journal
from storage_worker.engine.sqlite.log_epochs import mark_at
from storage_worker.engine.sqlite.store_identity import (
    GenerationFile,
    SequenceReservation,
    StoreIdentityFile,
    look_at_journal,
    marked_length,
    note_marks,
    open_store,
    record_clean_shutdown,
    record_progress,
)
from storage_worker.rules.admission import Limits
from storage_worker.rules.rules import Rules
from storage_worker.server.batch_processor import BatchProcessor
from storage_worker.server.zmq_server import ZmqServer
from storage_worker.settings import OWN_FILES, SMALLEST_JOURNAL, check_mark, checked, parse, uploads_that_fit

log = logging.getLogger("storage_worker")

EXIT_FAILED: Final = 1
EXIT_FINAL: Final = 78
"""EX_CONFIG: the keeper does not start it again."""

_NOTE_EVERY_MS: Final = 60_000
_TRY_AGAIN_MS: Final = 1000
"""After a checkpoint that found no room or somebody in its way."""


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _serve(settings: argparse.Namespace, limits: Limits, folder: Path, wake: int) -> None:
    """Open the store, serve it until `wake` is readable, close it."""
    mark: int = settings.free_space_mark
    # A log or a journal of more than a quarter of the mark could fill what the mark keeps free.
    log_bytes = min(CHECKPOINT_BYTES, max(mark // 4, SMALLEST_JOURNAL))
    journal_bytes = min(settings.journal, max(mark // 4, SMALLEST_JOURNAL))
    with ExitStack() as doors:
        refuse_lost_database(folder)
        database = Database(folder / DATABASE_NAME, size_limit=settings.size_limit, checkpoint_bytes=log_bytes)
        doors.callback(database.abandon)
        file = GenerationFile(folder / GENERATION_NAME)
        # Earlier versions made do with one file, or none.
        is_old = not database.was_upgraded and look_at_journal(database, folder, file)
        journal_files = [DiskJournal(folder / name, journal_bytes) for name in JOURNAL_NAMES]
        length = min(one.size for one in journal_files)
        if length < journal_bytes:
            # There was no room for more of it.
            length = marked_length(database)
        journal = Journal(journal_files, journal_bytes, marks_at=mark_at(length) if length else 0)
        doors.callback(journal.close)
        disk_bodies = DiskBlobs(folder / BODIES_NAME)
        bodies = Blobs(disk_bodies, SyncThread(disk_bodies))
        doors.callback(bodies.close)
        facts = open_store(database, file, _unix_ms(), os.urandom, is_old=is_old)
        checkpoints = CheckpointThread(lambda: Database(folder / DATABASE_NAME, beside=True))
        keeper = Maintenance(database, file, checkpoints)
        doors.callback(keeper.abandon)
        room = DiskSpaceMonitor(
            mark, lambda: _free_bytes(folder), database.unused_bytes, database.take_ballast, keeper.give_back
        )
        rules = Rules(database, journal, bodies, limits, os.urandom, _unix_ms())
        if not rules.ledger.waits:
            note_marks(database, journal, length)
        desk = BatchProcessor(
            database,
            rules,
            room,
            os.urandom(16),
            facts.server_id,
            facts.generation,
            SequenceReservation(database, file).ensure,
        )
        endpoint = link_endpoint(folder)
        service = ZmqServer(desk, endpoint, _unix_ms, lambda: keeper.work(_unix_ms()), lambda: keeper.has_waiting)
        try:
            log.info("started: data folder %s, %s, generation %d", folder, endpoint, facts.generation)
            service.serve(wake)
        finally:
            service.close()
        keeper.close(_unix_ms())
        if desk.close(_unix_ms()):
            record_clean_shutdown(database, file)
        database.close()


class Maintenance:
    """What is to do between transactions: checkpoints, and keeping `store.generation`
    close behind.
    """

    def __init__(self, database: Database, file: StoreIdentityFile, checkpoints: Checkpoints) -> None:
        self._database = database
        self._file = file
        self._checkpoints = checkpoints
        self._commits = 0
        self._noted_at = 0
        self._held_up_at: int | None = None

    def work(self, now_ms: int) -> None:
        """After every turn; cheap where nothing is due. Raises `StoreFailed`."""
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
        """Whether `work` will have something to do before long: a checkpoint is to be
        heard of, or to be made.
        """
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
        """DiskSpaceMonitor is short: shrink the log."""
        try:
            self._database.checkpoint(truncate=True)
        except StoreFull:
            log.debug("no room for a checkpoint")

    def close(self, now_ms: int) -> None:
        """No more checkpoints; what became of the last one is heard. Raises `StoreFailed`."""
        self._checkpoints.close()
        self._look(now_ms)

    def abandon(self) -> None:
        """After a failure, which is what ends the worker: of the last checkpoint's the
        log tells.
        """
        self._checkpoints.close()
        try:
            self._checkpoints.outcome()
        except Exception as error:
            log.error("the last checkpoint failed, too: %s", error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes; the exit code."""
    settings = parse(arguments)
    begin_log(settings.log_level, os.environ)
    # Whatever is made in the data folder is the owner's alone.
    os.umask(0o077)
    forbid_core_dumps()
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # noqa: FBT003
    # The handlers do nothing; that a signal came is read from the wake-up descriptor, between two
    # transactions.
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        limits = checked(settings)
        open_files = raise_open_files(limits.uploads + OWN_FILES)
        limits = limits._replace(uploads=uploads_that_fit(limits.uploads, open_files))
        environment = dict(os.environ)
        if settings.data_folder is not None:
            environment[DATA_VARIABLE] = str(settings.data_folder)
        folder = data_folder(environment, Path.cwd())
        refuse_foreign_files(folder, OWN_NAMES)
        refuse_wrong_kinds(folder)
        check_mark(settings.free_space_mark, folder)
        with folder_lock(folder):
            _serve(settings, limits, folder, reader.fileno())
    except (SettingRejected, StoreInUse, StoreUnusable) as error:
        log.critical("can't start: %s", error)
        return EXIT_FINAL
    except StoreDamaged as error:
        log.critical("the store can't be served: %s", error)
        return EXIT_FINAL
    except StorageError as error:
        log.critical("the store failed, nothing more can be promised: %s", error)
        return EXIT_FAILED
    except OSError as error:
        log.critical("the system failed: %s", error)
        return EXIT_FAILED
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous)
        reader.close()
        writer.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
