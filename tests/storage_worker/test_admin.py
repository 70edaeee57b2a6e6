"""scripts/admin: the commands in this process, and once as a command beside a running worker."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    ListUsers,
    MarkAuthenticated,
    Refused,
    StoreMessage,
    StoreMessages,
)
from common.values import RefusalReason
from storage_worker import admin, admin_numbers
from storage_worker.engine.sqlite import schema
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.folder import folder_lock
from storage_worker.engine.sqlite.store_identity import accepted, parse_identity
from tests.storage_worker.worker_under_test import TO_VERSION_5, Gateway, SqliteWorker
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[SqliteWorker]:
    """A running worker, as far as the database is concerned."""
    worker = SqliteWorker(tmp_path)
    yield worker
    worker.kill()


@pytest.fixture
def gateway(worker: SqliteWorker) -> Gateway:
    return Gateway(worker)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def run(folder: Path, *arguments: str) -> int:
    return admin.main(["--data-folder", str(folder), *arguments])


def test_users(worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = gateway.register("alice", "bob the second")
    gateway.ask(MarkAuthenticated(alice))
    gateway.store(bob, bob, b"abc", b"de")
    worker.flush()
    assert run(tmp_path, "users") == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=8) for line in lines] == [
        ["1", "1970-01-01", "1970-01-01", "yes", "no", "-", "0", "0", "alice"],
        ["2", "1970-01-01", "1970-01-01", "no", "no", "-", "2", "5", "bob the second"],
    ]


def test_whoever_pages_through_the_users_holds_nobody_up(
    worker: SqliteWorker, gateway: Gateway, tmp_path: Path
) -> None:
    _alice, _bob = gateway.register("alice", "bob")
    database = Database(tmp_path / "mail.db", beside=True)
    printed: list[str] = []

    def say(line: str) -> None:
        printed.append(line)
        # A checkpoint copies all of the log: nobody reads an older picture of the database.
        [_another] = gateway.register(f"another {len(printed)}")
        worker.flush()
        assert worker.database.checkpoint(truncate=True)

    admin_numbers.show_accounts(list(admin_numbers.accounts_of_database(database)), "database", say, as_json=False)
    assert len(printed) == 3
    database.close()


def test_stats(worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    gateway.store(bob, bob, b"abc", b"de")
    worker.flush()
    assert run(tmp_path, "stats") == 0
    out = capsys.readouterr().out
    assert "users               2 (1 authenticated)" in out
    assert "pending messages    2 in 1 mailboxes, 5 bytes of content" in out
    assert "unfinished uploads  0, 0 bytes on the disk" in out
    assert f"generation          {worker.facts.generation}" in out


def test_stats_count_what_was_accepted_over_kills_and_orderly_ends(
    worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"one", b"two")
    worker.flush()
    # In the journal alone, when it is killed; the database replays it.
    gateway.store(alice, alice, b"three")
    worker.kill()
    second = SqliteWorker(tmp_path, seed=10**6)
    assert second.rules.highest > 3, "what was reserved is left out"
    again = Gateway(second, incarnation=b"2" * 16)
    again.store(alice, alice, b"four")
    second.flush()
    assert run(tmp_path, "stats") == 0
    assert "accepted so far     4\n" in capsys.readouterr().out
    second.close()
    third = SqliteWorker(tmp_path, seed=2 * 10**6)
    third.close()
    assert run(tmp_path, "stats") == 0
    assert "accepted so far     4\n" in capsys.readouterr().out


def test_each_way_of_accepting_counts_and_no_refusal(worker: SqliteWorker, gateway: Gateway) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(bob))
    # The second one of this run and the third one of all are refused: only bob himself may send as
    # bob.
    gateway.ask(
        StoreMessages(False, b"".join([pack_frame(sender, alice, 3, b"x") for sender in (alice, bob, alice)])),
        StoreMessage(alice, False, alice, 3, b"y"),
        StoreMessage(bob, False, alice, 3, b"y"),
        BeginUpload(1, alice, False, alice, 3, 5),
        Chunk(1, b"12345"),
        CommitUpload(1),
    )
    assert worker.engine.log.waits
    worker.flush()
    assert accepted(worker.database) == (4, True)
    # What is undone, and what is done again, is counted once.
    gateway.store(alice, alice, b"z")
    worker.rules.roll_back()
    gateway.resend()
    worker.flush()
    assert accepted(worker.database) == (5, True)


def test_stats_of_a_store_that_an_earlier_version_wrote_to(
    worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"one", b"two")
    worker.close()
    database = Database(tmp_path / "mail.db")
    database.execute("DROP TABLE tally")
    database.close()
    at_most = "accepted so far     2 at most: an earlier version did not count them\n"
    assert run(tmp_path, "stats") == 0
    assert at_most in capsys.readouterr().out
    second = SqliteWorker(tmp_path, seed=10**6)
    assert run(tmp_path, "stats") == 0
    assert at_most in capsys.readouterr().out
    Gateway(second, incarnation=b"2" * 16).store(alice, alice, b"three")
    second.close()
    assert run(tmp_path, "stats") == 0
    assert at_most.replace("2", "3") in capsys.readouterr().out
    # Such a version goes on with a store that has the table, and does not count.
    database = Database(tmp_path / "mail.db")
    database.execute("UPDATE store SET sequence = sequence + 5")
    database.execute("UPDATE tally SET exact = 1")
    database.close()
    third = SqliteWorker(tmp_path, seed=2 * 10**6)
    third.close()
    assert run(tmp_path, "stats") == 0
    assert at_most.replace("2", "8") in capsys.readouterr().out


def test_stats_tell_of_unfinished_uploads(
    worker: SqliteWorker, gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [alice] = gateway.register("alice")
    for number, size in ((1, 3), (2, 5), (3, 7)):
        gateway.ask(BeginUpload(number, alice, False, alice, 3, size), Chunk(number, bytes(size)))
    gateway.ask(CommitUpload(2))
    worker.flush()
    assert run(tmp_path, "stats") == 0
    out = capsys.readouterr().out
    assert "pending messages    1 in 1 mailboxes, 5 bytes of content" in out
    assert "unfinished uploads  2, 10 bytes on the disk" in out


def test_unprove_is_noticed_by_the_running_worker(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [alice] = gateway.register("alice")
    gateway.ask(MarkAuthenticated(alice))
    assert gateway.refused(ListUsers(alice, False)) is RefusalReason.PROOF_NEEDED
    assert run(tmp_path, "unprove", "alice") == 0
    assert "may be used without proof again" in capsys.readouterr().out
    assert not isinstance(gateway.one(ListUsers(alice, False)), Refused)
    assert not isinstance(gateway.one(StoreMessage(alice, False, alice, 3, b"x")), Refused)


def test_unprove_while_no_worker_runs(worker: SqliteWorker, gateway: Gateway, tmp_path: Path) -> None:
    [alice] = gateway.register("alice")
    gateway.ask(MarkAuthenticated(alice))
    worker.close()
    assert run(tmp_path, "unprove", "alice") == 0
    again = SqliteWorker(tmp_path, seed=10**6)
    assert not isinstance(Gateway(again).one(ListUsers(alice, False)), Refused)
    again.kill()


def test_unprove_nobody(gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "unprove", "nobody") == 1
    assert "no user named 'nobody'" in capsys.readouterr().out


def test_new_generation(worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker.close()
    before = worker.facts.generation
    assert run(tmp_path, "new-generation") == 0
    facts = parse_identity((tmp_path / "store.generation").read_text())
    assert facts.generation > before
    assert str(facts.generation) in capsys.readouterr().out
    again = SqliteWorker(tmp_path)
    assert again.facts.generation == facts.generation
    again.kill()


def test_new_generation_wants_the_worker_stopped(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder_lock(tmp_path):
        assert run(tmp_path, "new-generation") == 78
    assert "another storage worker holds" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["users", "stats", "new-generation"])
def test_no_store(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, command) == 78
    assert capsys.readouterr().err == f"admin: there is no store in {tmp_path}\n"


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "missing", "stats") == 78
    assert capsys.readouterr().err == f"admin: there is no store in {tmp_path / 'missing'}\n"
    assert not (tmp_path / "missing").exists()


def test_the_folder_is_named_before_the_command_or_behind_it(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert admin.main(["stats", "--data-folder", str(tmp_path)]) == 0
    behind = capsys.readouterr().out
    assert run(tmp_path, "stats") == 0
    assert capsys.readouterr().out == behind
    with pytest.raises(SystemExit, match="2"):
        admin.main(["stats", "--data-folder", ""])
    assert "--data-folder: the path is empty" in capsys.readouterr().err


def test_a_folder_that_can_not_hold_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / os.fsdecode(b"caf\xe9"), "stats") == 78
    assert capsys.readouterr().err.startswith("admin: the data folder's path '")
    (tmp_path / "bodies").write_bytes(b"")
    assert run(tmp_path, "recover-journal") == 78
    assert f"admin: {tmp_path / 'bodies'} is no folder" in capsys.readouterr().err


def test_a_store_that_no_worker_filled(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.database.execute("DELETE FROM store")
    assert run(tmp_path, "stats") == 0
    assert "empty" in capsys.readouterr().out
    assert run(tmp_path, "new-generation") == 78


def test_a_store_that_fails(
    worker: SqliteWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_worker.engine.sqlite.database.BUSY_TIMEOUT_MS", 1)
    worker.database.execute("BEGIN IMMEDIATE")
    assert run(tmp_path, "unprove", "alice") == 1
    assert "admin: the store failed: BusyError" in capsys.readouterr().err
    worker.database.execute("ROLLBACK")


def admin_process(folder: Path, command: str, output: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "storage_worker.admin", "--data-folder", str(folder), command],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=subprocess.PIPE, text=True, check=False,
        timeout=HANG_SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 2000])
def test_a_reader_that_has_gone_is_no_traceback(
    worker: SqliteWorker, gateway: Gateway, tmp_path: Path, count: int
) -> None:
    # 2,000 lines are more than is kept before it is written.
    list(gateway.register(*[f"user {number}" for number in range(count)]))
    worker.flush()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = admin_process(tmp_path, "users", writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the numbers are those of the database" in done.stderr


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(5, "Input/output error"), 1, "admin: the system failed: [Errno 5] Input"),
    ],
)
def test_other_ends_are_no_tracebacks(
    worker: SqliteWorker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(*_arguments: object) -> int:
        raise failure

    monkeypatch.setattr(admin_numbers, "run", lambda *_arguments, **_named: fail())
    assert run(tmp_path, "users") == code
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_output_that_finds_no_room(worker: SqliteWorker, gateway: Gateway, tmp_path: Path) -> None:
    list(gateway.register("alice"))
    worker.flush()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = admin_process(tmp_path, "users", full)
    finally:
        os.close(full)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last == "admin: what is to be printed can't be written: No space left on device"


def test_recovering_an_old_store_says_that_it_was_brought_over(
    worker: SqliteWorker, gateway: Gateway, tmp_path: Path
) -> None:
    list(gateway.register("alice"))
    worker.close()
    database = Database(tmp_path / "mail.db")
    list(
        database.execute(
            f"{TO_VERSION_5} ALTER TABLE mail_page DROP COLUMN checksum; ALTER TABLE store DROP COLUMN journal; "
            "PRAGMA user_version = 3"
        )
    )
    database.close()
    done = admin_process(tmp_path, "recover-journal", subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (
        0,
        f"admin: {tmp_path}/mail.db was of schema version 3 and is of version {schema.VERSION} now\n",
    )


@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="the command brings its own .venv")
def test_the_command_from_another_folder(gateway: Gateway, tmp_path: Path) -> None:
    list(gateway.register("alice"))
    data = tmp_path / "elsewhere"
    data.mkdir()
    shutil.copy(tmp_path / "mail.db", data)
    shutil.copy(tmp_path / "mail.db-wal", data)
    for environment, arguments in (
        ({"MESSAGEU_DATA": str(data)}, ["users"]),
        ({}, ["--data-folder", "elsewhere", "users"]),
    ):
        done = subprocess.run(
            [str(ROOT / "scripts" / "admin"), *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0
        assert done.stderr == f"admin: no storage worker is running on {data}: the numbers are those of the database\n"
        assert "alice" in done.stdout
