"""The numbers that an operator asks for: `users` and `stats` of `scripts/admin`.

Owns: where the numbers come from, and how they are printed. Promises: while a storage worker runs,
they come from it, as of the last committed turn, and no file of the store is touched. If none runs,
or it does not answer, they come from the database, without what only the journal holds; a sentence
on standard error, or the field `told_by`, says which.
Exposure: whoever may read the data folder. Names and ids are shown, no content and no key.

Source: docs/operations.md, "Looking after a server".
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import structs

from common.data_folder import link_endpoint
from common.errors import FrameUndecodable
from common.options import folder_path
from common.shards import DIRECTORY, shard_of
from common.storage_protocol.administration import (
    MAILBOXES_AT_ONCE,
    Account,
    Accounts,
    AdminAnswer,
    GetMailboxes,
    GetTotals,
    ListAccounts,
    Mailboxes,
    NotDone,
    Totals,
)
from storage_worker.admin_store import tables_in_postgres
from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.sqlite.blobs import file_sizes
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import BLOBS_NAME, DATABASE_NAME
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.published_keys import TOTALS
from storage_worker.engine.sqlite.store_identity import accepted, stored_identity
from storage_worker.engine.values import MailboxStats
from storage_worker.server.admin_link import AdminLink, WorkerSilent, asked, is_served

if TYPE_CHECKING:
    from storage_worker.engine.postgres.operators_tables import PostgresTables

Say = Callable[[str], object]
Found = TypeVar("Found")
OF_WORKER: Final = "worker"
OF_DATABASE: Final = "database"
_USERS: Final = (
    "SELECT row, client_id, name, proven, registered, seen, disabled, keys FROM user WHERE NOT deleted ORDER BY row"
)
_COUNTS: Final = "SELECT count(*), coalesce(sum(proven), 0) FROM user WHERE NOT deleted"
_OLD_USERS: Final = "SELECT row, client_id, name, proven, NULL, NULL, 0, NULL FROM user ORDER BY row"
_OLD_COUNTS: Final = "SELECT count(*), coalesce(sum(proven), 0) FROM user"
"""The same of a store that an earlier version made, and no worker of this one has opened."""


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    for command in (
        commands.add_parser("users", help="list the users, with the number of messages pending for each"),
        commands.add_parser("stats", help="totals of the store"),
    ):
        command.add_argument(
            "--worker",
            dest="workers",
            action="append",
            type=folder_path,
            metavar="FOLDER",
            help="of a store with several shards: the data folder of the worker of shard 1, then of 2, and so on; "
            "--data-folder is that of shard 0",
        )


def run(command: str, folder: Path, workers: Sequence[Path], store: str | None, say: Say, *, as_json: bool) -> int:
    """`users` or `stats`. `workers`: of the shards behind the first one; `store`: in PostgreSQL.
    Raises `StorageError`, `SettingRejected`.
    """
    if workers:
        with ExitStack() as links:
            opened = [links.enter_context(closing(_opened(one))) for one in (folder, *workers)]
            if command == "users":
                show_accounts(accounts_of_shards(opened), OF_WORKER, say, as_json=as_json)
            else:
                show_totals(totals_of_shards(opened), OF_WORKER, say, as_json=as_json)
        return 0
    found: list[Account] | Totals | None = None
    source, told = OF_DATABASE, f"no storage worker is running on {folder}: the numbers are those of the database"
    endpoint = link_endpoint(folder)
    if is_served(endpoint):
        try:
            with closing(AdminLink(endpoint)) as link:
                found = list(accounts_of_worker(link)) if command == "users" else totals_of_worker(link)
            source, told = OF_WORKER, "live numbers of the storage worker"
        except WorkerSilent as error:
            told = f"{error}: the numbers are those of its database, and may be two seconds old"
        except FrameUndecodable as error:
            told = f"the storage worker is of another version ({error}): the numbers are those of its database"
    if source is OF_DATABASE and store is not None:
        with closing(tables_in_postgres(store)) as tables:
            found = list(_accounts_of(tables)) if command == "users" else _totals_of(tables)
    elif source is OF_DATABASE:
        with closing(Database(folder / DATABASE_NAME, beside=True)) as database, database.reading():
            # Read to the end before anything is printed: whoever pages through it must not hold the
            # worker up meanwhile.
            found = list(accounts_of_database(database)) if command == "users" else totals_of_database(database, folder)
    if not as_json:
        sys.stderr.write(f"admin: {told}\n")
    if isinstance(found, list):
        show_accounts(found, source, say, as_json=as_json)
    elif found is None:
        say(json.dumps({"type": "stats", "told_by": source, "users": 0}) if as_json else "The store is empty.")
    else:
        show_totals(found, source, say, as_json=as_json)
    return 0


# --- where they are from
# --------------------------------------------------------------------------------------------------


def _taken(answer: AdminAnswer) -> AdminAnswer:
    if isinstance(answer, NotDone):
        raise StoreFailed(answer.problem)
    return answer


def accounts_of_worker(link: AdminLink) -> Iterator[Account]:
    """All users. Raises `StoreFailed`, `WorkerSilent`, `FrameUndecodable`."""
    after = 0
    while True:
        answer = _taken(link.ask(ListAccounts(after)))
        if not isinstance(answer, Accounts):
            raise FrameUndecodable(f"{type(answer).__name__} is no answer to that")
        yield from answer.accounts
        if not answer.last:
            return
        after = answer.last


def _opened(folder: Path) -> AdminLink:
    endpoint = link_endpoint(folder)
    if not is_served(endpoint):
        raise StoreFailed(f"no storage worker is running on {folder}")
    return AdminLink(endpoint)


def accounts_of_shards(links: Sequence[AdminLink]) -> list[Account]:
    """All users: the directory's list, with what waits for each at the worker of their shard.
    `links`: in the order of the shards. Raises `StoreFailed`.
    """
    accounts = list(_or_failed(lambda: list(accounts_of_worker(links[DIRECTORY]))))
    for shard, link in enumerate(links):
        of_shard = [at for at, one in enumerate(accounts) if shard_of(one.client_id, len(links)) == shard]
        for begin in range(0, max(len(of_shard), 1), MAILBOXES_AT_ONCE):
            places = of_shard[begin : begin + MAILBOXES_AT_ONCE]
            answer = asked(link, GetMailboxes([accounts[at].row for at in places]), Mailboxes)
            _check_place(answer, shard, len(links))
            for at, pending in zip(places, answer.mailboxes, strict=True):
                accounts[at] = structs.replace(
                    accounts[at], messages=pending.messages, content_bytes=pending.content_bytes
                )
    return accounts


_SUMMED: Final = (
    "mailboxes", "messages", "content_bytes", "uploads", "upload_bytes", "accepted", "unused_bytes", "starts",
    "with_keys", "one_time_keys",
)  # fmt: skip
"""Of the totals: what each shard has a part of."""


def totals_of_shards(links: Sequence[AdminLink]) -> Totals:
    """The totals of all shards together. Raises `StoreFailed`."""
    for shard, link in enumerate(links):
        _check_place(asked(link, GetMailboxes([]), Mailboxes), shard, len(links))
    directory, *others = [_or_failed(lambda link=link: totals_of_worker(link)) for link in links]  # type: ignore[misc] # mypy can't infer a lambda with a default
    sums = {name: sum(getattr(one, name) for one in (directory, *others)) for name in _SUMMED}
    return structs.replace(directory, **sums)


def _check_place(found: Mailboxes, shard: int, shards: int) -> None:
    if (found.shard, found.shards) != (shard, shards):
        raise StoreFailed(
            f"the worker that is named for shard {shard} of {shards} has shard {found.shard} of {found.shards}: "
            "--data-folder is that of shard 0, and --worker is given once for each other one, in their order"
        )


def _or_failed(ask: Callable[[], Found]) -> Found:
    try:
        return ask()
    except (WorkerSilent, FrameUndecodable) as error:
        raise StoreFailed(f"a storage worker does not answer: {error}") from error


def totals_of_worker(link: AdminLink) -> Totals:
    """Raises as `accounts_of_worker`."""
    answer = _taken(link.ask(GetTotals()))
    if not isinstance(answer, Totals):
        raise FrameUndecodable(f"{type(answer).__name__} is no answer to that")
    return answer


def _accounts_of(tables: "PostgresTables") -> Iterator[Account]:
    for one, load in tables.accounts():
        days = one.registered, one.seen
        yield Account(*one[:4], *load, *days, one.is_disabled, one.one_time_keys)


def _totals_of(tables: "PostgresTables") -> Totals:
    found, generation = tables.totals()
    # Unfinished uploads are in no table.
    return Totals(*found[:5], 0, 0, *found[5:8], generation, *found[8:])


def accounts_of_database(database: Database) -> Iterator[Account]:
    """All users."""
    loads = MailPages(database).loads()
    for row, client_id, name, proven, *others in database.execute(_USERS if database.is_current else _OLD_USERS):
        registered, seen, disabled, keys = others
        one_time_keys = None if keys is None or keys < 0 else keys
        load = loads.get(row, (0, 0))
        yield Account(row, client_id, name, bool(proven), *load, registered, seen, bool(disabled), one_time_keys)


def totals_of_database(database: Database, folder: Path) -> Totals | None:
    """None if no worker has opened the store yet."""
    facts = stored_identity(database)
    if facts is None:
        return None
    registered, authenticated = database.row(_COUNTS if database.is_current else _OLD_COUNTS)
    # In this order: what becomes a message meanwhile is counted as one thing or the other.
    unfinished = _unfinished(database, folder / BLOBS_NAME)
    count = accepted(database)
    return Totals(
        registered,
        authenticated,
        *MailPages(database).load(),
        *unfinished,
        count.messages,
        count.exact,
        database.unused_bytes(),
        facts.generation,
        facts.starts,
        *(database.row(TOTALS) if database.is_current else (0, 0)),
    )


def _unfinished(database: Database, blobs: Path) -> MailboxStats:
    """The large contents that belong to no message in the database: uploads in progress, or
    complete for less than two seconds.

    While the worker is stopped, they are leftovers that it deletes at its next start.
    """
    sizes = file_sizes(blobs) if blobs.exists() else {}
    for message in MailPages(database).in_blobs():
        sizes.pop(message.blob_id, None)
    return MailboxStats(len(sizes), sum(sizes.values()))


# --- how they are printed
# --------------------------------------------------------------------------------------------------


def show_accounts(accounts: Iterable[Account], source: str, say: Say, *, as_json: bool) -> None:
    """One line per user: registration number, the days of registration and of the last request,
    authenticated or not, disabled or not, one-time keys, waiting messages and their bytes, name.
    """
    if not as_json:
        say("   number  registered  last seen   authenticated  disabled  keys     waiting           bytes  name")
    for one in accounts:
        registered, seen = _date(one.registered), _date(one.seen)
        if as_json:
            line: dict[str, object] = {
                "type": "account",
                "told_by": source,
                "number": one.row,
                "id": one.client_id.hex(),
                "name": one.name,
                "authenticated": one.authenticated,
                "registered": registered,
                "last_seen": seen,
                "disabled": one.disabled,
                "waiting": one.messages,
                "bytes": one.content_bytes,
                "one_time_keys": one.one_time_keys,
            }
            say(json.dumps(line))
        else:
            marked, disabled = ("yes" if mark else "no" for mark in (one.authenticated, one.disabled))
            days = f"{registered or '-':<10}  {seen or '-':<10}"
            counts = f"{one.messages:>10}  {one.content_bytes:>14}"
            keys = "-" if one.one_time_keys is None else one.one_time_keys
            say(f"{one.row:>9}  {days}  {marked:<13}  {disabled:<8}  {keys:>4}  {counts}  {one.name}")


def _date(day: int | None) -> str | None:
    """A day since 1970, as an ISO date."""
    return None if day is None else (date(1970, 1, 1) + timedelta(day)).isoformat()


def show_totals(totals: Totals, source: str, say: Say, *, as_json: bool) -> None:
    """Print the totals as a few lines, or as one object."""
    if as_json:
        line: dict[str, object] = {
            "type": "stats",
            "told_by": source,
            "users": totals.users,
            "authenticated": totals.authenticated,
            "mailboxes": totals.mailboxes,
            "waiting": totals.messages,
            "bytes": totals.content_bytes,
            "uploads": totals.uploads,
            "upload_bytes": totals.upload_bytes,
            "accepted": totals.accepted,
            "accepted_exactly": totals.accepted_exactly,
            "room_inside": totals.unused_bytes,
            "generation": totals.generation,
            "starts": totals.starts,
            "with_keys": totals.with_keys,
            "one_time_keys": totals.one_time_keys,
        }
        say(json.dumps(line))
        return
    how = "" if totals.accepted_exactly else " at most: an earlier version did not count them"
    say(f"users               {totals.users} ({totals.authenticated} authenticated)")
    say(f"with keys           {totals.with_keys} users, {totals.one_time_keys} one-time keys")
    waiting = f"{totals.messages} in {totals.mailboxes} mailboxes, {totals.content_bytes} bytes of content"
    say(f"pending messages    {waiting}")
    say(f"unfinished uploads  {totals.uploads}, {totals.upload_bytes} bytes on the disk")
    say(f"accepted so far     {totals.accepted}{how}")
    say(f"room inside         {totals.unused_bytes} bytes")
    say(f"generation          {totals.generation}")
    say(f"starts              {totals.starts}")
