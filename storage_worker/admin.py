"""The command `scripts/admin`, and its subcommands check, recover-journal and
new-generation. The others are in `storage_worker.admin_numbers`, `storage_worker.admin_accounts`,
`storage_worker.admin_backup`, `storage_worker.admin_link_key`, `storage_worker.admin_move`,
`storage_worker.admin_orders`, `storage_worker.admin_store` and `storage_worker.admin_tls`.

Owns: the command line of `scripts/admin`, which an installed package calls `messageu-admin`.
Promises: numbers, `unprove` and `check` work while the storage worker runs and while it does not;
the others, and `check --drop`, change what gateways were told or what is handed out, so the worker
has to be stopped. Contents and keys are never shown. Root acts as the data folder's owner, so that
the files stay the worker's; a missing folder is not made.
Exposure: whoever may read the data folder.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import server_packages  # noqa: F401 - ends the program where they are missing
from common.data_folder import (
    DATA_VARIABLE,
    become_owner,
    data_folder,
    folder_named,
    refuse_foreign_files,
    require_utf8,
)
from common.errors import SettingRejected
from common.options import folder_path
from common.process_limits import forbid_core_dumps
from common.version import VERSION
from storage_worker import (
    admin_accounts,
    admin_backup,
    admin_link_key,
    admin_move,
    admin_numbers,
    admin_orders,
    admin_store,
    admin_tls,
)
from storage_worker.admin_output import EXIT_UNKNOWN, Say, show
from storage_worker.admin_store import tables_in_postgres
from storage_worker.engine.errors import JournalDamaged, StorageError, StoreDamaged, StoreInUse, StoreUnusable
from storage_worker.engine.sqlite.blobs import Blobs, DiskBlobs, SyncThread
from storage_worker.engine.sqlite.database import Database, load_checksums
from storage_worker.engine.sqlite.folder import (
    BLOBS_NAME,
    DATABASE_NAME,
    GENERATION_NAME,
    JOURNAL_NAMES,
    OWN_NAMES,
    folder_lock,
    refuse_wrong_kinds,
)
from storage_worker.engine.sqlite.journal import DiskJournal, Journal
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.operators_tables import SqliteTables
from storage_worker.engine.sqlite.recovery import recover_journal
from storage_worker.engine.sqlite.store_identity import (
    GenerationFile,
    has_copy_mark,
    look_at_journal,
    new_generation,
    stored_identity,
)
from storage_worker.server.admin_link import NotObeyed

EXIT_FINAL = 78
EXIT_INTERRUPTED = 130


def _begin_generation(folder: Path, say: Say, *, as_json: bool) -> int:
    with folder_lock(folder):
        database = Database(folder / DATABASE_NAME, beside=True)
        try:
            if stored_identity(database) is None:
                raise StoreUnusable("the store is empty")
            generation = new_generation(database, GenerationFile(folder / GENERATION_NAME), time.time_ns() // 1_000_000)
        finally:
            database.close()
    sentence = f"The store's generation is {generation} now."
    show(say, {"type": "generation", "generation": generation}, sentence, as_json=as_json)
    return 0


class Dropped(NamedTuple):
    """What `check --drop` did. `rewritten`, `pages`: rows of pages of mail, of which the former had
    intact parts; `contents`: numbers of the files of large messages.
    """

    rewritten: list[int]
    pages: list[int]
    contents: list[int]


class Found(NamedTuple):
    """What is altered, a sentence each; how many pages of mail have no checksum; what was dropped
    of it.
    """

    problems: list[str]
    unchecked: int
    dropped: Dropped


def check(folder: Path, say: Say, *, drop: bool = False, as_json: bool = False) -> int:
    """Read everything and report what is altered; 0 if nothing is. Works while the worker runs.

    `drop`: before that, delete the pages of mail that are altered, so that their mailboxes can be
    fetched from again. The worker has to be stopped for it.
    """
    before = Found([], 0, Dropped([], [], []))
    if drop:
        with folder_lock(folder):
            before = _look(folder, drop=True)
        if not as_json:
            _show_found(before, say)
    found = _look(folder, drop=False)
    if as_json:
        line: dict[str, object] = {
            "type": "check",
            "altered": found.problems,
            "without_checksum": found.unchecked,
            "altered_before": before.problems,
            "rewritten_pages": before.dropped.rewritten,
            "dropped_pages": before.dropped.pages,
            "dropped_contents": before.dropped.contents,
        }
        say(json.dumps(line))
    else:
        _show_found(found, say)
    return EXIT_UNKNOWN if found.problems else 0


def _look(folder: Path, *, drop: bool) -> Found:
    database = Database(folder / DATABASE_NAME, beside=True)
    try:
        problems = [f"mail.db: {problem}" for problem in database.problems()]
        rows, unchecked = _altered_pages(database, problems)
        contents = _altered_contents(database, folder)
        problems += contents.values()
        problems += _journal_problems(database, folder)
        # The last step: nothing that fails may keep what was dropped from being told.
        dropped = _drop(database, rows, contents) if drop else Dropped([], [], [])
    finally:
        database.close()
    return Found(problems, unchecked, dropped)


def _show_found(found: Found, say: Say) -> None:
    for kind, rows in (("rewritten", found.dropped.rewritten), ("dropped", found.dropped.pages)):
        for row in rows:
            say(f"{kind}: page {row}")
    for blob_id in found.dropped.contents:
        say(f"dropped: the message of {BLOBS_NAME}/{blob_id}")
    for problem in found.problems:
        say(problem)
    if found.unchecked:
        say(f"{found.unchecked} pages of mail were written by an earlier version and have no checksum.")
    if not found.problems:
        say("Nothing is altered.")
        return
    say("Altered messages are not delivered; everything else works. The next step is to stop the server and put the")
    say(
        "whole data folder back from a backup, then scripts/admin new-generation. Without a backup: scripts/admin check"
    )
    say(
        "--drop deletes altered pages of mail, whose messages are lost; scripts/admin recover-journal is for a journal."
    )


def _drop(database: Database, rows: Sequence[int], contents: Mapping[int, str]) -> Dropped:
    """Delete altered pages of mail, and messages whose contents are altered; the intact parts of
    the pages are kept.

    A page of the file may hold several pages of mail: those whose own checksums are right are
    rewritten.
    """
    with database.unchecked():
        pages = MailPages(database)
        whole = pages.whole(rows)
        with database.transaction():
            for row in rows:
                pages.drop(row)
            pages.insert(whole.values())
            for blob_id in contents:
                pages.drop_blob(blob_id)
    return Dropped([row for row in rows if row in whole], [row for row in rows if row not in whole], list(contents))


def _altered_pages(database: Database, problems: list[str]) -> tuple[list[int], int]:
    """The rows of altered pages, and how many pages have no checksum."""
    pages = MailPages(database)
    rows: list[int] = []
    unchecked = 0
    try:
        with database.reading():
            everything = pages.pages_of_all()
    except StoreDamaged as error:
        problems.append(str(error))
        return [], 0
    # Where a page of the table can't be read, that is named below, with whose mail it is.
    with contextlib.suppress(StoreDamaged), database.reading():
        unchecked = database.row("SELECT count(*) FROM mail_page WHERE checksum IS NULL")[0]
    for recipient, page in everything:
        try:
            pages.entries(recipient, page)
        except StoreDamaged as error:
            # The worker may have deleted or written it anew since; the index is asked, which is
            # whole.
            with database.reading():
                there = list(pages.overlapping(recipient, page.first, page.last))
            if any(one.row == page.row for one in there):
                problems.append(f"mail.db: {error}")
                rows.append(page.row)
    return rows, unchecked


def _altered_contents(database: Database, folder: Path) -> dict[int, str]:
    """The large messages whose files are altered or gone: number of the file -> what is
    wrong, with the mailbox.
    """
    disk_blobs = DiskBlobs(folder / BLOBS_NAME)
    blobs = Blobs(disk_blobs, SyncThread(disk_blobs))
    problems: dict[int, str] = {}
    try:
        with database.reading():
            waiting = {one.blob_id: one for one in MailPages(database).in_blobs()}
        altered = blobs.altered({blob_id: one.size for blob_id, one in waiting.items()})
        for blob_id, problem in altered.items():
            one = waiting[blob_id]
            # The worker may have deleted it since.
            with database.reading():
                name = database.find(
                    "SELECT user.name, hex(client_id) FROM user JOIN mail_page ON recipient = user.row WHERE body = ?",
                    (blob_id,),
                )
            if name is not None:
                problems[blob_id] = f"{problem}. Message {one.sequence} in the mailbox of {name[0]!r} ({name[1]})"
    except StoreDamaged as error:
        # Which large messages there are can't be read; it is named as a problem of the database
        # already.
        sys.stderr.write(f"admin: large messages are not looked at: {error}\n")
    finally:
        blobs.close()
    return problems


def _journal_problems(database: Database, folder: Path) -> list[str]:
    """What is wrong with the journal, if no worker is writing to it. A copy has no journal."""
    if has_copy_mark(database):
        return []
    try:
        with folder_lock(folder):
            if not all((folder / name).exists() for name in JOURNAL_NAMES):
                return ["a file of the journal is missing"]
            try:
                look_at_journal(database, folder, GenerationFile(folder / GENERATION_NAME))
            except StoreUnusable as error:
                return [str(error)]
            journal = Journal([DiskJournal(folder / name, 0) for name in JOURNAL_NAMES], 0)
            try:
                with database.reading():
                    journal.replay(database.row("SELECT era FROM store")[0])
            finally:
                journal.close()
            if journal.torn_at is None:
                return []
            return [f"{journal.torn_file} ends at byte {journal.torn_at} in a record that is not whole"]
    except StoreInUse:
        return []
    except (JournalDamaged, StoreDamaged) as error:
        return [str(error)]


def _recover_journal(folder: Path, say: Say, *, as_json: bool) -> int:
    with folder_lock(folder):
        if not (folder / DATABASE_NAME).exists():
            raise StoreUnusable(f"there is no store in {folder}")
        database = Database(folder / DATABASE_NAME)
        try:
            if stored_identity(database) is None:
                raise StoreUnusable("the store is empty")
            found = recover_journal(database, folder, time.time_ns() // 1_000_000, os.urandom)
        finally:
            database.close()
    show(
        say,
        {
            "type": "recovered-journal",
            "turns": found.records,
            "gaps": found.gaps,
            "kept": [str(path) for path in found.kept],
            "generation": found.generation,
        },
        f"{found.records} turns of the journal were whole and are in the database now; gaps: {found.gaps}.",
        "What was sent, fetched or deleted in a gap is lost: mail of it is gone, deleted mail of it comes again.",
        *(f"The file as it was: {path}" for path in found.kept),
        f"The store's generation is {found.generation} now: senders learn that mail may be lost. Start the server.",
        as_json=as_json,
    )
    return 0


def _existing(folder: Path) -> Path:
    require_utf8(folder)
    try:
        found = folder.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreUnusable(f"there is no store in {folder}") from None
    except OSError as error:
        raise SettingRejected(f"the data folder {folder} can't be used: {error.strerror}") from error
    require_utf8(found)
    return found


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviated options; the parsers of the subcommands are of this class too."""

    def __init__(self, **named: Any) -> None:
        super().__init__(allow_abbrev=False, **named)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done; 1 no such user, the store failed, or the output can't
    be written; 78 the store can't be used.
    """
    parser = _Parser(prog="messageu-admin", description="Manage MessageU's store and users.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    where = f"where the mail is kept (${DATA_VARIABLE}, else data/)"
    parser.add_argument("--data-folder", type=folder_path, help=where)
    commands = parser.add_subparsers(dest="command", required=True)
    admin_numbers.add_commands(commands)
    admin_backup.add_commands(commands)
    admin_orders.add_commands(commands)
    checking = commands.add_parser("check", help="read everything, and list what is damaged")
    checking.add_argument("--drop", action="store_true", help="delete damaged pages of mail; their messages are lost")
    commands.add_parser("recover-journal", help="recover all intact records from a damaged journal")
    commands.add_parser("new-generation", help="tell clients that the whole data folder was restored from a backup")
    admin_accounts.add_commands(commands)
    admin_tls.add_commands(commands)
    admin_store.add_commands(commands)
    admin_move.add_commands(commands)
    admin_link_key.add_commands(commands)
    for name in (*admin_accounts.COMMANDS, "users", "stats"):
        commands.choices[name].add_argument(
            "--store", metavar="URL", help="the store is in this PostgreSQL database (postgresql://…)"
        )
    for command in commands.choices.values():
        # It may be behind the command too; what precedes it is kept.
        command.add_argument("--data-folder", type=folder_path, default=argparse.SUPPRESS, help=where)
        command.add_argument("--json", action="store_true", help="print JSON, one object per line")
    settings = parser.parse_args(arguments)
    if settings.json and getattr(settings, "qr", False):
        commands.choices[settings.command].error("argument --qr: not allowed with argument --json")
    environment = dict(os.environ)
    if settings.data_folder is not None:
        environment[DATA_VARIABLE] = str(settings.data_folder)
    # What the store's parts log, such as that an old store was brought over.
    logging.basicConfig(level=logging.INFO, format="admin: %(message)s", stream=sys.stderr)
    os.umask(0o077)
    forbid_core_dumps()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names are beyond ASCII. `\xeb` is printed where the output has no such letter.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if settings.command in {"store", "move"}:
            # They name the store themselves.
            run = admin_store.run if settings.command == "store" else admin_move.run
            code = run(settings, _say)
            _printed()
            return code
        if settings.command == "link-key":
            # On a gateway's machine there is no store.
            data_folder(environment, Path.cwd())
        folder = _existing(folder_named(environment, Path.cwd()))
        # The owner may be unable to read where root's packages are.
        load_checksums()
        become_owner(folder)
        refuse_foreign_files(folder, OWN_NAMES)
        refuse_wrong_kinds(folder)
        code = _run(settings, folder)
        _printed()
        return code
    except (SettingRejected, StoreInUse, StoreUnusable) as error:
        sys.stderr.write(f"admin: {error}\n")
        return EXIT_FINAL
    except NotObeyed as error:
        sys.stderr.write(f"admin: {error}\n")
        return EXIT_UNKNOWN
    except StorageError as error:
        sys.stderr.write(f"admin: the store failed: {error}\n")
        return EXIT_UNKNOWN
    except _Unprinted as error:
        if error.reason:
            sys.stderr.write(f"admin: what is to be printed can't be written: {error.reason}\n")
        return EXIT_UNKNOWN
    except OSError as error:
        sys.stderr.write(f"admin: the system failed: {error}\n")
        return EXIT_UNKNOWN
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(settings: argparse.Namespace, folder: Path) -> int:
    as_json: bool = settings.json
    if settings.command == "new-generation":
        return _begin_generation(folder, _say, as_json=as_json)
    if settings.command == "check":
        return check(folder, _say, drop=settings.drop, as_json=as_json)
    if settings.command == "recover-journal":
        return _recover_journal(folder, _say, as_json=as_json)
    if settings.command == "link-key":
        return admin_link_key.run(settings, folder, _say)
    if settings.command == "tls":
        return admin_tls.tls(settings.step, folder, _say, as_json=as_json)
    if settings.command == "address":
        return admin_tls.address(settings.place, folder, _say, qr=settings.qr, as_json=as_json)
    if settings.command == "log-level":
        return admin_orders.log_level(folder, settings.level, _say, as_json=as_json)
    if settings.command == "expire":
        return admin_orders.expire(folder, settings.days, _say, as_json=as_json)
    if settings.command in {"disable", "enable"}:
        disabled = settings.command == "disable"
        return admin_orders.disable(folder, settings.name, _say, disabled=disabled, as_json=as_json)
    if settings.command == "drain":
        return admin_orders.drain(folder, _say, as_json=as_json)
    if settings.command == "backup":
        return admin_backup.run(folder, settings.target, _say, as_json=as_json)
    if settings.command in {"users", "stats"}:
        return admin_numbers.run(
            settings.command, folder, settings.workers or (), settings.store, _say, as_json=as_json
        )
    return _run_on_tables(settings, folder)


def _run_on_tables(settings: argparse.Namespace, folder: Path) -> int:
    now_ms = time.time_ns() // 1_000_000
    shard_store: str | None = getattr(settings, "shard_store", None)
    if settings.store is not None:
        with contextlib.closing(tables_in_postgres(settings.store, shard_store)) as tables:
            return admin_accounts.run(settings, folder, tables, _say, now_ms, os.urandom)
    if shard_store is not None:
        raise SettingRejected("--shard-store is for a store in PostgreSQL, which --store names")
    with contextlib.closing(Database(folder / DATABASE_NAME, beside=True)) as database, database.reading():
        if settings.command != "unprove" and not database.is_current:
            raise SettingRejected(
                "an earlier version made this store: start the storage worker once, which brings it over"
            )
        return admin_accounts.run(settings, folder, SqliteTables(database), _say, now_ms, os.urandom)


class _Unprinted(Exception):
    """Standard output can't be written. `reason`: empty if its reader has gone, as with `|
    head`.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.reason = "" if isinstance(error, BrokenPipeError) else error.strerror


def _say(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
    except OSError as error:
        _drop_output()
        raise _Unprinted(error) from error


def _printed() -> None:
    """Flush standard output. Raises `_Unprinted`."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        raise _Unprinted(error) from error


def _drop_output() -> None:
    # What is left would fail once more when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
