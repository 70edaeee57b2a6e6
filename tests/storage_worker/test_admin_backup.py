"""`scripts/admin backup`, on workers that run."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.storage_protocol.operations import (
    Fetch,
    Fetched,
    MarkAuthenticated,
    Register,
    Registered,
    StoreMessage,
)
from storage_worker import admin
from storage_worker.server import admin_link
from tests.storage_worker.fake_gateway import FakeGateway
from tests.storage_worker.worker_process import WorkerProcess, folder_of_workers
from tests.storage_worker.worker_under_test import KEY, pieces


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with folder_of_workers(tmp_path) as data:
        yield data


def run(folder: Path, *arguments: str) -> int:
    return admin.main(["--data-folder", str(folder), *arguments])


def test_a_copy_is_a_data_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tls").mkdir(mode=0o700)
    (folder / "tls" / "current.pem").write_text("a key")
    (folder / "gateway-0.lock").touch()
    (folder / "mail.journal.damaged-17").touch()
    WorkerProcess(folder)
    target = tmp_path / "copy"
    with FakeGateway(folder) as gateway:
        generation = gateway.hello(b"i" * 16).facts.generation
        [alice] = gateway.ask(Register("alice", KEY))
        assert isinstance(alice, Registered)
        gateway.ask(MarkAuthenticated(alice.client_id), StoreMessage(alice.client_id, True, alice.client_id, 3, b"abc"))
        assert run(folder, "backup", str(target), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("database_bytes") == (target / "mail.db").stat().st_size
    assert told.pop("pause_ms") >= 0
    assert told == {
        "type": "backup", "folder": str(target), "contents": 0, "content_bytes": 0, "missing": 0,
    }  # fmt: skip
    assert sorted(path.name for path in target.iterdir()) == ["bodies", "mail.db", "tls"]
    assert (target / "tls" / "current.pem").read_text() == "a key"
    assert target.stat().st_mode & 0o777 == 0o700
    assert (target / "mail.db").stat().st_mode & 0o077 == 0
    assert run(target, "check") == 0
    assert "Nothing is altered" in capsys.readouterr().out
    WorkerProcess(target)
    with FakeGateway(target) as gateway:
        welcome = gateway.hello(b"j" * 16)
        assert welcome.facts.generation > generation
        [mail] = gateway.ask(Fetch(alice.client_id, True, 0, 100, 0, 100, False))
        assert isinstance(mail, Fetched)
        assert [piece.content for piece in pieces(mail.page)] == [b"abc"]


def test_it_is_told_in_words(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = WorkerProcess(folder)
    with FakeGateway(folder) as gateway:
        gateway.hello(b"i" * 16)
    (tmp_path / "copy").mkdir(mode=0o755)
    assert run(folder, "backup", str(tmp_path / "copy")) == 0
    assert f"{tmp_path / 'copy'} is a copy of the data folder" in capsys.readouterr().out
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert worker.end() == 0
    assert f"a backup was made: {tmp_path / 'copy'}" in worker.log


def test_what_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "copy"
    assert run(folder, "backup", str(target)) == 78
    told = capsys.readouterr().err
    assert f"no storage worker is running on {folder}" in told
    assert f"`cp -a {folder} {target}`" in told
    assert not target.exists()
    WorkerProcess(folder)
    with FakeGateway(folder) as gateway:
        gateway.hello(b"i" * 16)
    assert run(folder, "backup", str(folder / "inside")) == 78
    assert "is inside the data folder" in capsys.readouterr().err
    target.mkdir()
    (target / "notes").touch()
    assert run(folder, "backup", str(target)) == 78
    assert "is not empty" in capsys.readouterr().err
    assert run(folder, "backup", str(tmp_path / "missing" / "copy")) == 78
    assert "can't be used: No such file or directory" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(folder, "backup", "")


def test_a_disk_without_room(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = os.statvfs(tmp_path)
    WorkerProcess(folder, "--free-space-mark", str(status.f_bavail * status.f_frsize * 3 // 4))
    with FakeGateway(folder) as gateway:
        gateway.hello(b"i" * 16)
    assert run(folder, "backup", str(tmp_path / "copy")) == 1
    assert "twice the free-space mark" in capsys.readouterr().err


def test_a_worker_that_stands_still(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_link, "PATIENCE", 0.2)
    worker = WorkerProcess(folder)
    with FakeGateway(folder) as gateway:
        gateway.hello(b"i" * 16)
    worker.process.send_signal(signal.SIGSTOP)
    assert run(folder, "backup", str(tmp_path / "copy")) == 1
    assert "whether it was done is unknown" in capsys.readouterr().err
