"""A journal that is damaged: the start refuses, and the recovery goes on with what is whole."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from common.fail_points import VARIABLE, FailPoint
from common.storage_protocol.operations import Pull, Pulled
from storage_worker import admin
from storage_worker.engine.errors import JournalDamaged
from storage_worker.engine.sqlite.folder import JOURNAL_NAMES
from tests.storage_worker.worker_process import ROOT
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, pieces
from torture.patience import HANG_SECONDS

RECOVERY = [point for point in FailPoint if point.startswith("recovery")]


def recover(folder: Path, **environment: str) -> int:
    """The command as a process; its exit code."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "storage_worker.admin", "--data-folder", str(folder), "recover-journal"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
        capture_output=True,
        timeout=HANG_SECONDS,
    ).returncode


class Damaged(NamedTuple):
    """A journal's file with a flipped bit in the third of six messages to `recipient`."""

    path: Path
    content: bytes
    recipient: bytes
    generation: int


def damage(folder: Path) -> Damaged:
    """Make a store whose journal is damaged."""
    worker = SqliteWorker(folder)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    generation = worker.facts.generation
    ends = []
    for number in range(6):
        gateway.store(alice, bob, b"message %d" % number)
        ends.append(worker.journal.used)
    worker.kill()
    [name] = [name for name in JOURNAL_NAMES if (folder / name).read_bytes().strip(b"\0")]
    content = bytearray((folder / name).read_bytes())
    content[(ends[1] + ends[2]) // 2] ^= 4
    (folder / name).write_bytes(content)
    return Damaged(folder / name, bytes(content), bob, generation)


def assert_all_but_the_third(worker: SqliteWorker, recipient: bytes) -> None:
    """Fetch, as a gateway that was not there before."""
    leased = Gateway(worker, incarnation=b"i" * 16).one(Pull(1, recipient, False, 10**6, 0, 10**6))
    assert isinstance(leased, Pulled)
    assert [piece.content for piece in pieces(leased.page)] == [b"message %d" % number for number in (0, 1, 3, 4, 5)]


@pytest.mark.parametrize("point", [f"{point}:{number}" for point in RECOVERY for number in (1, 2)])
def test_killed_at_any_place_it_loses_nothing_and_can_be_run_again(tmp_path: Path, point: str) -> None:
    if point.endswith(":2") and not point.startswith(FailPoint.RECOVERY_KEPT):
        pytest.skip("it is passed once")
    damaged = damage(tmp_path)
    assert recover(tmp_path, **{VARIABLE: point}) == -signal.SIGKILL
    taken_in = not point.startswith((FailPoint.RECOVERY_KEPT, FailPoint.RECOVERY_GENERATION, FailPoint.RECOVERY_OPENED))
    if not taken_in:
        # Until all that is whole is in the database a start refuses, so that nobody goes on without
        # it.
        with pytest.raises(JournalDamaged):
            SqliteWorker(tmp_path)
    assert recover(tmp_path) == 0
    copies = [kept.read_bytes() for kept in tmp_path.glob(f"{damaged.path.name}.damaged-*")]
    assert damaged.content in copies
    assert not [*tmp_path.glob("*.new")]
    worker = SqliteWorker(tmp_path)
    assert worker.facts.generation > damaged.generation
    assert_all_but_the_third(worker, damaged.recipient)
    worker.kill()


def test_senders_are_told_also_where_it_is_killed_behind_its_work_and_not_run_again(tmp_path: Path) -> None:
    worker = SqliteWorker(tmp_path)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    generation = worker.facts.generation
    gateway.store(alice, alice, b"mail")
    worker.kill()
    assert recover(tmp_path, **{VARIABLE: f"{FailPoint.RECOVERY_TAKEN_IN}:1"}) == -signal.SIGKILL
    worker = SqliteWorker(tmp_path)
    assert worker.facts.generation > generation
    worker.kill()


def test_what_is_whole_is_recovered_and_the_files_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = damage(tmp_path)
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="recover-journal"):
            SqliteWorker(tmp_path)
        assert damaged.path.read_bytes() == damaged.content
    assert admin.main(["--data-folder", str(tmp_path), "recover-journal"]) == 0
    said = capsys.readouterr().out
    assert "gaps: 1." in said
    assert [kept.read_bytes() for kept in tmp_path.glob(f"{damaged.path.name}.damaged-*")] == [damaged.content]
    worker = SqliteWorker(tmp_path)
    assert worker.facts.generation > damaged.generation
    assert_all_but_the_third(worker, damaged.recipient)
    worker.kill()
