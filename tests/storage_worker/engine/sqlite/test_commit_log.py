"""What is true is the database, then the journal: at every moment, and after every end."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from common.storage_protocol.frames import Batch, GreetAgain, Hello, Reply
from common.storage_protocol.message_format import pack_frame_once
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    MarkAuthenticated,
    MessagesStored,
    Operation,
    Outcome,
    Page,
    PullPage,
    Register,
    Release,
    SetBlock,
    Settle,
    Stored,
    StoreMessage,
    StoreMessagesOnce,
)
from storage_worker.engine.errors import StoreFull
from storage_worker.engine.sqlite import commit_log
from storage_worker.engine.sqlite.commit_log import FLUSH_AFTER_MS, WORTH_WAITING_BYTES
from storage_worker.engine.sqlite.database import PAGE_SIZE, Database
from storage_worker.engine.sqlite.store_identity import record_clean_shutdown, record_progress
from storage_worker.server.batch_processor import Inbound, Outbound
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker, pieces, the_one

Open = Callable[..., SqliteWorker]
ALL = 2**62


def waiting(gateway: Gateway, user: bytes) -> list[bytes]:
    page = gateway.one(PullPage(user, False, 0, 0, ALL, 2**30))
    assert isinstance(page, Page)
    return [piece.content for piece in pieces(page.page)]


def in_database(worker: SqliteWorker) -> int:
    count: int = worker.database.row("SELECT coalesce(sum(messages), 0) FROM mail_page")[0]
    return count


def test_a_send_reaches_the_database_later(worker: SqliteWorker, gateway: Gateway) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    assert in_database(worker) == 0
    assert worker.processor.has_waiting
    worker.now_ms += FLUSH_AFTER_MS
    worker.processor.maintain(worker.now_ms)
    assert in_database(worker) == 1
    assert not worker.processor.has_waiting


def test_many_small_messages_reach_it_by_their_number(
    worker: SqliteWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_log, "MOST_UNFLUSHED_MESSAGES", 10)
    [alice] = gateway.register("alice")
    worker.flush()
    for round_number in (1, 2):
        gateway.store(alice, alice, *[b""] * 9)
        worker.processor.maintain(worker.now_ms)
        assert in_database(worker) == 10 * (round_number - 1)
        gateway.store(alice, alice, b"")
        worker.processor.maintain(worker.now_ms)
        assert in_database(worker) == 10 * round_number


def test_mail_that_is_fetched_soon_never_does(worker: SqliteWorker, gateway: Gateway) -> None:
    [alice] = gateway.register("alice")
    [sequence] = gateway.store(alice, alice, b"x")
    gateway.ask(Settle(1, alice, False, sequence, sequence))
    changes = worker.database.connection.total_changes()
    worker.flush()
    assert in_database(worker) == 0
    assert worker.database.connection.total_changes() - changes <= 4, "the marks, the tally, the slot, the log epoch"


def test_a_clock_that_is_set_back_does_not_put_it_off(worker: SqliteWorker, gateway: Gateway) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    worker.now_ms -= 1
    worker.processor.maintain(worker.now_ms)
    assert in_database(worker) == 1


@pytest.mark.parametrize("journal_bytes", [0, 200, 4096])
def test_a_journal_of_any_size_will_do(open_worker: Open, journal_bytes: int) -> None:
    worker = open_worker(journal_bytes=journal_bytes)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    contents = [bytes([n]) * 100 * n for n in range(30)]
    for content in contents:
        gateway.store(alice, alice, content)
    assert waiting(gateway, alice) == contents
    worker.kill()
    gateway.worker = open_worker(journal_bytes=journal_bytes)
    assert waiting(gateway, alice) == contents


def test_a_registration_takes_in_what_came_before_it(worker: SqliteWorker, gateway: Gateway) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    gateway.ask(StoreMessage(alice, False, alice, 3, b"y"), Register("bob", KEY))
    assert in_database(worker) == 2
    assert not worker.processor.has_waiting


def test_an_old_journal_means_nothing_to_another_database(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    worker.kill()
    for left in tmp_path.glob("mail.db*"):
        left.unlink()
    worker = open_worker()
    assert worker.handle(Hello(0, b"n" * 16))
    assert worker.database.row("SELECT count(*) FROM user") == (0,)
    assert worker.rules.highest >= 1, "no sequence is given a second time"


def test_a_copy_of_the_folder_at_any_moment_is_a_store(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"one")
    worker.flush()
    gateway.store(alice, alice, b"two")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))
    restored = SqliteWorker(copy, seed=77)
    assert waiting(Gateway(restored), alice) == [b"one", b"two"]
    restored.kill()


def test_a_start_without_room_keeps_the_journal(
    open_worker: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    contents = [bytes([n]) * 4000 for n in range(100)]
    gateway.store(alice, alice, *contents)
    worker.kill()
    pages = pages_of(tmp_path / "mail.db")
    for _ in range(2):
        worker = gateway.worker = open_worker(size_limit=(pages + 5) * PAGE_SIZE)
        assert "the journal can't be flushed into the database, it is kept" in caplog.text
        assert in_database(worker) == 0
        worker.kill()
    gateway.worker = worker = open_worker()
    assert in_database(worker) == 100
    assert waiting(gateway, alice) == contents


def pages_of(path: Path) -> int:
    """Pages of a database as it is, looked at without taking anything in."""
    database = Database(path, beside=True)
    [pages] = database.row("PRAGMA page_count")
    database.close()
    assert isinstance(pages, int)
    return pages


def test_idle_batches_leave_the_last_room_to_others(open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = open_worker(journal_bytes=1000)
    gateway, other = Gateway(worker), Gateway(worker, slot=1)
    log = worker.engine.log
    log.is_stuck = True
    monkeypatch.setattr(log, "is_due", lambda _now_ms: False)
    while worker.journal.used * 8 < worker.journal.capacity * 7:
        gateway.ask(Release(1))
    used = worker.journal.used
    for _ in range(50):
        gateway.ask(Release(1))
    assert worker.journal.used == used
    refused = StoreMessage(bytes(16), False, bytes(16), 3, b"x")
    batches = [gateway.next_batch(refused), gateway.next_batch(Release(1)), other.next_batch(refused)]
    batches.append(other.next_batch(Release(1)))
    firsts = [worker.handle(batch) for batch in batches]
    worker.rules.roll_back()
    assert [worker.handle(batch) for batch in batches] == firsts, "this process knows what it did not record"
    worker.kill()
    later = gateway.worker = open_worker(journal_bytes=1000)
    answers = later.handle(gateway.next_batch(Release(1)))
    assert the_one(GreetAgain, answers) == GreetAgain(0, gateway.epoch, gateway.number)


@pytest.mark.parametrize("way", ["with a record", "with a transaction"])
def test_what_was_not_recorded_is_recorded_once(open_worker: Open, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    worker = open_worker(journal_bytes=4000)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    log = worker.engine.log
    log.is_stuck = True
    monkeypatch.setattr(log, "is_due", lambda _now_ms: False)
    batches: list[Batch] = []
    firsts: list[list[Outcome]] = []

    def ask(*operations: Operation) -> None:
        batches.append(gateway.next_batch(*operations))
        firsts.append(gateway.send(batches[-1]))

    def last_two_again() -> list[list[Outcome]]:
        return [gateway.send(batch) for batch in batches[-2:]]

    while worker.journal.used * 8 < worker.journal.capacity * 7:
        ask(Release(1))
    used = worker.journal.used
    ask(Release(1), Release(2))
    assert worker.journal.used == used
    if way == "with a record":
        ask(MarkAuthenticated(alice))
        assert worker.journal.used > used
    else:
        worker.flush()
        worker.rules.roll_back()
    assert last_two_again() == firsts[-2:]
    ask(MarkAuthenticated(bob))
    ask(Release(1))
    worker.rules.roll_back()
    assert last_two_again() == firsts[-2:]
    worker.kill()
    gateway.worker = open_worker(journal_bytes=4000)
    assert gateway.send(batches[-2]) == firsts[-2], "the last one that changed something"


def test_a_resend_after_a_restart_is_answered_from_the_journal(open_worker: Open) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    batch = gateway.next_batch(StoreMessage(alice, False, alice, 3, b"x"))
    [answer] = worker.handle(batch)
    assert isinstance(answer, Reply)
    worker.kill()
    later = gateway.worker = open_worker()
    [again] = later.handle(batch)
    assert isinstance(again, Reply)
    assert again.outcomes == answer.outcomes
    assert waiting(gateway, alice) == [b"x"]


def database_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "mail.db", folder / "mail.db-wal")}


def test_a_database_that_forgets_what_was_not_synced_has_it_from_the_journal(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    worker.engine.log.synced_bytes = 0
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    first, _second = gateway.store(alice, alice, b"one", b"two")
    before = database_files(tmp_path)
    worker.flush()
    assert not worker.database.lasting
    assert in_database(worker) == 2
    gateway.store(alice, alice, b"three")
    gateway.ask(Settle(1, alice, False, first, first))
    facts = worker.facts
    worker.kill()
    for path, content in before.items():
        path.write_bytes(content)
    (tmp_path / "mail.db-shm").unlink(missing_ok=True)
    worker = gateway.worker = open_worker()
    assert waiting(gateway, alice) == [b"two", b"three"]
    assert worker.facts.generation == facts.generation
    assert worker.database.lasting
    assert gateway.store(alice, alice, b"four") > [3]


def test_both_eras_stay_until_a_synced_transaction_has_them(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    worker.engine.log.synced_bytes = 0
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    contents = [bytes([n]) * 4000 for n in range(100)]
    gateway.store(alice, alice, *contents)
    before = database_files(tmp_path)
    worker.flush()
    gateway.store(alice, alice, b"behind the link")
    worker.kill()
    for path, content in before.items():
        path.write_bytes(content)
    (tmp_path / "mail.db-shm").unlink(missing_ok=True)
    worker = gateway.worker = open_worker(size_limit=(pages_of(tmp_path / "mail.db") + 5) * PAGE_SIZE)
    assert in_database(worker) == 0, "there is no room to take them in"
    worker.engine.log.synced_bytes = 0
    worker.database.execute("PRAGMA max_page_count = 100000")
    worker.flush()
    assert worker.database.lasting, "a third log epoch would go over the first"
    assert waiting(gateway, alice) == [*contents, b"behind the link"]


def test_where_files_go_it_is_synced(worker: SqliteWorker, gateway: Gateway) -> None:
    worker.engine.log.synced_bytes = 0
    [alice] = gateway.register("alice")
    steps = (BeginUpload(1, alice, False, alice, 3, 9), Chunk(1, b"in a file"), CommitUpload(1))
    assert isinstance(gateway.ask(*steps)[-1], Stored)
    worker.flush()
    worker.database.make_lasting()
    gateway.ask(Settle(1, alice, False, 0, ALL), StoreMessage(alice, False, alice, 3, b"x"))
    worker.processor.maintain(worker.now_ms)
    assert worker.database.lasting
    assert worker.blob_folder.sizes() == {}


def test_a_worker_that_dies_before_the_checkpoint(open_worker: Open) -> None:
    worker = open_worker()
    worker.engine.log.synced_bytes = 0
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    for content in (b"one", b"two"):
        gateway.store(alice, alice, content)
        worker.flush()
    gateway.store(alice, alice, b"three")
    worker.kill()
    gateway.worker = open_worker()
    assert waiting(gateway, alice) == [b"one", b"two", b"three"]


def test_what_a_start_finds_in_the_journal_is_synced(open_worker: Open) -> None:
    worker = open_worker(journal_bytes=16 * 1024 * 1024)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, *[b"x" * 50_000] * 25)
    assert worker.engine.mailboxes.unflushed_bytes > WORTH_WAITING_BYTES
    worker.kill()
    worker = open_worker(journal_bytes=16 * 1024 * 1024)
    assert in_database(worker) == 25
    assert worker.database.lasting, "what can be read after a failed sync need not be on disk"


def test_the_journal_keeps_one_log_epoch_at_the_most(worker: SqliteWorker, gateway: Gateway) -> None:
    worker.engine.log.synced_bytes = 0
    [alice] = gateway.register("alice")
    lasting = []
    for _ in range(4):
        gateway.store(alice, alice, b"x")
        worker.flush()
        lasting.append(worker.database.lasting)
    assert lasting == [False, True, False, True]
    gateway.store(alice, alice, b"x")
    worker.flush()
    worker.database.checkpoint()
    gateway.store(alice, alice, b"x")
    worker.flush()
    assert not worker.database.lasting, "a checkpoint made the one before last"


def test_what_is_in_no_journal_is_synced(open_worker: Open) -> None:
    worker = open_worker(journal_bytes=400)
    worker.engine.log.synced_bytes = 0
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    for number in range(10):
        gateway.store(alice, alice, bytes([number]) * 300)
        assert worker.database.lasting


def test_little_mail_is_synced_at_once(open_worker: Open) -> None:
    worker = open_worker(journal_bytes=16 * 1024 * 1024)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x" * 100_000)
    worker.flush()
    assert worker.database.lasting
    for _ in range(12):
        gateway.store(alice, alice, b"x" * 100_000)
    worker.flush()
    assert not worker.database.lasting


def test_what_identifies_the_store_is_never_noted_ahead_of_the_disk(worker: SqliteWorker, gateway: Gateway) -> None:
    worker.engine.log.synced_bytes = 0
    [alice] = gateway.register("alice")
    for note in (record_progress, record_clean_shutdown):
        gateway.store(alice, alice, b"x")
        worker.flush()
        assert not worker.database.lasting
        pages = worker.database.wal_pages
        note(worker.database, worker.file)
        assert worker.database.wal_pages > pages, "a transaction that writes nothing syncs nothing"
        assert worker.database.lasting


# --- by steps
# --------------------------------------------------------------------------------------------------


class SlowWorker(SqliteWorker):
    """A worker that takes mail in when it is told to, not behind every turn."""

    def answers(self, messages: Sequence[Inbound]) -> list[Outbound]:
        return self.processor.handle(messages, self.now_ms)


class Busy:
    """Five users with mail that the database takes in by steps, of one mailbox each. Mail is
    fetched and comes in between; `expected` is what has to be there.
    """

    def __init__(self, worker: SqliteWorker) -> None:
        self.worker = worker
        self.gateway = Gateway(worker)
        self.users = list(self.gateway.register("a", "b", "c", "d", "e"))
        self.expected: dict[bytes, list[tuple[int, bytes]]] = {user: [] for user in self.users}
        self.sent: list[tuple[StoreMessagesOnce, MessagesStored]] = []
        self._tokens = count(1)
        for number in range(3):
            self.send(b"old %d" % number)
        worker.flush()
        worker.database.make_lasting()
        self.fetch(0)
        for number in range(3):
            self.send(b"new %d" % number)
        worker.engine.log.synced_bytes = 0
        worker.engine.log.most_in_step = 1

    def send(self, content: bytes) -> None:
        """To everybody, under a token each, and one without."""
        frames = [
            pack_frame_once(self.users[0], next(self._tokens).to_bytes(16, "big"), user, 3, content)
            for user in self.users
        ]
        run = StoreMessagesOnce(True, b"".join(frames))
        outcome = self.gateway.one(run)
        assert isinstance(outcome, MessagesStored)
        self.sent.append((run, outcome))
        for sequence, user in enumerate(self.users, outcome.first):
            self.expected[user].append((sequence, content))
        [sequence] = self.gateway.store(self.users[1], self.users[2], content)
        self.expected[self.users[2]].append((sequence, content))

    def fetch(self, which: int) -> None:
        """The oldest one and the one in the middle of a mailbox go."""
        user = self.users[which]
        for index in (len(self.expected[user]) // 2, 0):
            sequence, _content = self.expected[user].pop(index)
            self.gateway.ask(Settle(1, user, True, sequence, sequence))

    def step(self) -> None:
        """One step of the database's."""
        self.worker.processor.maintain(self.worker.now_ms)

    def begin(self) -> None:
        """The first one."""
        self.worker.now_ms += FLUSH_AFTER_MS
        self.step()
        assert self.worker.engine.log.in_steps

    def check(self) -> None:
        """What is there is what has to be, and tokens are known."""
        for user, expected in self.expected.items():
            page = self.gateway.one(PullPage(user, True, 0, 0, ALL, 2**30))
            assert isinstance(page, Page)
            assert [(piece.sequence, piece.content) for piece in pieces(page.page)] == expected
            box = self.worker.engine.mailboxes.mailbox(self.worker.users.find(user).row)  # type: ignore[union-attr]
            assert box.messages == len(expected)
        before = self.worker.engine.mailboxes.sequence
        for run, outcome in self.sent:
            again = self.gateway.one(run)
            assert isinstance(again, MessagesStored)
            assert [one.sequence for one in again.repeated] == [outcome.first + index for index in range(5)]
        assert self.worker.engine.mailboxes.sequence == before

    def reopen(self, worker: SqliteWorker) -> None:
        """The next worker has it."""
        self.worker = worker
        self.gateway = Gateway(worker, incarnation=worker.random_bytes(16))


