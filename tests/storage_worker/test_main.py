"""The worker as a process: signals, exit codes, last lines; kill -9 in the middle of batches."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import apsw
import pytest

from common.storage_protocol.frames import Batch, Hello, Reply
from common.storage_protocol.operations import (
    Fetch,
    Fetched,
    MarkAuthenticated,
    Outcome,
    Pull,
    Pulled,
    Refused,
    Register,
    Registered,
    Stored,
    StoreMessage,
)
from common.values import RefusalReason as Reason
from storage_worker import __main__ as program
from storage_worker import admin
from storage_worker.engine.errors import StoreFailed, StoreFull, StoreUnusable
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import refuse_wrong_kinds
from storage_worker.engine.sqlite.maintenance import Maintenance
from storage_worker.server.batch_processor import Inbound
from storage_worker.server.zmq_server import ZmqServer
from tests.storage_worker.failing_disk import NEVER
from tests.storage_worker.fake_gateway import FakeGateway
from tests.storage_worker.faulty_disk import Fault, FaultyDisk
from tests.storage_worker.worker_process import ROOT, WorkerProcess
from tests.storage_worker.worker_under_test import KEY, CheckpointAtOnce, SqliteWorker, pieces
from torture.patience import HANG_SECONDS
from torture.programs import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    # A test that failed leaves no worker running.
    while WorkerProcess.started:
        process = WorkerProcess.started.pop()
        if process.process.poll() is None:
            process.kill()


@pytest.fixture
def gateway(folder: Path) -> Iterator[FakeGateway]:
    folder.mkdir(mode=0o700)
    with FakeGateway(folder) as gateway:
        yield gateway


def register(gateway: FakeGateway, name: str) -> bytes:
    [outcome] = gateway.ask(Register(name, KEY))
    assert isinstance(outcome, Registered)
    return outcome.client_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_starts_serves_and_ends_when_asked(gateway: FakeGateway, folder: Path, number: int) -> None:
    worker = WorkerProcess(folder)
    gateway.hello(b"a" * 16)
    alice = register(gateway, "alice")
    assert worker.end(number) == 0
    lines = worker.log.splitlines()
    assert [" ".join(line.split()[2:]) for line in lines] == [
        f"INFO storage_worker: started: data folder {folder}, ipc://{folder}/link/storage.sock, generation "
        + lines[0].split()[-1],
        "INFO storage_worker: a gateway greeted: slot 0, epoch 1",
        f"INFO messageu.audit: registered user {alice.hex()}",
        "INFO storage_worker: stopped",
    ]
    assert not folder.joinpath("mail.db-wal").exists()
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_hang_up_ends_nothing(gateway: FakeGateway, folder: Path) -> None:
    worker = WorkerProcess(folder, "--log-format=json")
    gateway.hello(b"a" * 16)
    worker.process.send_signal(signal.SIGHUP)
    alice = register(gateway, "alice")
    assert worker.end() == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert [line["message"].split(":")[0] for line in lines] == [
        "started", "a gateway greeted", f"registered user {alice.hex()}", "stopped",
    ]  # fmt: skip
    assert lines[1]["slot"] == 0
    assert lines[1]["epoch"] == 1


def test_it_tells_of_health_and_numbers(gateway: FakeGateway, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    asked = ["--metrics", str(port), "--health"]
    assert program.main(asked) == 1
    assert capsys.readouterr().out.startswith(f"nothing answers at 127.0.0.1:{port}: ")
    worker = WorkerProcess(folder, "--metrics", str(port))
    gateway.hello(b"a" * 16)
    alice = register(gateway, "alice")
    assert program.main(asked) == 0
    assert capsys.readouterr().out == "ready\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANG_SECONDS) as response:
        lines = response.read().decode().splitlines()
    assert 'messageu_worker_operations_total{operation="register"} 1.0' in lines
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(found["messageu_worker_commit_seconds_count"]) == float(found["messageu_worker_commits_total"]) >= 2
    assert float(found["messageu_worker_disk_free_bytes"]) > 0
    assert alice.hex() not in str(lines)
    assert "alice" not in str(lines)
    assert worker.end() == 0


def test_users_and_mail_outlive_it(gateway: FakeGateway, folder: Path) -> None:
    worker = WorkerProcess(folder)
    welcome = gateway.hello(b"a" * 16)
    alice = register(gateway, "alice")
    gateway.ask(StoreMessage(alice, False, alice, 3, b"hello"))
    worker.end()
    worker = WorkerProcess(folder)
    again = gateway.hello(b"b" * 16)
    assert again.facts == type(again.facts)(welcome.facts.server_id, welcome.facts.generation, 1)
    assert again.worker_incarnation != welcome.worker_incarnation
    [leased] = gateway.ask(Pull(1, alice, False, 1000, 25, 1000))
    assert isinstance(leased, Pulled)
    assert pieces(leased.page)[0].content == b"hello"
    worker.end()


def test_a_second_worker_is_refused_and_the_first_goes_on(gateway: FakeGateway, folder: Path) -> None:
    worker = WorkerProcess(folder)
    gateway.hello(b"a" * 16)
    second = WorkerProcess(folder)
    assert second.wait() == 78
    assert "CRITICAL storage_worker: can't start: another storage worker holds" in second.log.splitlines()[-1]
    register(gateway, "alice")
    worker.end()


def test_a_lock_is_gone_with_its_process(gateway: FakeGateway, folder: Path) -> None:
    worker = WorkerProcess(folder)
    gateway.hello(b"a" * 16)
    worker.kill()
    worker = WorkerProcess(folder)
    gateway.hello(b"b" * 16)
    assert worker.end() == 0


def answers_of(gateway: FakeGateway, frame: bytes) -> list[Outcome]:
    """Send a batch that was sent before until it is answered; its outcomes, which are the same in
    every answer.

    Which of the frames died with a worker is chance, and so is the number of answers; the empty
    batch's ends them.
    """
    gateway.send(frame)
    while gateway.is_silent(2000):
        gateway.send(frame)
    answers = [gateway.reply()]
    gateway.send(gateway.batch())
    while isinstance(answer := gateway.receive(), Reply) and answer.number < gateway.number:
        answers.append(answer)
    assert isinstance(answer, Reply), answer
    assert answer.outcomes == []
    assert all(one.outcomes == answers[0].outcomes for one in answers)
    return answers[0].outcomes


def test_kill_in_the_middle_of_batches(gateway: FakeGateway, folder: Path) -> None:
    """Whatever was answered is there, once; a resend is answered with what was answered,
    or would have been.
    """
    chance = random.Random(7)
    worker = WorkerProcess(folder)
    gateway.hello(b"a" * 16)
    alice = register(gateway, "alice")
    gateway.ask(MarkAuthenticated(alice))
    accepted: dict[int, bytes] = {}
    for life in range(6):
        for step in range(chance.randrange(1, 8)):
            contents = [b"%d/%d/%d" % (life, step, index) for index in range(chance.randrange(1, 400))]
            frame = gateway.batch(*[StoreMessage(alice, True, alice, 3, content) for content in contents])
            gateway.send(frame)
            if not step:
                # The batch is on its way while the worker dies.
                worker.kill()
                worker = WorkerProcess(folder)
            outcomes = answers_of(gateway, frame)
            for content, outcome in zip(contents, outcomes, strict=True):
                assert isinstance(outcome, Stored)
                assert outcome.sequence not in accepted
                accepted[outcome.sequence] = content
    [fetched] = gateway.ask(Fetch(alice, True, 0, 2**40, 54, 2**25, False))
    assert isinstance(fetched, Fetched)
    assert {piece.sequence: piece.content for piece in pieces(fetched.page)} == accepted
    worker.end()


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"this is no database" * 999, "mail.db is damaged"), (None, "can't be used")],
)
def test_what_another_try_would_not_help(folder: Path, content: bytes | None, line: str) -> None:
    if content is None:
        folder.write_bytes(b"a file in the folder's place")
    else:
        folder.mkdir()
        (folder / "mail.db").write_bytes(content)
    worker = WorkerProcess(folder)
    assert worker.wait() == 78
    [last] = worker.log.splitlines()
    assert "CRITICAL storage_worker: can't start: " in last
    assert line in last


def worker_on_a_store(gateway: FakeGateway, folder: Path) -> WorkerProcess:
    worker = WorkerProcess(folder)
    gateway.hello(b"a" * 16)
    register(gateway, "alice")
    return worker


@pytest.mark.parametrize(
    ("loss", "words"), [("missing", "mail.db is missing, but"), ("empty", "mail.db is empty, but")]
)
def test_a_database_that_was_lost_is_not_made_anew(gateway: FakeGateway, folder: Path, loss: str, words: str) -> None:
    assert worker_on_a_store(gateway, folder).end() == 0
    (folder / "mail.db").unlink()
    if loss == "empty":
        (folder / "mail.db").touch()
    again = WorkerProcess(folder)
    assert again.wait() == 78
    assert words in again.log
    assert "store.generation, mail.journal, mail.journal.2 beside it" in again.log
    assert loss == "empty" or not (folder / "mail.db").exists()


@pytest.mark.parametrize("name", ["mail.journal", "mail.journal.2"])
@pytest.mark.parametrize("loss", ["missing", "empty"])
def test_a_journal_that_was_lost_is_not_made_anew(gateway: FakeGateway, folder: Path, name: str, loss: str) -> None:
    worker = worker_on_a_store(gateway, folder)
    [outcome] = gateway.ask(Register("bob", KEY))
    assert isinstance(outcome, Registered)
    gateway.ask(StoreMessage(outcome.client_id, False, outcome.client_id, 3, b"x"))
    worker.kill()
    (folder / name).unlink()
    if loss == "empty":
        (folder / name).touch()
    again = WorkerProcess(folder)
    assert again.wait() == 78
    assert f"{folder / name} is missing or empty" in again.log
    assert admin.main(["--data-folder", str(folder), "recover-journal"]) == 0
    last = WorkerProcess(folder)
    gateway.hello(b"b" * 16)
    assert last.end() == 0


@pytest.mark.parametrize("name", ["store.generation", "mail.db", "mail.journal", "worker.lock", "bodies"])
def test_what_is_of_another_kind_is_named_and_not_waited_for(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    # To open a pipe would wait for whoever writes into it.
    os.mkfifo(folder / name)
    kind = "folder" if name == "bodies" else "file"
    with pytest.raises(StoreUnusable, match=f"{name} is no {kind}. Move it away"):
        refuse_wrong_kinds(folder)
    (folder / name).unlink()
    if kind == "folder":
        (folder / name).write_bytes(b"")
    else:
        (folder / name).mkdir()
    worker = WorkerProcess(folder)
    assert worker.wait() == 78
    assert f"can't start: {folder / name} is no {kind}. Move it away, or put the whole data folder back" in worker.log


def test_after_an_orderly_end_the_journal_holds_nothing(gateway: FakeGateway, folder: Path) -> None:
    assert worker_on_a_store(gateway, folder).end() == 0
    (folder / "mail.journal").unlink()
    again = WorkerProcess(folder)
    gateway.hello(b"b" * 16)
    assert again.end() == 0


def test_a_start_beside_somebody_who_reads_is_tried_again(
    gateway: FakeGateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_on_a_store(gateway, folder).kill()
    monkeypatch.setattr("storage_worker.engine.sqlite.database.BUSY_TIMEOUT_MS", 1)
    reader = apsw.Connection(str(folder / "mail.db"))
    # What the log holds behind this picture can't be copied while somebody looks at it.
    reader.execute("BEGIN; SELECT count(*) FROM user").fetchall()
    writer = Database(folder / "mail.db", beside=True)
    with writer.transaction():
        writer.execute("UPDATE store SET starts = starts")
    writer.abandon()
    with pytest.raises(StoreFailed, match="is busy: another program has it open"):
        Database(folder / "mail.db")
    reader.close()
    Database(folder / "mail.db").close()


def test_limits_are_settings(gateway: FakeGateway, folder: Path) -> None:
    worker = WorkerProcess(
        folder, "--largest-message", "10", "--mailbox-messages", "2", "--mailbox-bytes", "15",
        "--sender-share", "99", "--log-level", "warning",
    )  # fmt: skip
    gateway.hello(b"a" * 16)
    alice, bob = register(gateway, "alice"), register(gateway, "bob")
    sends = [(alice, 11), (alice, 10), (alice, 6), (alice, 4), (bob, 5), (bob, 0)]
    outcomes = gateway.ask(*[StoreMessage(sender, False, alice, 3, bytes(size)) for sender, size in sends])
    assert [outcome.reason if isinstance(outcome, Refused) else 0 for outcome in outcomes] == [
        Reason.TOO_LARGE, 0, Reason.MAILBOX_FULL, Reason.SENDER_SHARE, 0, Reason.MAILBOX_FULL,
    ]  # fmt: skip
    assert worker.end() == 0
    assert worker.log == ""


def test_a_mark_above_the_disks_size_is_refused(folder: Path) -> None:
    worker = WorkerProcess(folder, "--free-space-mark", str(2**62))
    assert worker.wait() == 78
    assert f"can't start: --free-space-mark ({2**62}) is more than the disk of" in worker.log


def test_a_mark_above_what_is_free_refuses_mail(gateway: FakeGateway, folder: Path) -> None:
    status = os.statvfs(folder)
    most = (status.f_blocks - status.f_bfree + status.f_bavail) * status.f_frsize
    worker = WorkerProcess(folder, "--free-space-mark", str(most))
    gateway.hello(b"a" * 16)
    [outcome] = gateway.ask(Register("alice", KEY))
    assert outcome == Refused(Reason.STORAGE_FULL, 30)
    worker.end()
    assert "storage is full" in worker.log


class TestInThisProcess:
    """What is hard to bring about from outside."""

    def main(self, folder: Path) -> int:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        mask = os.umask(0o022)
        try:
            return program.main(["--data-folder", str(folder)])
        finally:
            os.umask(mask)
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers

    def test_a_signal_ends_it(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ZmqServer, "turn", lambda _self: None)
        poll = ZmqServer.serve

        def serve(service: ZmqServer, wake: int, *_: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            poll(service, wake)

        monkeypatch.setattr(ZmqServer, "serve", serve)
        assert self.main(folder) == 0

    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (StoreFailed("IOError: disk I/O error"), 1, "the store failed, nothing more can be promised: IOError"),
            (OSError(5, "Input/output error"), 1, "the system failed"),
        ],
    )
    def test_a_failure_has_one_last_line(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
        error: Exception, code: int, line: str,
    ) -> None:  # fmt: skip
        def serve(_service: ZmqServer, *_: object) -> None:
            raise error

        monkeypatch.setattr(ZmqServer, "serve", serve)
        assert self.main(folder) == code
        assert line in caplog.records[-1].getMessage()
        assert caplog.records[-1].exc_info is None


class WatchedDisk(FaultyDisk):
    """A disk on which nothing fails; what the checkpoint thread does there is noted."""

    def __init__(self) -> None:
        super().__init__(f"watched-{uuid.uuid4()}", NEVER, Fault.EIO)
        self.done: list[str] = []

    def fails(self, what: str) -> bool:
        if threading.current_thread().name == "checkpoints":
            self.done.append(what)
        return super().fails(what)


class TestTheCheckpointThread:
    """The program's own: what it does to the disk, and what becomes of a failure that
    nobody looked at.
    """

    @pytest.fixture(autouse=True)
    def _always_due(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Database, "checkpoint_due", True)

    def main(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch,
        *, failure: Exception | None = None, ends_with: Exception | None = None,
    ) -> int:  # fmt: skip
        """A life in which a user is registered and one checkpoint begun; what becomes of
        that is not looked at.
        """
        ended = threading.Event()
        checkpoint = Database.checkpoint

        def noted(database: Database, *, truncate: bool = False) -> bool:
            if threading.current_thread().name != "checkpoints":
                return checkpoint(database, truncate=truncate)
            try:
                if failure is not None:
                    raise failure
                return checkpoint(database)
            finally:
                ended.set()

        def serve(service: ZmqServer, *_: object) -> None:
            hello, batch = Hello(0, bytes(16)), Batch(0, 1, 1, [Register("alice", KEY)])
            service.processor.handle([Inbound(b"gateway", hello), Inbound(b"gateway", batch)], 0)
            service.processor.maintain(0)
            assert ended.wait(HANG_SECONDS)
            if ends_with is not None:
                raise ends_with

        monkeypatch.setattr(Database, "checkpoint", noted)
        monkeypatch.setattr(ZmqServer, "serve", serve)
        return program.main(["--data-folder", str(folder)])

    def test_it_syncs_the_log_before_it_copies_it_and_then_the_database(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = WatchedDisk()
        monkeypatch.setattr(program, "Database", partial(Database, vfs=disk.name))
        assert self.main(folder, monkeypatch) == 0
        lasting = [what for what, _ in groupby(disk.done) if not what.startswith("truncate ")]
        assert lasting == ["sync mail.db-wal", "write mail.db", "sync mail.db"]

    def test_a_failure_that_nobody_looked_at_is_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert self.main(folder, monkeypatch, failure=StoreFailed("IOError: disk I/O error")) == 1
        [message] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert message == "the store failed, nothing more can be promised: IOError: disk I/O error"

    def test_no_room_is_none(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.main(folder, monkeypatch, failure=StoreFull("no room")) == 0

    @pytest.mark.parametrize("failure", [StoreFailed("IOError: disk I/O error"), ZeroDivisionError("a bug")])
    def test_beside_another_failure_it_is_told_too(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
    ) -> None:
        assert self.main(folder, monkeypatch, failure=failure, ends_with=StoreFailed("no journal")) == 1
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
            f"the last checkpoint failed, too: {failure}",
            "the store failed, nothing more can be promised: no journal",
        ]


class TestHousekeeper:
    def test_checkpoints_when_one_is_due(self, worker: SqliteWorker) -> None:
        keeper = Maintenance(worker.database, worker.file, CheckpointAtOnce(worker.database))
        worker.database.checkpoint_bytes = 1
        with worker.database.transaction():
            worker.database.execute("UPDATE store SET sequence = 5")
        assert keeper.has_waiting
        keeper.work(0)
        assert keeper.has_waiting, "its outcome is to be heard"
        keeper.work(0)
        assert not worker.database.checkpoint_due
        assert not keeper.has_waiting

    def test_a_checkpoint_that_began_before_the_last_transaction_is_followed_by_another(
        self, worker: SqliteWorker
    ) -> None:
        checkpoints = CheckpointAtOnce(worker.database)
        keeper = Maintenance(worker.database, worker.file, checkpoints)
        for sequence in (5, 6):
            with worker.database.transaction(synced=False):
                worker.database.execute("UPDATE store SET sequence = ?", (sequence,))
            keeper.work(0)
            assert checkpoints.running
        keeper.work(0)
        assert worker.database.lasting
        assert not checkpoints.running

    def test_a_part_of_a_checkpoint_makes_nothing_last(
        self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Database, "checkpoint", lambda _database: False)
        checkpoints = CheckpointAtOnce(worker.database)
        keeper = Maintenance(worker.database, worker.file, checkpoints)
        with worker.database.transaction(synced=False):
            worker.database.execute("UPDATE store SET sequence = 5")
        keeper.work(0)
        keeper.work(0)
        assert not worker.database.lasting

    @pytest.mark.parametrize("held_up", [False, StoreFull("no room")])
    def test_what_was_held_up_is_tried_again_after_a_second(
        self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch, held_up: bool | StoreFull
    ) -> None:
        begun_at: list[int] = []

        def checkpoint(_database: Database) -> bool:
            begun_at.append(now_ms)
            if isinstance(held_up, StoreFull):
                raise held_up
            return held_up

        keeper = Maintenance(worker.database, worker.file, CheckpointAtOnce(worker.database))
        with monkeypatch.context() as patched:
            patched.setattr(Database, "checkpoint", checkpoint)
            patched.setattr(Database, "checkpoint_due", True)
            for now_ms in (5000, 5001, 5500, 6000, 6001, 6002, 7000, 7001, 7002):
                keeper.work(now_ms)
            # It is seen at the next look that it was held up.
            assert begun_at == [5000, 6001, 7002]
            keeper.work(7003)
            # A clock that was set back puts nothing off.
            now_ms = 6500
            keeper.work(now_ms)
            assert begun_at == [5000, 6001, 7002, 6500]
        keeper.work(8000)
        # What was not held up is followed by the next as soon as there is something to do.
        for sequence in (5, 6):
            with worker.database.transaction(synced=False):
                worker.database.execute("UPDATE store SET sequence = ?", (sequence,))
            keeper.work(9500)
            assert worker.database.lasting

    def test_a_checkpoint_that_fails_is_a_failure_of_the_store(self, worker: SqliteWorker) -> None:
        checkpoints = CheckpointAtOnce(worker.database)
        keeper = Maintenance(worker.database, worker.file, checkpoints)
        with worker.database.transaction(synced=False):
            worker.database.execute("UPDATE store SET sequence = 5")
        keeper.work(0)
        checkpoints.told = StoreFailed("IOError: disk I/O error")
        with pytest.raises(StoreFailed, match="disk I/O"):
            keeper.work(0)

    def test_notes_progress_once_a_minute(self, worker: SqliteWorker) -> None:
        keeper = Maintenance(worker.database, worker.file, CheckpointAtOnce(worker.database))
        keeper.work(10**9)
        for sequence, now_ms in ((5, 10**9 + 59_999), (6, 10**9 + 60_000)):
            worker.database.execute("UPDATE store SET sequence = ?", (sequence,))
            keeper.work(now_ms)
            text = worker.file.read()
            assert text is not None
            assert text.splitlines()[-1] == ("6" if sequence == 6 else "0")

    def test_no_room_for_a_checkpoint_is_no_failure(
        self, worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_database: Database, *, truncate: bool = False, waits: bool = True) -> None:
            raise StoreFull

        monkeypatch.setattr(Database, "checkpoint", full)
        monkeypatch.setattr(Database, "checkpoint_due", True)
        keeper = Maintenance(worker.database, worker.file, CheckpointAtOnce(worker.database))
        keeper.work(0)
        keeper.give_back()
        worker.database.close()


def test_the_packages_of_postgresql_are_imported_where_they_are_asked_for() -> None:
    code = (
        "import sys, storage_worker.__main__, storage_worker.admin; "
        "print([name for name in sys.modules if 'psycopg' in name or 'postgres' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    assert done.stdout == "[]\n"


def test_a_store_in_postgresql_without_its_packages(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "storage_worker.engine.postgres.connection", None)
    assert program.main(["--data-folder", str(folder), "--store", "postgresql://u:secret@a/b"]) == 78
    assert "install messageu[postgres]" in caplog.text
    assert "secret" not in caplog.text
    assert not (folder / "mail.db").exists()
