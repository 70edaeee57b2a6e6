"""What identifies this store: its server id, its generation, and how a restored database is
noticed.

Owns: the table `store`'s facts and the file `store.generation` beside the database.
Promises: the generation grows when the database was recreated, or when an older copy of it was put
back while the file stayed and had noted something newer. Where that can't be seen, because the
worker was killed soon after the copy was made, no sequence is given a second time all the same: the
file has what is reserved ahead of the database. A copy of the whole folder can't be told from the
original: `scripts/admin new-generation` is for that.
Exposure: the data folder.

What the file tells of the database is behind it or equal to it, never ahead, unless the database
was replaced: the database is on disk first. It holds, one per line: CRC-32 (hex) of the lines
behind it, server id (hex), generation, starts, highest sequence, and the sequence up to which all
may be given before the file is written again. Versions before 5 wrote no CRC-32.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from zlib_ng.zlib_ng import crc32

from storage_worker.engine.errors import JournalDamaged, StoreFull, StoreUnusable
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES, failed, sync_folder, unwritten
from storage_worker.engine.sqlite.journal import Journal
from storage_worker.engine.sqlite.log_epochs import is_later, marked_log_epochs, next_log_epoch

RESERVED_AHEAD: Final = 100_000
_CHECKSUM_DIGITS: Final = 8
_ID_DIGITS: Final = 32
log = logging.getLogger("storage_worker")


class StoreIdentity(NamedTuple):
    """`server_id`: 16 bytes. `starts`: how often the store was opened. `sequence`: the highest ever
    given.

    `reserved`: no higher one is given before that is on disk.
    """

    server_id: bytes
    generation: int
    starts: int
    sequence: int
    reserved: int

    def to_text(self) -> str:
        """The file's content."""
        lines = f"{self.server_id.hex()}\n{self.generation}\n{self.starts}\n{self.sequence}\n{self.reserved}\n"
        return f"{crc32(lines.encode('ascii')):08x}\n{lines}"


def parse_identity(text: str) -> StoreIdentity:
    """The pair of `StoreIdentity.to_text`. Raises `ValueError`."""
    first, _, lines = text.partition("\n")
    if len(first) == _CHECKSUM_DIGITS:
        if int(first, 16) != crc32(lines.encode("ascii", "replace")):
            raise ValueError("it is not as it was written")
        text = lines
    server_id, *numbers = text.splitlines()
    if len(server_id) != _ID_DIGITS:
        raise ValueError("it does not begin with the server's id")
    generation, starts, sequence, reserved = [int(number) for number in numbers]
    return StoreIdentity(bytes.fromhex(server_id), generation, starts, sequence, reserved)


class StoreIdentityFile(Protocol):
    """The port to the file beside the database; tests put a disk that forgets behind it."""

    def read(self) -> str | None:
        """The content, or None where there is no file."""

    def write(self, text: str) -> None:
        """Replace the content: the old one or the new one is there afterwards, whatever happens."""