def moved(worker: SqliteWorker) -> list[int]:
    return [user for (user,) in worker.database.execute("SELECT user FROM moved")]


@pytest.fixture
def open_slow(tmp_path: Path) -> Iterator[Open]:
    opened: list[SqliteWorker] = []

    def open_() -> SqliteWorker:
        opened.append(SlowWorker(tmp_path, seed=1_000_000 * (len(opened) + 1), now_ms=2_000_000))
        return opened[-1]

    yield open_
    for worker in opened:
        worker.kill()


def test_much_mail_is_taken_in_by_steps_while_turns_go_on(open_slow: Open) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    seen = [moved(worker)]
    while worker.engine.log.in_steps:
        busy.check()
        busy.fetch(len(seen) % 5)
        busy.send(b"between %d" % len(seen))
        busy.step()
        seen.append(moved(worker))
    rows = [worker.users.find(user).row for user in busy.users]  # type: ignore[union-attr]
    assert seen == [[], *[[row] for row in rows], []], "it begins, a step for each, and one for the rest"
    assert moved(worker) == []
    assert not worker.database.lasting, "a checkpoint beside the loop makes it so"
    busy.check()
    worker.flush()
    assert in_database(worker) == sum(len(mail) for mail in busy.expected.values())
    busy.check()


@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("end", ["killed", "power", "orderly"])
def test_whatever_step_is_the_last_one_nothing_is_lost_or_doubled(
    open_slow: Open, tmp_path: Path, steps: int, end: str
) -> None:
    """`power`: all steps are undone."""
    worker = open_slow()
    busy = Busy(worker)
    before = database_files(tmp_path)
    busy.begin()
    for number in range(steps):
        busy.send(b"between %d" % number)
        busy.fetch(number % 5)
        busy.fetch((number + 3) % 5)
        busy.step()
    busy.send(b"last")
    facts = worker.facts
    if end == "orderly":
        worker.close()
    else:
        worker.kill()
    if end == "power":
        for path, content in before.items():
            path.write_bytes(content)
        (tmp_path / "mail.db-shm").unlink(missing_ok=True)
    for _ in range(2):
        worker = open_slow()
        assert worker.facts.generation == facts.generation
        assert moved(worker) == []
        busy.reopen(worker)
        busy.check()
        busy.send(b"later")
        busy.check()
        worker.kill()


