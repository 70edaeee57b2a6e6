"""Recovery from a damaged journal: intact records are applied, the files are kept.

Owns: the names of the files that are kept aside. Promises: the damaged files are copied, and on
disk, before anything is written; the store's generation grows before anything is applied, so that
senders whose mail may be lost are told, wherever the command is killed. It can be killed anywhere
and run again without losing intact records.
Exposure: an operator's command, while the worker is stopped.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from common import fail_points
from common.fail_points import FailPoint
from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.paged.message_queue import MessageQueue
from storage_worker.engine.sqlite.blobs import Blobs, DiskBlobs, SyncThread
from storage_worker.engine.sqlite.blocks import BlockLists
from storage_worker.engine.sqlite.commit_log import CommitLog
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import BLOBS_NAME, GENERATION_NAME, JOURNAL_NAMES, sync_folder
from storage_worker.engine.sqlite.journal import DiskJournal, Journal
from storage_worker.engine.sqlite.log_epochs import mark_at
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.published_keys import Keys
from storage_worker.engine.sqlite.send_tokens import SentTokens
from storage_worker.engine.sqlite.slots import Slots
from storage_worker.engine.sqlite.store_identity import GenerationFile, marked_length, new_generation, note_marks
from storage_worker.engine.sqlite.users import UserRegistry

_ASIDE: Final = "damaged"
_SMALLEST: Final = 64 * 1024
"""Bytes of a journal that is made where none is left."""


class Recovered(NamedTuple):
    """`records`: turns that were whole. `gaps`: places between them where turns are lost.
    `kept`: the old files.
    """

    records: int
    gaps: int
    kept: list[Path]
    generation: int


def recover_journal(database: Database, folder: Path, now_ms: int, random_bytes: Callable[[int], bytes]) -> Recovered:
    """Apply the intact records of a journal, whatever is between them. Raises `StoreFailed` and
    `StoreFull`.
    """
    kept = [_keep(folder / name, now_ms) for name in JOURNAL_NAMES if (folder / name).exists()]
    sync_folder(folder)
    generation = new_generation(database, GenerationFile(folder / GENERATION_NAME), now_ms)
    fail_points.reach(FailPoint.RECOVERY_GENERATION)
    size = max([_SMALLEST, marked_length(database), *[path.stat().st_size for path in kept]])
    files = [DiskJournal(folder / name, size) for name in JOURNAL_NAMES]
    fail_points.reach(FailPoint.RECOVERY_OPENED)
    length = min(file.size for file in files)
    journal = Journal(files, size, marks_at=mark_at(length))
    disk_blobs = DiskBlobs(folder / BLOBS_NAME)
    blobs = Blobs(disk_blobs, SyncThread(disk_blobs))
    try:
        with database.reading():
            blocks = BlockLists(database)
            keys = Keys(database, generation)
            users = UserRegistry(database, blocks, keys)
            queue = MessageQueue(MailPages(database), blobs, users)
            tokens, slots = SentTokens(database, users), Slots(database)
            log = CommitLog(database, journal, random_bytes, queue, tokens, slots, users, blocks, keys)
            records, gaps = log.salvage(now_ms)
        fail_points.reach(FailPoint.RECOVERY_TAKEN_IN)
        # Until then a start refuses a file that was cut or zeros, and this command is run again.
        note_marks(database, journal, length)
        fail_points.reach(FailPoint.RECOVERY_MARKED)
    finally:
        blobs.close()
        journal.close()
    return Recovered(records, gaps, kept, generation)


def _keep(path: Path, now_ms: int) -> Path:
    aside = path.with_name(f"{path.name}.{_ASIDE}-{now_ms}")
    unfinished = path.with_name(f"{path.name}.{_ASIDE}.new")
    try:
        with path.open("rb") as source, unfinished.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(aside)
    except OSError as error:
        raise StoreFailed(f"{path} can't be copied to {aside}: {error.strerror}") from error
    fail_points.reach(FailPoint.RECOVERY_KEPT)
    return aside
