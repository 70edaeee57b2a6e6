"""A copy of the store, made while it is served.

Owns: the copy's folder, the thread that fills it, and the copy's mark.
Promises: the copy has everything that was acknowledged before `begin` returned. The loop waits only
for the journal to be flushed. The copy is a data folder: a worker can be started on it. The last
step gives the database its name; an interrupted copy has none, and a start refuses it. Until its
first start the database has a mark that makes the store begin a new generation.
Exposure: the folder that an operator names, with the rights of the worker.

The thread reads through a connection of its own, with `VACUUM INTO`, which sees the database as it
was when it began. Then it links the large contents that this copy names, so none may be deleted
until then: `Blobs` puts deletions off. SQLite's own backup would start over with each commit of the
loop.

Source: docs/storage-engine.md, "A backup".
"""

import errno
import logging
import os
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from common import fail_points
from common.fail_points import FailPoint
from storage_worker.engine.errors import StorageError, StoreFailed
from storage_worker.engine.sqlite.blobs import Blobs
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import BLOBS_NAME, DATABASE_NAME, OWN_NAMES, sync_folder
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.store_identity import mark_as_copy
from storage_worker.engine.values import BackupState

log = logging.getLogger("storage_worker")

_UNFINISHED: Final = f"{DATABASE_NAME}.new"
_DELETED_AT_ONCE: Final = 64
_COPY_STEP: Final = 1024 * 1024
NO_BACKUP: Final = BackupState()


class OnlineBackup:
    """Copies the store in `folder`, whose database is `database` and whose large contents are
    `blobs`.

    `free_bytes`: the free space of a folder's disk; twice `min_free_bytes` has to be left after the
    copy. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        blobs: Blobs,
        min_free_bytes: int,
        free_bytes: Callable[[Path], int],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._database = database
        self._blobs = blobs
        self._min_free_bytes = min_free_bytes
        self._free_bytes = free_bytes
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._reading: Database | None = None
        self._holds = False
        self._lock = threading.Lock()
        self._state = NO_BACKUP
        self._ending = False

    @property
    def state(self) -> BackupState:
        """The current backup, or the last one since the worker started."""
        with self._lock:
            return self._state

    @property
    def has_waiting(self) -> bool:
        """Whether `work` will soon have something to do."""
        return self._holds

    def begin(self, target: Path, take_in: Callable[[], bool], now_ms: int) -> str | None:
        """Begin to fill an existing folder; returns why that is not possible, or None. `take_in`
        flushes the journal into the database, and returns whether it could.

        Outside of a turn. Raises `StoreFailed`.
        """
        problem = self._problem(target)
        if problem is not None:
            return problem
        began = self._clock()
        if not take_in():
            return "the database can't take in what the journal holds: the log of the storage worker says why"
        pause = self._clock() - began
        self._blobs.put_off_deletions()
        self._holds = True
        with self._lock:
            self._state = BackupState(running=True, folder=str(target), pause_ms=round(pause * 1000))
        log.info("a backup to %s begins", target)
        self._thread = threading.Thread(target=self._run, args=(target, now_ms), name="backup", daemon=True)
        self._thread.start()
        return None

    def _problem(self, target: Path) -> str | None:
        if self._holds:
            return "a backup is being made already"
        if not target.is_absolute():
            return f"the folder {target} has to be an absolute path"
        try:
            if not target.is_dir():
                return f"{target} is no folder"
            there = [name for name in (*OWN_NAMES, _UNFINISHED) if (target / name).exists()]
            if there:
                return f"{target} has a file {there[0]} already: name an empty folder"
            needed = self._database.used_bytes()
            if target.stat().st_dev != (self._folder / BLOBS_NAME).stat().st_dev:
                needed += sum(one.size for one in MailPages(self._database).in_blobs())
            free = self._free_bytes(target)
        except OSError as error:
            return f"{target} can't be used: {error.strerror}"
        if free < needed + 2 * self._min_free_bytes:
            return (
                f"the disk of {target} has {free} bytes free; the copy takes {needed}, and twice the free-space mark "
                f"({2 * self._min_free_bytes}) has to be left"
            )
        return None

    def work(self) -> None:
        """Between two turns: when the copy has all files, delete what was put off, some at a time.
        Raises `StoreFailed`.
        """
        if not self._holds or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = None
        if self._blobs.delete_put_off(_DELETED_AT_ONCE):
            self._holds = False

    def close(self) -> None:
        """The worker ends: give up an incomplete copy."""
        self._ending = True
        if self._thread is not None:
            with self._lock:
                if self._reading is not None:
                    self._reading.interrupt()
            self._thread.join()

    # --- the thread
    # ----------------------------------------------------------------------------------------------

    def _run(self, target: Path, now_ms: int) -> None:
        problem = ""
        try:
            self._fill(target, now_ms)
        except StorageError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{target}: {error.strerror}"
        except Exception as error:
            log.exception("a backup failed unexpectedly")
            problem = f"a bug: {type(error).__name__}"
        if problem:
            with suppress(OSError):
                (target / _UNFINISHED).unlink(missing_ok=True)
            log.error("no backup was made: %s", problem)
        else:
            log.info("a backup was made: %s", target)
        with self._lock:
            self._state = self._state._replace(running=False, problem=problem)

    def _fill(self, target: Path, now_ms: int) -> None:
        unfinished = target / _UNFINISHED
        self._copy_database(unfinished)
        fail_points.reach(FailPoint.BACKUP_COPIED)
        with closing(Database(unfinished, beside=True)) as copy:
            mark_as_copy(copy, now_ms)
            with copy.reading():
                contents = list(MailPages(copy).in_blobs())
            if not copy.checkpoint(truncate=True):
                raise StoreFailed(f"{unfinished} is read by somebody")
        for left in (f"{_UNFINISHED}-wal", f"{_UNFINISHED}-shm"):
            (target / left).unlink(missing_ok=True)
        bodies = target / BLOBS_NAME
        bodies.mkdir(mode=0o700)
        size = missing = 0
        for one in contents:
            if self._ending:
                raise StoreFailed("the storage worker ended meanwhile")
            if _put_beside(self._folder / BLOBS_NAME / str(one.blob_id), bodies / str(one.blob_id)):
                size += one.size
            else:
                missing += 1
        sync_folder(bodies)
        _sync_file(unfinished)
        fail_points.reach(FailPoint.BACKUP_LINKED)
        database_bytes = unfinished.stat().st_size
        unfinished.rename(target / DATABASE_NAME)
        sync_folder(target)
        with self._lock:
            self._state = self._state._replace(
                database_bytes=database_bytes, contents=len(contents) - missing, content_bytes=size, missing=missing
            )

    def _copy_database(self, unfinished: Path) -> None:
        with closing(Database(self._folder / DATABASE_NAME, beside=True)) as reading:
            with self._lock:
                self._reading = reading
            try:
                if self._ending:
                    raise StoreFailed("the storage worker ended meanwhile")
                with reading.reading():
                    reading.copy_to(unfinished)
            finally:
                with self._lock:
                    self._reading = None


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_beside(source: Path, target: Path) -> bool:
    """Link a content, or copy it to another disk; returns whether it exists. Raises `OSError`."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise
        with source.open("rb") as reader, target.open("xb") as writer:
            while data := reader.read(_COPY_STEP):
                writer.write(data)
            writer.flush()
            os.fsync(writer.fileno())
    return True
