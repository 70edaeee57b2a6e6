"""The embedded store as one end of a move to another engine.

Owns: how its tables are read for that, and how a new data folder's are written. Promises: as
storage_worker.engine.paged.moving says. A source whose worker did not end in order is refused, for
its journal may have what the database lacks. A target has no `mail.db` until all of it is on disk,
and a folder with any file of a store is refused.
Exposure: the data folders.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from msgspec.structs import astuple

from common.values import ONE_TIME_KEY_SIZE
from storage_worker.engine.errors import StoreUnusable
from storage_worker.engine.paged.moving import Row, StoreFacts, in_parts
from storage_worker.engine.paged.page import NewPage
from storage_worker.engine.sqlite.blobs import Blobs, DiskBlobs
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import (
    BLOBS_NAME,
    DATABASE_NAME,
    GENERATION_NAME,
    JOURNAL_NAMES,
    LOCK_NAME,
    OWN_NAMES,
    folder_lock,
    sync_folder,
)
from storage_worker.engine.sqlite.journal import DiskJournal, Journal
from storage_worker.engine.sqlite.log_epochs import next_log_epoch
from storage_worker.engine.sqlite.mail_pages import PAGE_BYTES, MailPages
from storage_worker.engine.sqlite.send_tokens import ADD_PAGE, PageOfTokens, pages_of, read_all
from storage_worker.engine.sqlite.store_identity import (
    GenerationFile,
    StoreIdentity,
    accepted,
    has_copy_mark,
    look_at_journal,
    parse_identity,
    stored_identity,
)

UNFINISHED: Final = f"{DATABASE_NAME}.moving"
_PART: Final = 1024 * 1024
_READ: Final = {
    "account": "SELECT row, client_id, name, public_key, proven, deleted, registered, seen, disabled FROM user "
    "ORDER BY row",
    "deleted_account": "SELECT row, name, id_digest FROM deleted_user ORDER BY row",
    "name_look": "SELECT look, beyond_ascii, user FROM name_look ORDER BY 1, 2, 3",
    "block": "SELECT user, sender FROM block ORDER BY 1, 2",
    "published_key": "SELECT user, generation, digest, bundle, one_time FROM published_key ORDER BY user",
    "invitation": "SELECT digest, uses, expires_at FROM invitation ORDER BY digest",
    "slot": "SELECT slot, epoch, incarnation, earlier, number, outcomes, before FROM slot ORDER BY slot",
    "day": "SELECT day, sequence FROM day ORDER BY day",
    "running_time": "SELECT day, hours FROM running_time ORDER BY day",
}
_WRITE: Final = {
    "account": "INSERT INTO user (row, client_id, name, public_key, proven, deleted, registered, seen, disabled) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    # There never was a journal here that could have something of them.
    "deleted_account": "INSERT INTO deleted_user (row, name, id_digest, erased) VALUES (?, ?, ?, 1)",
    "name_look": "INSERT INTO name_look VALUES (?, ?, ?)",
    "block": "INSERT INTO block VALUES (?, ?)",
    "published_key": "INSERT INTO published_key VALUES (?, ?, ?, ?, ?)",
    "invitation": "INSERT INTO invitation VALUES (?, ?, ?)",
    "sent_token": ADD_PAGE,
    "slot": "INSERT INTO slot VALUES (?, ?, ?, ?, ?, ?, ?)",
    "day": "INSERT INTO day VALUES (?, ?)",
    "running_time": "INSERT INTO running_time VALUES (?, ?)",
}
_COUNT_KEYS: Final = (
    "UPDATE user SET keys = (SELECT CASE WHEN bundle IS NULL THEN -1 WHEN generation = ? "
    "THEN length(one_time) / ? ELSE 0 END FROM published_key WHERE published_key.user = user.row)"
)


class _SyncNow:
    """A `Syncer` that has nothing else to do."""

    def __init__(self, folder: DiskBlobs) -> None:
        self._folder = folder
        self._synced: dict[int, int] = {}

    def sync(self, blob_id: int, size: int) -> None:
        self._folder.sync(blob_id)
        self._synced[blob_id] = size

    def synced(self, blob_id: int) -> int:
        return self._synced.get(blob_id, -1)

    def forget(self, blob_id: int) -> None:
        self._synced.pop(blob_id, None)

    def close(self) -> None:
        """Nothing is left to do."""


def _blobs(folder: Path) -> Blobs:
    disk = DiskBlobs(folder / BLOBS_NAME)
    return Blobs(disk, _SyncNow(disk))


class SqliteSource:
    """The store in a data folder, locked until the `with` is left. Raises `StoreUnusable`,
    `StoreInUse` and `StoreFailed`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        if not (self._folder / DATABASE_NAME).exists():
            raise StoreUnusable(f"there is no store in {self._folder}")
        with ExitStack() as resources:
            resources.enter_context(folder_lock(self._folder))
            self._database = Database(self._folder / DATABASE_NAME, beside=True)
            resources.callback(self._database.close)
            self._refuse_unfinished()
            self._blobs = _blobs(self._folder)
            resources.callback(self._blobs.close)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _refuse_unfinished(self) -> None:
        first = "start the storage worker on it once, and end it with `messageu-admin drain` or SIGTERM"
        database, file = self._database, GenerationFile(self._folder / GENERATION_NAME)
        if not database.is_current:
            raise StoreUnusable(f"an earlier version made the store in {self._folder}: {first}")
        found, text = stored_identity(database), file.read()
        if found is None:
            raise StoreUnusable(f"the store in {self._folder} is empty")
        if has_copy_mark(database):
            raise StoreUnusable(f"{self._folder} is a backup's copy on which no worker was started: {first}")
        if look_at_journal(database, self._folder, file) or not self._ended_in_order(text, found):
            raise StoreUnusable(f"the last storage worker on {self._folder} did not end in order: {first}")

    def _ended_in_order(self, text: str | None, found: StoreIdentity) -> bool:
        journals = [(self._folder / name).exists() for name in JOURNAL_NAMES]
        if text is None:
            # No worker was started since it was moved.
            return not any(journals)
        try:
            return parse_identity(text) == found and all(journals) and not self._journal_holds_something()
        except ValueError:
            return False

    def _journal_holds_something(self) -> bool:
        journal = Journal([DiskJournal(self._folder / name, 0) for name in JOURNAL_NAMES], 0)
        try:
            with self._database.reading():
                return any(True for _ in journal.replay(self._database.row("SELECT era FROM store")[0]))
        finally:
            journal.close()

    def facts(self) -> StoreFacts:
        """What it is."""
        found = stored_identity(self._database)
        assert found is not None, "it was looked at"
        with self._database.reading():
            count = accepted(self._database)
            blob_id: int = self._database.row("SELECT body FROM store")[0]
        return StoreFacts(*found[:4], blob_id, *count)

    def rows(self, table: str) -> Iterator[Row]:
        """A table, in the order of its key."""
        with self._database.reading():
            if table == "sent_token":
                yield from map(astuple, read_all(self._database))
                return
            for row in self._database.execute(_READ[table]):
                yield _with_truth(table, row)

    def pages(self) -> Iterator[NewPage]:
        """All mail, by mailbox and in its order. Raises `StoreDamaged`."""
        pages = MailPages(self._database)
        with self._database.reading():
            everything = sorted(pages.pages_of_all(), key=lambda one: (one[0], one[1].first))
            for recipient, page in everything:
                yield NewPage(recipient, *page[1:], pages.entries(recipient, page))

    def content(self, blob_id: int, size: int) -> Iterator[bytes]:
        """A large content of `size` bytes. Raises `StoreDamaged`."""
        return in_parts(lambda at, length: self._blobs.read(blob_id, at, length, size), size, _PART)


