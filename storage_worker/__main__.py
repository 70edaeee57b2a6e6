"""The storage worker as a program: arguments, signals, wiring.

Owns: the process; what ends it, with which exit code and last log line.
Promises: SIGTERM and SIGINT end it after the transaction it is in, SIGHUP does nothing. Codes: 0
asked to end; 78 a restart won't help (data folder in use or unusable, a bad setting, another worker
took the shard over); 1 a read, write or sync failed, and what is on disk is unknown, or PostgreSQL
can't be reached.
Exposure: the command line and the environment of whoever starts it.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from common import server_packages  # noqa: F401 - ends the program where they are missing
from common.data_folder import DATA_VARIABLE, data_folder, link_endpoint, refuse_foreign_files
from common.errors import SettingRejected
from common.link_address import LinkAddress, key_text
from common.link_keys import WORKER, AllowedKeys, load
from common.metrics import metrics_text
from common.process_limits import forbid_core_dumps, raise_open_files
from common.server_log import begin_log, fields
from common.service_manager import ServiceManager
from common.status_server import StatusServer, ask_health, text_page
from storage_worker.engine.errors import StorageError, StoreDamaged, StoreInUse, StoreSuperseded, StoreUnusable
from storage_worker.engine.interface import Engine
from storage_worker.engine.sqlite.blobs import Blobs, DiskBlobs, SyncThread
from storage_worker.engine.sqlite.checkpointer import CheckpointThread
from storage_worker.engine.sqlite.database import CHECKPOINT_BYTES, Database
from storage_worker.engine.sqlite.disk_space import DiskSpaceMonitor
from storage_worker.engine.sqlite.engine import SqliteEngine
from storage_worker.engine.sqlite.folder import (
    BLOBS_NAME,
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
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.maintenance import Maintenance
from storage_worker.engine.sqlite.online_backup import OnlineBackup
from storage_worker.engine.sqlite.store_identity import GenerationFile, look_at_journal, marked_length, open_store
from storage_worker.metrics import series_of
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.admission import Limits
from storage_worker.rules.rules import Rules
from storage_worker.server.administration import Administration
from storage_worker.server.batch_processor import BatchProcessor
from storage_worker.server.health import Health
from storage_worker.server.measures import Measures, StoreSize
from storage_worker.server.tcp_link import TcpLink
from storage_worker.server.zmq_server import OpenTcp, ZmqServer
from storage_worker.settings import (
    OWN_FILES,
    SMALLEST_JOURNAL,
    account_settings,
    check_min_free_bytes,
    checked,
    parse,
    place_of,
    uploads_that_fit,
)

log = logging.getLogger("storage_worker")

EXIT_FAILED: Final = 1
EXIT_FINAL: Final = 78
"""EX_CONFIG: the keeper does not start it again."""


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _size(database: Database, engine: SqliteEngine, folder: Path) -> StoreSize | None:
    """The size of the store, or None if a table is damaged. Raises `StoreFailed`."""
    try:
        with engine.reading():
            users = engine.users.count(engine.users.last_row())
            return StoreSize(users, *MailPages(database).load()[1:], _free_bytes(folder), *engine.keys.totals())
    except StoreDamaged:
        return None


def _both(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    def beat() -> None:
        one()
        other()

    return beat


def _tcp_link(address: LinkAddress | None, folder: Path) -> OpenTcp | None:
    """How `--link` is bound. Raises `SettingRejected`, also later."""
    if address is None:
        return None
    keys, allowed = load(folder, WORKER), AllowedKeys(folder)
    if keys is None:
        log.info("gateways connect to %s too, without keys", address.endpoint)
    else:
        known = len(allowed())
        log.info("gateways connect to %s too; key %s, %d allowed", address.endpoint, key_text(keys.public), known)
    return lambda context, router: TcpLink(context, router, address, keys, allowed)


def _labels(engine: Engine) -> dict[str, str]:
    """Of several shards, which one the numbers are of."""
    identity = engine.identity
    return {"shard": str(identity.shard)} if identity.shards > 1 else {}


class Opened(NamedTuple):
    """An open store. `place`: where it is, for people. `flushes`: how often its tables have taken
    in what its journal held; `size` reads it between two turns, and gives None where that can't be
    read; `journal_bytes`: what the journal holds.
    """

    engine: Engine
    place: str
    flushes: Callable[[], int]
    size: Callable[[], StoreSize | None]
    journal_bytes: Callable[[], int]


def _open_embedded(settings: argparse.Namespace, folder: Path, resources: ExitStack) -> Opened:
    min_free_bytes: int = settings.min_free_bytes
    # A log or a journal of more than a quarter of the minimum could fill what the minimum keeps
    # free.
    log_bytes = min(CHECKPOINT_BYTES, max(min_free_bytes // 4, SMALLEST_JOURNAL))
    journal_bytes = min(settings.journal, max(min_free_bytes // 4, SMALLEST_JOURNAL))
    refuse_lost_database(folder)
    database = Database(folder / DATABASE_NAME, size_limit=settings.size_limit, checkpoint_bytes=log_bytes)
    resources.callback(database.abandon)
    file = GenerationFile(folder / GENERATION_NAME)
    # Earlier versions made do with one file, or none.
    is_old = not database.was_upgraded and look_at_journal(database, folder, file)
    journal_files = [DiskJournal(folder / name, journal_bytes) for name in JOURNAL_NAMES]
    length = min(one.size for one in journal_files)
    if length < journal_bytes:
        # There was no room for more of it.
        length = marked_length(database)
    journal = Journal(journal_files, journal_bytes, marks_at=mark_at(length) if length else 0)
    resources.callback(journal.close)
    disk_blobs = DiskBlobs(folder / BLOBS_NAME)
    blobs = Blobs(disk_blobs, SyncThread(disk_blobs))
    resources.callback(blobs.close)
    identity = open_store(database, file, _unix_ms(), os.urandom, is_old=is_old)
    checkpoints = CheckpointThread(lambda: Database(folder / DATABASE_NAME, beside=True))
    upkeep = Maintenance(database, file, checkpoints)
    resources.callback(upkeep.abandon)
    monitor = DiskSpaceMonitor(
        min_free_bytes,
        lambda: _free_bytes(folder),
        database.unused_bytes,
        database.take_ballast,
        upkeep.give_back,
    )
    backups = OnlineBackup(folder, database, blobs, min_free_bytes, _free_bytes, time.monotonic)
    engine = SqliteEngine(database, journal, blobs, file, identity, monitor, upkeep, backups, os.urandom, _unix_ms())
    engine.mark_journal(length)
    return Opened(
        engine,
        f"data folder {folder}",
        lambda: engine.log.flushes,
        lambda: _size(database, engine, folder),
        lambda: journal.used,
    )


def _open_postgres(settings: argparse.Namespace, folder: Path, resources: ExitStack) -> Opened:
    # Who does not ask for it need not have its packages.
    try:
        from storage_worker.engine.postgres.connection import shown
        from storage_worker.engine.postgres.opening import open_engine
        from storage_worker.engine.postgres.schema import Place
    except ImportError as error:
        raise SettingRejected(f"--store needs the package psycopg ({error}): install messageu[postgres]") from error
    if (folder / DATABASE_NAME).exists():
        log.warning("%s has a store of its own, which is not used: --store names another one", folder)
    place = Place(*place_of(settings.store, settings.shard))
    engine = open_engine(settings.store, place, os.urandom, _unix_ms(), settings.directory)
    resources.callback(engine.abandon)

    def size() -> StoreSize | None:
        users, pending = engine.load()
        return StoreSize(users, *pending, _free_bytes(folder), *engine.keys.totals())

    return Opened(
        engine,
        f"{shown(settings.store)}, shard {place.number}/{place.shards}, data folder {folder}",
        lambda: engine.log.flushes,
        size,
        lambda: engine.mailboxes.unflushed_bytes,
    )


def serve(
    settings: argparse.Namespace,
    limits: Limits,
    accounts: AccountSettings,
    folder: Path,
    wake: int,
    service_manager: ServiceManager,
) -> None:
    """Open the store, serve it until `wake` is readable, close it. Raises `SettingRejected`."""
    with ExitStack() as resources:
        opened = (_open_embedded if settings.store is None else _open_postgres)(settings, folder, resources)
        engine = opened.engine
        rules = Rules(engine, limits, os.urandom, accounts)
        processor = BatchProcessor(engine, rules, os.urandom(16))
        endpoint, open_tcp = link_endpoint(folder), _tcp_link(settings.link, folder)
        service = ZmqServer(processor, Administration(engine, rules), endpoint, _unix_ms, open_tcp)
        try:
            log.info(
                "started: %s, %s, generation %d",
                opened.place,
                endpoint,
                engine.identity.generation,
                extra=fields(data_folder=str(folder), endpoint=endpoint, generation=engine.identity.generation),
            )
            beat = service_manager.beat if service_manager.wants_beats else None
            measures = None
            if settings.metrics is not None:
                health = Health(lambda: processor.takes_mail(_unix_ms()), time.monotonic)
                measures = Measures(opened.flushes, opened.size, time.monotonic)
                series = series_of(measures, opened.journal_bytes)
                pages = {**health.pages(), "/metrics": text_page(metrics_text(series, _labels(engine)))}
                resources.callback(StatusServer(settings.metrics, pages).close)
                beat = _both(health.beat, service_manager.beat)
            service_manager.ready()
            service.serve(wake, beat, measures)
            service_manager.stopping()
        finally:
            service.close()
        engine.close(_unix_ms())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes; the exit code."""
    settings = parse(arguments)
    if settings.health:
        is_ready, sentence = ask_health(settings)
        sys.stdout.write(f"{sentence}\n")
        return int(not is_ready)
    begin_log(settings.log_level, os.environ, settings.log_format)
    # Whatever is made in the data folder is the owner's alone.
    os.umask(0o077)
    forbid_core_dumps()
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # noqa: FBT003
    # The handlers do nothing; that a signal came is read from the wake-up descriptor, between two
    # transactions.
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    # There is no log file to be opened again, and settings are read at the start alone.
    handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        limits, accounts = checked(settings), account_settings(settings)
        service_manager = ServiceManager.named_in(os.environ, os.getpid(), time.monotonic)
        open_files = raise_open_files(limits.uploads + OWN_FILES)
        limits = limits._replace(uploads=uploads_that_fit(limits.uploads, open_files))
        environment = dict(os.environ)
        if settings.data_folder is not None:
            environment[DATA_VARIABLE] = str(settings.data_folder)
        folder = data_folder(environment, Path.cwd())
        refuse_foreign_files(folder, OWN_NAMES)
        refuse_wrong_kinds(folder)
        if settings.store is None:
            check_min_free_bytes(settings.min_free_bytes, folder)
        with folder_lock(folder):
            serve(settings, limits, accounts, folder, reader.fileno(), service_manager)
    except StoreSuperseded as error:
        log.critical("%s", error)
        return EXIT_FINAL
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
