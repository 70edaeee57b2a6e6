"""A primary and its standby: what survives the one, and as whom they run."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.postgres import Address, Node, Pair, PostgresFailed, programs, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="the wheel of PostgreSQL is not installed: scripts/test does that"),
]
WAITING = "SET synchronous_commit = on; "


@pytest.fixture
def folder() -> Iterator[Path]:
    """Which another user may come to, with a short path."""
    path = Path(tempfile.mkdtemp(prefix="messageu-pg-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def pair(folder: Path) -> Iterator[Pair]:
    pair = Pair(folder)
    try:
        pair.make()
        yield pair
    finally:
        pair.end()


def test_what_was_committed_survives_each_of_them(pair: Pair) -> None:
    pair.primary.tell("CREATE TABLE t (a bigint)")
    for number in range(1, 4):
        pair.primary.tell(f"{WAITING} INSERT INTO t VALUES ({number})")
        before = pair.primary
        before.kill()
        assert not before.running
        pair.promote()
        assert pair.primary is not before
        assert pair.primary.tell("SELECT count(*) FROM t") == str(number)
        pair.follow()
        assert pair.state() == "sync"


def test_what_only_the_old_one_had_is_undone(pair: Pair) -> None:
    pair.primary.tell(f"{WAITING} CREATE TABLE t (a bigint)")
    [*stopped] = pair.primary.suspend("walsender")
    assert stopped
    pair.primary.tell("INSERT INTO t VALUES (1)")
    assert pair.primary.tell("SELECT count(*) FROM t") == "1"
    pair.primary.kill()
    pair.promote()
    pair.follow()
    assert [node.tell("SELECT count(*) FROM t") for node in pair.nodes] == ["0", "0"]


def test_a_commit_goes_on_where_the_standby_is_given_up(pair: Pair) -> None:
    pair.standby.kill()
    pair.give_up_standby()
    pair.primary.tell(f"{WAITING} CREATE TABLE t (a bigint)")
    pair.follow()
    assert pair.standby.tell("SELECT count(*) FROM t") == "0"


def test_a_standby_that_lacks_log_is_copied_anew(pair: Pair) -> None:
    pair.primary.tell(f"{WAITING} CREATE TABLE t (a text)")
    pair.primary.kill()
    pair.promote()
    for _ in range(8):
        pair.primary.tell("INSERT INTO t SELECT repeat('x', 2000) FROM generate_series(1, 4000)")
        pair.primary.tell("CHECKPOINT")
    pair.follow()
    [why] = pair.copied
    assert "can't follow" in why
    assert pair.state() == "sync"
    assert pair.standby.tell("SELECT count(*) FROM t") == "32000"


def test_a_standby_is_there_when_commits_wait_for_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.primary.kill()
    pair.promote()
    pair.primary.tell("CREATE TABLE t (a bigint)")
    stopped: list[psutil.Process] = []
    really_run = Node.run

    def run(node: Node, program: str, *arguments: str) -> None:
        if program == "pg_rewind":
            stopped.extend(pair.primary.suspend("checkpointer"))
        really_run(node, program, *arguments)

    monkeypatch.setattr(Node, "run", run)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE query = 'CHECKPOINT' AND wait_event IS NOT NULL"
    found: list[str] = []

    def look() -> None:
        try:
            wait_for(lambda: stopped and pair.primary.tell(waits) == "1", "whoever asks whether commits wait")
            found.append(pair.state())
            stopped.extend(pair.primary.suspend("walsender"))
            pair.primary.tell(f"{WAITING} INSERT INTO t VALUES (1)")
            found.append(f"a commit that did not wait for {len(stopped) - 1}")
        finally:
            for process in stopped:
                process.resume()

    # A server ends with the thread that started it: so this one looks from beside.
    looking = threading.Thread(target=look)
    looking.start()
    pair.follow()
    looking.join()
    assert found == ["sync", "a commit that did not wait for 1"], "the server says so too early"
    pair.primary.tell(f"{WAITING} INSERT INTO t VALUES (2)")
    assert pair.standby.tell("SELECT count(*) FROM t") == "2"


def test_nothing_runs_as_root_or_is_open_to_others(pair: Pair, folder: Path) -> None:
    for node in pair.nodes:
        assert node.folder.stat().st_mode & 0o077 == 0
        assert node.tell("SHOW listen_addresses") == ""
        pid = int((node.data / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        assert {one.uids().effective for one in (process, *process.children(recursive=True))} - {0}
        assert 0 not in {one.uids().effective for one in (process, *process.children(recursive=True))}
    assert os.access(folder, os.X_OK)


def test_what_fails_says_why(folder: Path) -> None:
    node = Node("one", folder / "one", Address(str(folder / "one")), durable=False)
    with pytest.raises(PostgresFailed, match=r"pg_rewind of one failed: .*no source"):
        node.run("pg_rewind", "--target-pgdata=data")
    with pytest.raises(PostgresFailed, match="PostgreSQL one has ended"):
        node.answers()
    with pytest.raises(PostgresFailed, match="one: connection to server"):
        node.tell("SELECT 1")