def _with_truth(table: str, row: Row) -> Row:
    """SQLite has numbers for truth values."""
    if table == "account":
        return (*row[:4], bool(row[4]), bool(row[5]), *row[6:8], bool(row[8]))
    if table == "name_look":
        return (row[0], bool(row[1]), row[2])
    return row


class SqliteTarget:
    """A new store in a data folder, which is made where it is not there. Raises `StoreUnusable`
    where the folder has files of a store, `StoreInUse`, `StoreFull` and `StoreFailed`.
    """

    page_bytes = PAGE_BYTES

    def __init__(self, folder: Path, random_bytes: Callable[[int], bytes]) -> None:
        self._folder = folder
        self._random_bytes = random_bytes
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            there = [name for name in (*OWN_NAMES, UNFINISHED) if (self._folder / name).exists() and name != LOCK_NAME]
        except OSError as error:
            raise StoreUnusable(f"{self._folder} can't be used: {error.strerror}") from error
        if there:
            raise StoreUnusable(
                f"{self._folder} has {there[0]} already: a store, or what is left of a move that broke off. Name an "
                "empty folder"
            )
        with ExitStack() as resources:
            resources.enter_context(folder_lock(self._folder))
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def begin(self, facts: StoreFacts) -> None:
        """Make it, empty."""
        # In this order: with contents beside it a start misses `mail.db`, and says so.
        self._blobs = _blobs(self._folder)
        self._resources.callback(self._blobs.close)
        self._database = Database(self._folder / UNFINISHED)
        self._resources.callback(self._database.abandon)
        self._pages = MailPages(self._database)
        self._token_pages = 0
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO store VALUES (1, ?, ?, ?, ?, ?, ?, 0)",
                (*facts[:5], next_log_epoch(b"", self._random_bytes)),
            )

    def write_rows(self, table: str, rows: Sequence[Row]) -> None:
        """Some rows of a table."""
        with self._database.transaction(synced=False):
            self._database.execute_many(_WRITE[table], self._pages_of_tokens(rows) if table == "sent_token" else rows)

    def _pages_of_tokens(self, rows: Sequence[Row]) -> list[PageOfTokens]:
        """Their order is that of their keys; sequences of several parts are in none, and may
        repeat.
        """
        pages = [(key, *page[1:]) for key, page in enumerate(pages_of(rows), self._token_pages + 1)]
        self._token_pages += len(pages)
        return pages

    def write_pages(self, pages: Sequence[NewPage]) -> None:
        """Some mail."""
        with self._database.transaction(synced=False):
            self._pages.insert(pages)
        if self._database.checkpoint_due:
            self._database.checkpoint()

    def write_content(self, recipient: int, blob_id: int, parts: Iterable[bytes]) -> None:
        """A large content."""
        for part in parts:
            self._blobs.append(blob_id, part)
        while self._blobs.finish(blob_id):
            pass

    def finish(self, facts: StoreFacts) -> None:
        """All of it came: from now on it can be served."""
        with self._database.transaction():
            self._database.execute(_COUNT_KEYS, (facts.generation, ONE_TIME_KEY_SIZE))
            self._database.execute(
                "INSERT OR REPLACE INTO tally VALUES (1, ?, ?, ?)",
                (facts.accepted, facts.sequence, int(facts.accepted_exactly)),
            )
        self._database.close()
        unfinished = self._folder / UNFINISHED
        try:
            for left in (f"{UNFINISHED}-wal", f"{UNFINISHED}-shm"):
                (self._folder / left).unlink(missing_ok=True)
            unfinished.rename(self._folder / DATABASE_NAME)
        except OSError as error:
            raise StoreUnusable(f"{unfinished} can't be renamed: {error.strerror}") from error
        sync_folder(self._folder)