class GenerationFile:
    """`store.generation`. Raises `StoreFailed`, and `StoreFull` where there is no room."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        """The content, or None where there is no file."""
        try:
            return self._path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failed(error, f"{self._path} can't be read") from error

    def write(self, text: str) -> None:
        """Replace the content by way of a new file."""
        beside = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                if os.write(descriptor, text.encode("ascii")) < len(text):
                    raise OSError(errno.ENOSPC, "short write")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            beside.replace(self._path)
        except OSError as error:
            raise unwritten(error, self._path) from error
        sync_folder(self._path.parent)


def stored_identity(database: Database) -> StoreIdentity | None:
    """What the database says of itself; None where it is new. Raises `StoreDamaged`,
    `StoreFailed`.
    """
    with database.reading():
        found = database.find("SELECT server_id, generation, starts, sequence FROM store")
    if found is None:
        return None
    server_id, generation, starts, sequence = found
    return StoreIdentity(server_id, generation, starts, sequence, reserved=sequence)


def open_store(
    database: Database,
    file: StoreIdentityFile,
    now_ms: int,
    random_bytes: Callable[[int], bytes],
    *,
    is_old: bool = False,
) -> StoreIdentity:
    """Count this start, and see whether the database is the one that was here before.

    `is_old`: the journal knows that it is not. Raises `StoreFull` and `StoreFailed`.
    """
    noted = _noted_facts(file)
    found = stored_identity(database)
    copied_at = database.find("SELECT made_at FROM copy") if has_copy_mark(database) else None
    before = found or StoreIdentity(random_bytes(16), now_ms, 0, 0, 0)
    generation, starts, sequence = before.generation, before.starts, before.sequence
    if is_old or (
        noted is not None
        and (noted.server_id != before.server_id or noted.starts > starts or noted.sequence > before.sequence)
    ):
        generation = max(now_ms, generation + 1, 0 if noted is None else noted.generation + 1)
        log.error(
            "mail.db is not as new as the files beside it: it was recreated or restored, or mail.db-wal is damaged or "
            "missing. What was acknowledged since may be lost, and senders learn that: generation %d",
            generation,
        )
    elif copied_at is not None:
        generation = max(now_ms, generation + 1)
        log.warning(
            "this is a copy of %s: a backup was restored. What was acknowledged since may be lost, and senders are "
            "told so: generation %d",
            datetime.fromtimestamp(copied_at[0] / 1000, UTC).isoformat(timespec="seconds"),
            generation,
        )
    if noted is not None:
        starts = max(starts, noted.starts)
        # After an orderly end nothing is reserved; after any other, whatever was given to somebody
        # is below this.
        sequence = max(sequence, noted.reserved)
    facts = before._replace(generation=generation, starts=starts + 1, sequence=sequence, reserved=sequence)
    with database.transaction():
        _open_tally(database, before.sequence, sequence)
        if found is None:
            database.execute(
                "INSERT INTO store VALUES (1, ?, ?, ?, ?, 0, ?, 0)", (*facts[:4], next_log_epoch(b"", random_bytes))
            )
        else:
            database.execute("UPDATE store SET generation = ?, starts = ?, sequence = ?", facts[1:4])
        # In the same stroke: a start that is killed before begins the generation again.
        database.execute("DROP TABLE IF EXISTS copy")
        if generation != before.generation:
            _forget_counts(database)
    _note(file, facts)
    return facts


def has_copy_mark(database: Database) -> bool:
    """Whether the database is a backup's copy on which no worker was started yet."""
    with database.reading():
        return database.find("SELECT 1 FROM sqlite_schema WHERE name = 'copy'") is not None


def mark_as_copy(database: Database, now_ms: int) -> None:
    """Of a copy: its next start begins a new generation, and expects no journal beside it. Raises
    `StoreFailed` and `StoreFull`.
    """
    with database.transaction():
        database.execute("CREATE TABLE copy (made_at INTEGER NOT NULL) STRICT")
        database.execute("INSERT INTO copy VALUES (?)", (now_ms,))
        database.execute("UPDATE store SET journal = 0")


def _open_tally(database: Database, sequence: int, next_sequence: int) -> None:
    """Go on counting accepted messages although the sequence jumps from one to the other: nothing
    was accepted there.

    Where others counted nothing meanwhile, every sequence that was given counts, which is the most
    that it can be.
    """
    found = database.find("SELECT accepted, counted_to, exact FROM tally")
    accepted, counted_to, exact = found or (0, 0, 1)
    if counted_to != sequence:
        accepted, exact = accepted + max(0, sequence - counted_to), 0
    database.execute("INSERT OR REPLACE INTO tally VALUES (1, ?, ?, ?)", (accepted, next_sequence, exact))


class Accepted(NamedTuple):
    """How many messages were accepted so far; where it is not `exact`, it is at most so many."""

    messages: int
    exact: bool


def accepted(database: Database) -> Accepted:
    """What the database knows of it. What is in the journal alone is not counted."""
    found = database.find("SELECT accepted, exact FROM tally") if database.has_tally else None
    if found is None:
        # An earlier version gave sequences, and left some out after each kill.
        return Accepted(_open_facts(database).sequence, exact=False)
    return Accepted(found[0], bool(found[1]))


def look_at_journal(database: Database, folder: Path, file: StoreIdentityFile) -> bool:
    """Before the journal is opened: whether it has seen a later log epoch than the database knows.

    Raises `StoreUnusable` where one of its files is lost, cut or zeros that had what was
    acknowledged last: after an orderly end nothing is reserved and the journal holds nothing.
    """
    noted = _noted_facts(file)
    ended_orderly = noted is not None and noted.reserved <= noted.sequence
    with database.reading():
        found = database.find("SELECT era, journal FROM store")
    log_epoch, length = found or (b"", 0)
    try:
        log_epochs = marked_log_epochs(folder, length) if length else []
    except JournalDamaged:
        if not ended_orderly:
            raise
        return False
    if noted is not None and not length and not ended_orderly:
        _refuse_missing(folder)
    return any(is_later(one, log_epoch) for one in log_epochs)


