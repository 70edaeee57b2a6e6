"""One gateway and one storage worker over PostgreSQL: people who talk while everything is killed,
and what an operator does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from storage_worker import admin
from tests.journeys.consoles import one_message, share_a_key
from tests.postgres import PostgresServer
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.conftest import OpenConsole

pytestmark = pytest.mark.slow


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Of a store that `messageu-admin` has made."""
    url = postgres.empty_database()
    assert admin.main(["store", "create", "--store", url]) == 0
    return url


@pytest.fixture
def server(tmp_path: Path, url: str) -> Iterator[Server]:
    with Server(tmp_path / "server", worker_arguments=("--store", url)).start() as running:
        yield running


def test_people_talk_while_programs_are_killed(server: Server, open_console: OpenConsole, tmp_path: Path) -> None:
    alice, bob = (open_console(server, name) for name in ("alice", "bob"))
    for console, name in ((alice, "alice"), (bob, "bob")):
        assert f"Registered as {name}." in console.choose("110", name)
    share_a_key(alice, bob)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(256)) * 12_000)
    assert alice.choose("153", "bob", str(large)).endswith("Sent to bob.\n")
    server.worker.kill()
    server.start()
    assert alice.choose("150", "bob", "after a kill").endswith("Sent to bob.\n")
    server.gateway.kill()
    server.start()
    printed = bob.choose("140")
    [path] = [line for line in printed.split("\n") if line.startswith(str(bob.received))]
    assert (bob.received / path).read_bytes() == large.read_bytes()
    assert printed.endswith(one_message("alice", "after a kill"))
    assert bob.choose("140") == "No messages wait.\n"
    assert not (server.data / "mail.db").exists()


def test_what_an_operator_asks_of_the_worker(
    server: Server, open_console: OpenConsole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Registered as alice." in open_console(server, "alice").choose("110", "alice")

    def asked(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = admin.main(["--data-folder", str(server.data), *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    code, said = asked("users")
    assert (code, "alice" in said) == (0, True), said
    code, said = asked("stats")
    assert code == 0, said
    assert asked("disable", "alice")[0] == asked("enable", "alice")[0] == 0
    assert asked("expire", "30")[0] == asked("log-level", "debug")[0] == 0
    code, said = asked("backup", str(tmp_path / "copy"))
    assert code != 0
    assert "whose own tools back it up while it is served: pg_dump" in said
    code, said = asked("invite")
    assert code == 78
    assert "there is no store in" in said
    assert not (server.data / "mail.db").exists()


def test_a_second_worker_takes_over_and_the_first_one_ends(server: Server, url: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    later = subprocess.Popen(
        [sys.executable, "-P", "-m", "storage_worker", "--data-folder", str(other), "--store", url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        assert later.stderr is not None
        wait_until(lambda: b"started: PostgreSQL at" in later.stderr.readline(), "the later one")  # type: ignore[union-attr]
        # A request whose turn the first one tries to append.
        server.answers()
        wait_until(lambda: server.answers() or not server.worker.running, "the end of the first one")
        assert server.worker.process.wait(HANG_SECONDS) == 78
        assert "another storage worker has taken the shard over" in server.worker.said()
    finally:
        later.terminate()
        later.communicate(timeout=HANG_SECONDS)


def test_a_server_that_goes_away_ends_the_worker(tmp_path: Path) -> None:
    with PostgresServer() as postgres:
        url = postgres.empty_database()
        assert admin.main(["store", "create", "--store", url]) == 0
        with Server(tmp_path / "server", worker_arguments=("--store", url)).start() as server:
            postgres.kill()
            wait_until(lambda: server.answers() or not server.worker.running, "the end of the worker")
            assert server.worker.process.wait(HANG_SECONDS) == 1
            assert "the store failed, nothing more can be promised" in server.worker.said()
            server.worker.start()
            assert server.worker.process.wait(HANG_SECONDS) == 1
            assert "can't be reached" in server.worker.said()
            postgres.start()
            server.start()
