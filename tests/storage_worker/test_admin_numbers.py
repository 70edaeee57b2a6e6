"""Where an operator's numbers are from, and how they are printed."""

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.storage_protocol.operations import MarkAuthenticated, PublishKeys, Register, Registered, StoreMessage
from storage_worker import admin
from storage_worker.server import admin_link
from tests.storage_worker.fake_gateway import FakeGateway
from tests.storage_worker.worker_process import WorkerProcess, folder_of_workers
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with folder_of_workers(tmp_path) as data:
        yield data


def printed(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], str]:
    """What a command says: lines, and what is on standard error."""
    assert admin.main(["--data-folder", str(folder), *arguments]) == 0
    found = capsys.readouterr()
    return found.out.splitlines(), found.err


def filled(folder: Path) -> tuple[WorkerProcess, bytes]:
    """A worker with alice, who has two messages, and bob; alice's id."""
    worker = WorkerProcess(folder)
    with FakeGateway(folder) as gateway:
        gateway.hello(b"i" * 16)
        [alice, bob] = gateway.ask(Register("alice", KEY), Register("bob", KEY))
        assert isinstance(alice, Registered)
        assert isinstance(bob, Registered)
        gateway.ask(
            MarkAuthenticated(bob.client_id),
            PublishKeys(bob.client_id, True, False, b"bundle", bytes(range(96))),
            StoreMessage(alice.client_id, False, alice.client_id, 3, b"abc"),
            StoreMessage(alice.client_id, False, alice.client_id, 3, b"de"),
        )
    return worker, alice.client_id


def test_of_a_worker_that_runs_they_are_live(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker, alice = filled(folder)
    lines, told = printed(folder, capsys, "users", "--json")
    assert told == ""
    today = datetime.now(UTC).date().isoformat()
    assert json.loads(lines[0]) == {
        "type": "account",
        "told_by": "worker",
        "number": 1,
        "id": alice.hex(),
        "name": "alice",
        "authenticated": False,
        "registered": today,
        "last_seen": today,
        "disabled": False,
        "waiting": 2,
        "bytes": 5,
        "one_time_keys": None,
    }
    assert json.loads(lines[1])["authenticated"] is True
    assert json.loads(lines[1])["one_time_keys"] == 1
    lines, told = printed(folder, capsys, "users")
    assert told == "admin: live numbers of the storage worker\n"
    assert [line.split() for line in lines[1:]] == [
        ["1", today, today, "no", "no", "-", "2", "5", "alice"],
        ["2", today, today, "yes", "no", "1", "0", "0", "bob"],
    ]
    lines, _ = printed(folder, capsys, "stats", "--json")
    stats = json.loads(lines[0])
    assert stats.pop("generation") > 0
    assert stats.pop("room_inside") >= 0
    assert stats == {
        "type": "stats",
        "told_by": "worker",
        "users": 2,
        "authenticated": 1,
        "mailboxes": 1,
        "waiting": 2,
        "bytes": 5,
        "uploads": 0,
        "upload_bytes": 0,
        "accepted": 2,
        "accepted_exactly": True,
        "starts": 1,
        "with_keys": 1,
        "one_time_keys": 1,
    }
    lines, _ = printed(folder, capsys, "stats")
    assert "with keys           1 users, 1 one-time keys" in lines
    assert "pending messages    2 in 1 mailboxes, 5 bytes of content" in lines
    assert worker.end() == 0
    lines, told = printed(folder, capsys, "stats", "--json")
    assert json.loads(lines[0])["told_by"] == "database"
    _, told = printed(folder, capsys, "users")
    assert told == f"admin: no storage worker is running on {folder}: the numbers are those of the database\n"


def test_of_a_worker_that_stands_still_they_are_those_of_its_database(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_link, "PATIENCE", 0.2)
    worker, _ = filled(folder)
    worker.process.send_signal(signal.SIGSTOP)
    lines, told = printed(folder, capsys, "users")
    assert told == (
        "admin: the storage worker did not answer within 0.2 s: the numbers are those of its database, "
        "and may be two seconds old\n"
    )
    assert [line.split()[-1] for line in lines[1:]] == ["alice", "bob"]


def test_a_store_that_no_worker_filled_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = SqliteWorker(tmp_path)
    worker.database.execute("DELETE FROM store")
    lines, _ = printed(tmp_path, capsys, "stats", "--json")
    assert json.loads(lines[0]) == {"type": "stats", "told_by": "database", "users": 0}
    worker.kill()


def test_names_that_are_hard_to_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = SqliteWorker(tmp_path)
    list(Gateway(worker).register('quoted "name"'))
    worker.flush()
    lines, _ = printed(tmp_path, capsys, "users", "--json")
    assert json.loads(lines[0])["name"] == 'quoted "name"'
    worker.kill()