def _refuse_missing(folder: Path) -> None:
    try:
        lost = [path for name in JOURNAL_NAMES if not (path := folder / name).exists() or not path.stat().st_size]
    except OSError as error:
        raise failed(error, f"{folder} can't be read") from error
    if lost:
        raise StoreUnusable(
            f"{lost[0]} is missing or empty, and the server was not shut down cleanly: what it acknowledged last may "
            "have been in it. Put it back, or the whole data folder from a backup; or let `scripts/admin "
            "recover-journal` continue without it"
        )


def marked_length(database: Database) -> int:
    """Bytes of each of the journal's files, which have a mark at their end; 0 where they
    have none.
    """
    with database.reading():
        found = database.find("SELECT journal FROM store")
    return 0 if found is None else int(found[0])


def note_marks(database: Database, journal: Journal, length: int) -> None:
    """After a start: mark the journal's files, of `length` bytes. The journal holds nothing that
    the database lacks.

    Raises `StoreFailed`.
    """
    with contextlib.suppress(StoreFull):
        if length and journal.mark_all() and marked_length(database) != length:
            with database.transaction():
                database.execute("UPDATE store SET journal = ?", (length,))


def record_progress(database: Database, file: StoreIdentityFile) -> None:
    """Bring the file up to the database, so that a copy made before can be told from it.
    Raises `StoreFailed`.
    """
    try:
        facts = _lasting_facts(database)
        noted = _noted_facts(file)
    except StoreFull:
        # It stays behind, which is always right, until the next time.
        return
    _note(file, facts._replace(reserved=max(facts.sequence, noted.reserved if noted is not None else 0)))


def record_clean_shutdown(database: Database, file: StoreIdentityFile) -> None:
    """An orderly end: nothing beyond the highest sequence was given. Raises `StoreFailed`."""
    with contextlib.suppress(StoreFull):
        file.write(_lasting_facts(database).to_text())


class SequenceReservation:
    """The sequences that may be given."""

    def __init__(self, database: Database, file: StoreIdentityFile) -> None:
        self._database = database
        self._file = file
        self._reserved = _open_facts(database).sequence

    def ensure(self, sequence: int) -> None:
        """Outside of a transaction: see to it that sequences up to this one may be given.

        Raises `StoreFailed`, and `StoreFull`, after which they may not.
        """
        if sequence > self._reserved:
            reserved = sequence + RESERVED_AHEAD
            self._file.write(_lasting_facts(self._database)._replace(reserved=reserved).to_text())
            self._reserved = reserved


def _open_facts(database: Database) -> StoreIdentity:
    facts = stored_identity(database)
    assert facts is not None, "the store was opened"
    return facts


def _lasting_facts(database: Database) -> StoreIdentity:
    """The facts, which are on disk."""
    database.make_lasting()
    return _open_facts(database)


def new_generation(database: Database, file: StoreIdentityFile, now_ms: int) -> int:
    """An operator says that the store was restored: the next generation, on disk."""
    facts = _open_facts(database)
    generation = max(now_ms, facts.generation + 1)
    with database.transaction():
        database.execute("UPDATE store SET generation = ?", (generation,))
        _forget_counts(database)
    record_progress(database, file)
    return generation


def _forget_counts(database: Database) -> None:
    """Inside a transaction: the generation is another one, in which no one-time key is given
    out.
    """
    # An operator's command may come before a worker has brought the store over.
    if database.is_current:
        database.execute("UPDATE user SET keys = 0 WHERE keys > 0")


def _note(file: StoreIdentityFile, facts: StoreIdentity) -> None:
    # Where there is no room the file stays behind the database, which is always right.
    with contextlib.suppress(StoreFull):
        file.write(facts.to_text())


def _noted_facts(file: StoreIdentityFile) -> StoreIdentity | None:
    text = file.read()
    if text is None:
        return None
    try:
        return parse_identity(text)
    except ValueError:
        log.error("store.generation was damaged and is rewritten: it no longer shows whether mail.db was restored")
        return None
