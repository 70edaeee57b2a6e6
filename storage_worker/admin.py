"""What an operator asks of the store: users, stats, unprove, recover-journal, new-generation.

Owns: the command line of `scripts/admin`.
Promises: the first three work while the storage worker runs and while it does not; the others change what gateways
were told at their greeting, so they want the worker stopped. Contents and keys are never shown. What is in the
journal alone is not counted: while the worker runs, numbers are up to two seconds old.
Exposure: whoever may read the data folder.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common.data_folder import DATA_VARIABLE, data_folder
from common.errors import SettingRejected, StorageError, StoreInUse, StoreUnusable
from storage_worker.database import Database
from storage_worker.folder import DATABASE_NAME, GENERATION_NAME, folder_lock
from storage_worker.message_queue import waiting
from storage_worker.recovery import recover_journal
from storage_worker.store_facts import GenerationFile, new_generation, stored_facts

EXIT_UNKNOWN = 1
EXIT_FINAL = 78

Say = Callable[[str], object]


def users(database: Database, say: Say) -> int:
    """One line per user: registration number, proven or not, waiting messages and their bytes, name."""
    loads = waiting(database) if stored_facts(database) is not None else {}
    # Read to the end before anything is printed: whoever pages through it must not hold the worker up meanwhile.
    found = list(database.execute("SELECT row, proven, name FROM user ORDER BY row"))
    say("   number  proven     waiting           bytes  name")
    for row, proven, name in found:
        messages, size = loads.get(row, (0, 0))
        say(f"{row:>9}  {'yes' if proven else 'no':<6}  {messages:>10}  {size:>14}  {name}")
    return 0


def stats(database: Database, say: Say) -> int:
    """The store in a few numbers."""
    facts = stored_facts(database)
    if facts is None:
        say("The store is empty.")
        return 0
    count, proven = database.row("SELECT count(*), coalesce(sum(proven), 0) FROM user")
    loads = waiting(database)
    messages = sum([load.messages for load in loads.values()])
    size = sum([load.content_bytes for load in loads.values()])
    say(f"users               {count} ({proven} proven)")
    say(f"waiting messages    {messages} in {len(loads)} mailboxes, {size} bytes of content")
    say(f"accepted so far     {facts.sequence}")
    say(f"room inside         {database.unused_bytes()} bytes")
    say(f"generation          {facts.generation}")
    say(f"starts              {facts.starts}")
    return 0


def unprove(database: Database, name: str, say: Say) -> int:
    """Take a user's mark back, so that programs of the published protocol may act for him again."""
    with database.transaction():
        database.execute("UPDATE user SET proven = 0 WHERE name = ?", (name,))
        known = database.changes()
    if not known:
        say(f"There is no user named {name!r}.")
        return EXIT_UNKNOWN
    say(f"{name} may be used without proof again, until the next proof.")
    return 0


def _begin_generation(folder: Path, say: Say) -> int:
    with folder_lock(folder):
        database = Database(folder / DATABASE_NAME, beside=True)
        try:
            if stored_facts(database) is None:
                raise StoreUnusable("the store is empty")
            generation = new_generation(database, GenerationFile(folder / GENERATION_NAME), time.time_ns() // 1_000_000)
        finally:
            database.close()
    say(f"The store's generation is {generation} now.")
    return 0


def _recover_journal(folder: Path, say: Say) -> int:
    with folder_lock(folder):
        if not (folder / DATABASE_NAME).exists():
            raise StoreUnusable(f"there is no store in {folder}")
        database = Database(folder / DATABASE_NAME)
        try:
            if stored_facts(database) is None:
                raise StoreUnusable("the store is empty")
            found = recover_journal(database, folder, time.time_ns() // 1_000_000, os.urandom)
        finally:
            database.close()
    say(f"{found.records} turns of the journal were whole and are in the database now; gaps: {found.gaps}.")
    say("What was sent, fetched or deleted in a gap is lost: mail of it is gone, deleted mail of it comes again.")
    for path in found.kept:
        say(f"The file as it was: {path}")
    say(f"The store's generation is {found.generation} now: senders are told that mail may be lost. Start the server.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 no such user or the store failed, 78 it can't be used."""
    parser = argparse.ArgumentParser(prog="admin", description="Look after MessageU's store.")
    parser.add_argument("--data-folder", type=Path, help=f"where the mail is kept (${DATA_VARIABLE}, else data/)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("users", help="who is registered, and what waits for whom")
    commands.add_parser("stats", help="the store in a few numbers")
    commands.add_parser("unprove", help="take a user's proof mark back").add_argument("name")
    commands.add_parser("recover-journal", help="go on from a damaged journal with all that is whole in it")
    commands.add_parser("new-generation", help="after the whole data folder was restored from a backup")
    settings = parser.parse_args(arguments)
    environment = dict(os.environ)
    if settings.data_folder is not None:
        environment[DATA_VARIABLE] = str(settings.data_folder)
    os.umask(0o077)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")

    try:
        folder = data_folder(environment, Path.cwd())
        if settings.command == "new-generation":
            return _begin_generation(folder, say)
        if settings.command == "recover-journal":
            return _recover_journal(folder, say)
        database = Database(folder / DATABASE_NAME, beside=True)
        try:
            if settings.command == "users":
                return users(database, say)
            if settings.command == "stats":
                return stats(database, say)
            return unprove(database, settings.name, say)
        finally:
            database.close()
    except (SettingRejected, StoreInUse, StoreUnusable) as error:
        sys.stderr.write(f"admin: {error}\n")
        return EXIT_FINAL
    except StorageError as error:
        sys.stderr.write(f"admin: the store failed: {error}\n")
        return EXIT_UNKNOWN


if __name__ == "__main__":
    sys.exit(main())