def test_a_registration_gives_the_steps_up_and_has_everything(open_slow: Open) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    busy.step()
    busy.step()
    assert moved(worker)
    assert list(busy.gateway.register("f"))
    assert not worker.engine.log.in_steps
    assert moved(worker) == []
    assert worker.database.lasting
    assert in_database(worker) == sum(len(mail) for mail in busy.expected.values())
    busy.check()


def test_a_step_without_room_leaves_the_rest_in_the_journal(open_slow: Open) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    busy.step()
    with pytest.MonkeyPatch.context() as patched:

        def full(*_: object) -> None:
            raise StoreFull("no room")

        patched.setattr(worker.engine.mailboxes.pages, "insert", full)
        busy.step()
        stuck = [worker.engine.log.is_stuck]
        busy.check()
    worker.now_ms += 10_000
    busy.step()
    stuck.append(worker.engine.log.is_stuck)
    assert stuck == [True, False]
    busy.send(b"later")
    busy.check()
    worker.kill()
    busy.reopen(open_slow())
    busy.check()


def test_a_turn_that_is_undone_between_two_steps(open_slow: Open) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.begin()
    busy.send(b"between")
    busy.step()
    with worker.database.reading():
        worker.engine.log.reload()
    busy.check()
    worker.now_ms += FLUSH_AFTER_MS
    busy.step()
    assert not worker.engine.log.in_steps, "what the journal has of two log epochs is synced at once"
    busy.check()
    worker.kill()
    busy.reopen(open_slow())
    busy.check()


def test_what_steps_do_not_write_is_taken_in_at_once(open_slow: Open) -> None:
    worker = open_slow()
    busy = Busy(worker)
    busy.gateway.ask(SetBlock(busy.users[0], True, busy.users[1], True))
    worker.now_ms += FLUSH_AFTER_MS
    busy.step()
    assert not worker.engine.log.in_steps
    assert in_database(worker) == sum(len(mail) for mail in busy.expected.values())
    busy.check()
