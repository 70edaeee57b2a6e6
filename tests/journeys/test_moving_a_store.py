"""A server's store moves to PostgreSQL and back: homes that fetch before and after it, and one that
is away meanwhile, with real programs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from storage_worker import admin
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.slow


def done(folder: Path, name: str, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "client", "--home", str(folder / name), "--save-dir", str(folder / "in"), *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(folder / "none.toml")},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return " ".join((ended.stdout + ended.stderr).split())


def started(folder: Path, data: Path, store: Sequence[str], port: int | None) -> Server:
    server = Server(folder / "server", data=data, store=store)
    if port is not None:
        # It is the same server for its clients.
        server.port = port
        (server.folder / "myport.info").write_text(f"{port}\n")
    return server.start()


def drain(server: Server) -> None:
    assert admin.main(["--data-folder", str(server.data), "drain"]) == 0
    for program in server.programs:
        assert program.process.wait(HANG_SECONDS) == 0


def test_to_postgresql_and_back(postgres: PostgresServer, tmp_path: Path) -> None:
    url, data, back = postgres.empty_database(), tmp_path / "data", tmp_path / "back"
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3_000_000))
    embedded = started(tmp_path, data, (), None)
    place = f"127.0.0.1:{embedded.port}"
    for name in ("alice", "bob", "away"):
        done(tmp_path, name, "--server", place, "register", name)
    done(tmp_path, "bob", "send", "alice", "one")
    assert "bob: one" in done(tmp_path, "alice", "recv")
    done(tmp_path, "bob", "send", "alice", "two")
    done(tmp_path, "bob", "send", "away", "--file", str(large))
    done(tmp_path, "alice", "block", "away")
    drain(embedded)

    assert admin.main(["move", str(data), url]) == 0
    moved = started(tmp_path, data, ("--store", url), embedded.port)
    assert "bob: two" in done(tmp_path, "alice", "recv")
    assert "two" not in done(tmp_path, "alice", "recv")
    done(tmp_path, "bob", "send", "alice", "three")
    done(tmp_path, "bob", "send", "away", "four")
    done(tmp_path, "away", "send", "alice", "from somebody blocked")
    assert "bob: three" in done(tmp_path, "alice", "recv")
    done(tmp_path, "bob", "send", "alice", "five")
    drain(moved)

    assert admin.main(["move", url, str(back)]) == 0
    again = started(tmp_path, back, (), embedded.port)
    received = done(tmp_path, "alice", "recv")
    assert "bob: five" in received
    assert "from somebody blocked" not in received
    told = done(tmp_path, "away", "recv")
    assert "bob: four" in told
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [large.read_bytes()]
    assert "away" in done(tmp_path, "alice", "blocked")
    for name in ("alice", "bob", "away"):
        assert "lost" not in done(tmp_path, name, "doctor")
    again.end()
