"""A storage worker without its socket: a batch processor over a real database.

`SqliteWorker` is opened on a folder and can be closed and opened again (a restart) or left as it is
(a kill). Its slots greet and number their batches like a gateway would; a test may also hand in any
message.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from common.storage_protocol.administration import AdminAnswer, AdminRequest, encode_request
from common.storage_protocol.frames import Batch, Hello, MailArrived, Reply, ToGateway, ToWorker, Welcome
from common.storage_protocol.message_format import ENTRY_HEAD, FLAG_AUTHENTICATED, walk
from common.storage_protocol.operations import (
    Mail,
    Operation,
    Outcome,
    Refused,
    Register,
    Registered,
    Stored,
    StoreMessage,
)
from common.values import RefusalReason
from storage_worker.engine.errors import StorageError
from storage_worker.engine.interface import Engine
from storage_worker.engine.memory import Disk, MemoryEngine
from storage_worker.engine.sqlite.blobs import BlobFolder, Blobs, DiskBlobs
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.disk_space import DiskSpaceMonitor
from storage_worker.engine.sqlite.engine import SqliteEngine
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES
from storage_worker.engine.sqlite.journal import DiskJournal, Journal, JournalFile
from storage_worker.engine.sqlite.online_backup import OnlineBackup
from storage_worker.engine.sqlite.store_identity import (
    GenerationFile,
    StoreIdentityFile,
    open_store,
)
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.admission import Limits
from storage_worker.rules.rules import Rules
from storage_worker.server.administration import Administration
from storage_worker.server.batch_processor import BatchProcessor, Inbound, Outbound

if TYPE_CHECKING:
    from storage_worker.engine.postgres.database import Database as PostgresDatabase
    from storage_worker.engine.postgres.flusher import Flusher, Write

KEY = bytes(range(160))
OPEN = AccountSettings()
TO_VERSION_13 = "DROP TABLE moved;"
"""SQL: a store's tables as schema version 13 had them."""
TO_VERSION_12 = f"""
{TO_VERSION_13}
DROP TABLE token_page;
CREATE TABLE sent_token (
    sequence INTEGER PRIMARY KEY, sender INTEGER NOT NULL, token BLOB NOT NULL, recipient INTEGER NOT NULL,
    kind INTEGER NOT NULL, digest BLOB NOT NULL, accepted_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX token_of_sender ON sent_token (sender, token);
CREATE INDEX newest_of_sender ON sent_token (sender, sequence);
"""
"""The same of version 12, but for its tokens."""
TO_VERSION_11 = f"{TO_VERSION_12} ALTER TABLE user DROP COLUMN keys; DROP TABLE published_key;"
"""The same of version 11."""
TO_VERSION_10 = f"{TO_VERSION_11} DROP TABLE running_time;"
"""The same of version 10."""
TO_VERSION_9 = f"{TO_VERSION_10} DROP TABLE block;"
"""The same of version 9."""
TO_VERSION_8 = TO_VERSION_9 + "".join(
    f" ALTER TABLE user DROP COLUMN {name};" for name in ("registered", "seen", "disabled")
)
"""The same of version 8."""
TO_VERSION_7 = f"{TO_VERSION_8} DROP TABLE day;"
"""The same of version 7."""
TO_VERSION_6 = f"{TO_VERSION_7} ALTER TABLE user DROP COLUMN deleted; DROP TABLE deleted_user; DROP TABLE invitation;"
"""The same of version 6."""
TO_VERSION_5 = f"{TO_VERSION_6} DROP TABLE name_look;"
"""The same of version 5."""

Kind = TypeVar("Kind", bound=ToGateway)


def counted_bytes(start: int = 0) -> Callable[[int], bytes]:
    """Random bytes that are none: 16 bytes at a time, every 16 of them new."""
    numbers = count(start)

    def take(size: int) -> bytes:
        taken = b"".join(b"\x5a" + next(numbers).to_bytes(10, "big") + bytes(5) for _ in range(-(-size // 16)))
        return taken[:size]

    return take


class CheckpointAtOnce:
    """Makes checkpoints where they are begun."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.told: bool | StorageError | None = None
        """What `outcome` will say."""

    @property
    def running(self) -> bool:
        return self.told is not None

    def begin(self) -> None:
        try:
            self.told = self._database.checkpoint()
        except StorageError as error:
            self.told = error

    def outcome(self) -> bool | None:
        outcome, self.told = self.told, None
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome

    def close(self) -> None:
        pass


class NoUpkeep:
    """Leaves checkpoints to the test; what it sets as `after_turn` is called in their place."""

    def __init__(self) -> None:
        self.has_waiting = False
        self.after_turn: Callable[[], object] = bool

    def work(self, now_ms: int) -> None:
        self.after_turn()

    def close(self, now_ms: int) -> None:
        pass


class WorkerUnderTest(ABC):
    """Rules and batch processor over an engine, in one life. `now_ms` is the clock."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits | None,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
        accounts: AccountSettings,
    ) -> None:
        self.now_ms = now_ms
        self.random_bytes = random_bytes
        self.users = engine.users
        self.rules = Rules(engine, limits or Limits(), random_bytes, accounts)
        self.incarnation = random_bytes(16)
        self.processor = BatchProcessor(engine, self.rules, self.incarnation)
        self.administration = Administration(engine, self.rules)

    def handle(self, *messages: ToWorker, peer: bytes = b"peer") -> list[ToGateway]:
        """What is answered to messages of one gateway that come together."""
        return [answer.message for answer in self.answers([Inbound(peer, message) for message in messages])]

    def answers(self, messages: Sequence[Inbound]) -> list[Outbound]:
        """The same with many gateways."""
        answers = self.processor.handle(messages, self.now_ms)
        self.processor.maintain(self.now_ms)
        return answers

    def administer(self, request: AdminRequest) -> AdminAnswer:
        """What is answered to a request of `scripts/admin`."""
        return self.administration.answer(encode_request(1, request), self.now_ms)

    @abstractmethod
    def close(self) -> None:
        """An orderly end."""

    @abstractmethod
    def kill(self) -> None:
        """The process is gone: nothing is written any more."""

    @abstractmethod
    def limit_room(self, pages: int | None) -> None:
        """Let the store grow by so many pages of 16 KiB at most, or as it likes."""

    @abstractmethod
    def admit(self, *, mail: bool) -> None:
        """Have room for mail, or none."""


class MemoryWorker(WorkerUnderTest):
    """One over the engine in memory."""

    def __init__(
        self,
        disk: Disk,
        *,
        limits: Limits | None = None,
        seed: int = 0,
        now_ms: int = 1_000_000,
        accounts: AccountSettings = OPEN,
    ) -> None:
        random_bytes = counted_bytes(seed)
        self.disk = disk
        self.engine = MemoryEngine(disk, random_bytes)
        super().__init__(self.engine, limits, random_bytes, now_ms, accounts)

    def close(self) -> None:
        """An orderly end."""
        self.engine.close(self.now_ms)

    def kill(self) -> None:
        """Nothing is left to write."""

    def limit_room(self, pages: int | None) -> None:
        """For the next turns."""
        self.disk.room = 2**62 if pages is None else pages * 16384

    def admit(self, *, mail: bool) -> None:
        """For the next turns."""
        self.disk.takes_mail = mail


class SqliteWorker(WorkerUnderTest):
    """One worker's life on `folder`. `free_bytes` may be changed at any time; `now_ms` is
    the clock.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: Limits | None = None,
        min_free_bytes: int = 0,
        size_limit: int | None = None,
        vfs: str | None = None,
        synchronous: str = "FULL",
        file: StoreIdentityFile | None = None,
        journal_files: Sequence[JournalFile] = (),
        journal_bytes: int = 1024 * 1024,
        blob_folder: BlobFolder | None = None,
        seed: int = 0,
        now_ms: int = 1_000_000,
        accounts: AccountSettings = OPEN,
    ) -> None:
        self._closed = False
        self.folder = folder
        self.free_bytes = 2**40
        random_bytes = counted_bytes(seed)
        self.file = file or GenerationFile(folder / "store.generation")
        self.database = Database(folder / "mail.db", vfs=vfs, size_limit=size_limit, synchronous=synchronous)
        self.facts = open_store(self.database, self.file, now_ms, random_bytes)
        self.journal = Journal(
            journal_files or [DiskJournal(folder / name, journal_bytes) for name in JOURNAL_NAMES],
            journal_bytes,
            syncs=synchronous == "FULL",
        )
        self.blob_folder = blob_folder or DiskBlobs(folder / "bodies")
        self.syncer = SyncAtOnce(self.blob_folder)
        self.blobs = Blobs(self.blob_folder, self.syncer)
        self.room = DiskSpaceMonitor(
            min_free_bytes,
            lambda: self.free_bytes,
            self.database.unused_bytes,
            self.database.take_ballast,
            lambda: self.database.checkpoint(truncate=True),
        )
        self.upkeep = NoUpkeep()
        self.engine = SqliteEngine(
            self.database,
            self.journal,
            self.blobs,
            self.file,
            self.facts,
            self.room,
            self.upkeep,
            OnlineBackup(folder, self.database, self.blobs, min_free_bytes, lambda _: self.free_bytes, time.monotonic),
            random_bytes,
            now_ms,
        )
        super().__init__(self.engine, limits, random_bytes, now_ms, accounts)

    def flush(self) -> None:
        """Let the database take in what the journal holds."""
        self.engine.log.flush(self.now_ms)

    def close(self) -> None:
        """An orderly end."""
        self.engine.close(self.now_ms)
        self._let_go()

    def limit_room(self, pages: int | None) -> None:
        """SQLite's own limit."""
        most = 1073741823 if pages is None else self.database.row("PRAGMA page_count")[0] + pages
        list(self.database.execute(f"PRAGMA max_page_count = {most}"))

    def admit(self, *, mail: bool) -> None:
        """By the room of the disk."""
        self.free_bytes = 2**40 if mail else 0

    def kill(self) -> None:
        """The process is gone: nothing is written any more."""
        self.database.abandon()
        self._let_go()

    def _let_go(self) -> None:
        if not self._closed:
            self._closed = True
            self.blobs.close()
            self.journal.close()


class FlushAtOnce:
    """A `Flusher` without a thread. A flush is done when it was asked for so often whether it is,
    as `patience` says; who waits for it does not wait. `problem`: why it will fail.
    """

    def __init__(self, database: "PostgresDatabase", patience: int = 0) -> None:
        self._database = database
        self._patience = patience
        self._asked = 0
        self._is_open = False
        self.problem: StorageError | None = None
        self.running = False

    def begin(self, write: "Write") -> None:
        from storage_worker.engine.postgres.flusher import write_in_transaction

        assert not self.running
        self.running = True
        self._asked = 0
        try:
            write_in_transaction(self._database, write)
            self._is_open = True
        except StorageError as error:
            self.problem = error

    def is_done(self, *, wait: bool) -> bool:
        self._asked += 1
        if not wait and self._asked <= self._patience:
            return False
        problem, self.problem = self.problem, None
        if problem is not None:
            self.running = False
            if self._is_open:
                self._database.roll_back()
            raise problem
        return True

    def commit(self) -> None:
        self.running = self._is_open = False
        self._database.commit()

    def close(self) -> None:
        self._database.close()


class PostgresWorker(WorkerUnderTest):
    """One worker's life on a shard of a database, which it makes where it is not there.

    `patience`: see `FlushAtOnce`; None: flushes have a thread, as in the program.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: int | None = 0,
        limits: Limits | None = None,
        seed: int = 0,
        now_ms: int = 1_000_000,
        accounts: AccountSettings = OPEN,
        shard: tuple[int, int] = (0, 1),
        directory_url: str | None = None,
    ) -> None:
        # Of an extra, which a checkout may lack that has not been set up anew.
        from storage_worker.engine.postgres.connection import Connection
        from storage_worker.engine.postgres.flusher import FlushThread
        from storage_worker.engine.postgres.opening import open_engine
        from storage_worker.engine.postgres.schema import Place, create, has_store

        random_bytes = counted_bytes(seed)
        place = Place(*shard)
        self.beside = Connection(url, place.schema)
        """A connection of the test's own."""
        if not has_store(self.beside, place):
            create(self.beside, place, bytes(16) if place.shards > 1 else random_bytes(16), now_ms)

        def made(database: "PostgresDatabase") -> "Flusher":
            if patience is None:
                return FlushThread(database)
            self.flusher = FlushAtOnce(database, patience)
            return self.flusher

        self.engine = open_engine(url, place, random_bytes, now_ms, directory_url, flusher_over=made)
        super().__init__(self.engine, limits, random_bytes, now_ms, accounts)

    def close(self) -> None:
        """An orderly end."""
        self.engine.close(self.now_ms)
        self.beside.close()

    def kill(self) -> None:
        """The process is gone: nothing is written any more."""
        self.engine.abandon()
        self.beside.close()

    def limit_room(self, pages: int | None) -> None:
        """The server's own error, where a turn is larger."""
        # A transaction that is open has the tables.
        self.engine.log.settle(wait=True)
        self.beside.run_script("DROP TRIGGER IF EXISTS no_room ON journal")
        if pages is not None:
            self.beside.run_script(
                "CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;"
                f"CREATE TRIGGER no_room BEFORE INSERT ON journal FOR EACH ROW WHEN (octet_length(NEW.records) > "
                f"{pages * 16384 + 4096}) EXECUTE FUNCTION no_room()"
            )

    def admit(self, *, mail: bool) -> None:
        """As after a turn for which the server had no room."""
        if not mail:
            self.engine.found_full(self.now_ms)


class Piece(NamedTuple):
    """A message of a page, or a part of one: `content` are its bytes from `offset` on."""

    sequence: int
    sender: bytes
    token: bytes
    accepted_at: int
    authenticated: bool
    kind: int
    size: int
    offset: int
    content: bytes


def pieces(mail: Mail) -> list[Piece]:
    """What a page brings, taken apart."""
    found = [
        Piece(
            e.sequence,
            e.sender,
            e.token,
            e.accepted_at,
            bool(e.flags & FLAG_AUTHENTICATED),
            e.kind,
            e.size,
            0,
            e.content,
        )
        for e in walk(mail.entries)
    ]
    assert mail.last == (found[-1].sequence if found else 0)
    if mail.part is not None:
        head = ENTRY_HEAD.unpack(mail.part.head)
        sender, token, sequence, accepted_at, flags, kind, size = head
        assert (sequence, size) == (mail.part.sequence, mail.part.size)
        authenticated = bool(flags & FLAG_AUTHENTICATED)
        offset, content = mail.part.offset, mail.part.content
        found.append(Piece(sequence, sender, token, accepted_at, authenticated, kind, size, offset, content))
    return found


class SyncAtOnce:
    """A `Syncer` without a thread: a file is on disk when it was asked for."""

    def __init__(self, folder: BlobFolder) -> None:
        self._folder = folder
        self._synced: dict[int, int] = {}

    def sync(self, blob_id: int, size: int) -> None:
        """Now."""
        self._folder.sync(blob_id)
        self._synced[blob_id] = size

    def synced(self, blob_id: int) -> int:
        """All that was asked for."""
        return self._synced.get(blob_id, -1)

    def forget(self, blob_id: int) -> None:
        """It is of no interest any more."""
        self._synced.pop(blob_id, None)

    def close(self) -> None:
        """Nothing is left to do."""


class Gateway:
    """A well-behaved gateway on a slot of a worker. `arrived` collects `MailArrived`."""

    def __init__(
        self, worker: WorkerUnderTest, slot: int = 0, peer: bytes = b"peer", incarnation: bytes | None = None
    ) -> None:
        self.worker = worker
        self.slot = slot
        self.peer = peer
        self.number = 0
        self.leases = count(1)
        self.arrived: list[MailArrived] = []
        self.last_batch: Batch | None = None
        self.incarnation = incarnation or worker.random_bytes(16)
        [self.welcome] = worker.handle(Hello(slot, self.incarnation), peer=peer)
        assert isinstance(self.welcome, Welcome)
        self.epoch = self.welcome.epoch

    def next_batch(self, *operations: Operation) -> Batch:
        """A batch under the next number, not sent."""
        self.number += 1
        self.last_batch = Batch(self.slot, self.epoch, self.number, list(operations))
        return self.last_batch

    def send(self, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch."""
        answer, *arrived = self.worker.handle(batch, peer=self.peer)
        for notice in arrived:
            assert isinstance(notice, MailArrived)
            self.arrived.append(notice)
        assert isinstance(answer, Reply), answer
        assert (answer.slot, answer.epoch, answer.number) == (batch.slot, batch.epoch, batch.number)
        assert answer.worker_incarnation == self.worker.incarnation
        return answer.outcomes

    def ask(self, *operations: Operation) -> list[Outcome]:
        """The outcomes of operations in a batch of their own."""
        return self.send(self.next_batch(*operations))

    def one(self, operation: Operation) -> Outcome:
        """The outcome of one operation."""
        [outcome] = self.ask(operation)
        return outcome

    def resend(self) -> list[Outcome]:
        """The outcomes of the last batch, once more."""
        assert self.last_batch is not None
        return self.send(self.last_batch)

    def refused(self, operation: Operation) -> RefusalReason:
        """Why an operation is refused."""
        outcome = self.one(operation)
        assert isinstance(outcome, Refused), outcome
        return RefusalReason(outcome.reason)

    def register(self, *names: str) -> Iterator[bytes]:
        """Users; their ids."""
        for outcome in self.ask(*[Register(name, KEY) for name in names]):
            assert isinstance(outcome, Registered)
            yield outcome.client_id

    def store(self, sender: bytes, recipient: bytes, *contents: bytes, authenticated: bool = False) -> list[int]:
        """Messages; their sequences."""
        outcomes = self.ask(*[StoreMessage(sender, authenticated, recipient, 3, content) for content in contents])
        sequences = []
        for outcome in outcomes:
            assert isinstance(outcome, Stored), outcome
            sequences.append(outcome.sequence)
        return sequences


def the_one(kind: type[Kind], answers: Sequence[ToGateway]) -> Kind:
    """The one answer, which is of this kind: as tuples a refusal and the wish for a
    greeting may be equal.
    """
    [answer] = answers
    assert isinstance(answer, kind), answer
    return answer
