"""A home whose store an earlier version made is converted when it is opened, and the command that
opened it reports it once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from client.errors import StoreUnwritable
from client.store.database import Database
from client.store.home_store import Store
from client.store.schema import APPLICATION_ID, FIRST, LATER_PARTS, VERSION
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def old_home(home: Path, version: int) -> Path:
    """A home with a store of a version, and nothing in it."""
    home.mkdir(mode=0o700)
    (home / "server.info").write_text("127.0.0.1:1\n")
    database = apsw.Connection(str(home / "store.db"))
    database.execute(FIRST)
    for added_in, part in LATER_PARTS:
        if added_in <= version:
            database.execute(part)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}")
    database.close()
    return home


def sentence(home: Path, version: int) -> str:
    return (
        f"{home}/store.db was of schema version {version} and is of version {VERSION} now; an older MessageU can't "
        "open it any more."
    )


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "client", "--home", str(home), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, input="0\n", text=True, capture_output=True, check=False,
        timeout=HANG_SECONDS,
    )  # fmt: skip


@pytest.mark.parametrize("version", range(1, VERSION))
def test_each_earlier_version_is_named_once(tmp_path: Path, version: int) -> None:
    home = old_home(tmp_path / "home", version)
    store = Store.open(home)
    assert store.conversion == sentence(home, version)
    another = store.another()
    assert another.conversion is None
    another.close()
    store.close()


def test_a_new_store_was_not_converted(tmp_path: Path) -> None:
    for _ in range(2):
        store = Store.open(tmp_path)
        assert store.conversion is None
        store.close()


def test_a_copy_in_memory_is_no_conversion(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home", 1)
    copy = Database.open_copy(home / "store.db", StoreUnwritable("It is full."))
    assert copy.converted_from is None
    copy.close()


def test_a_command_says_so_once(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home", VERSION - 1)
    assert sentence(home, VERSION - 1) in " ".join(run(home, "whoami").stderr.split())
    assert "schema version" not in run(home, "whoami").stderr


def test_in_json_it_is_a_note(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home", VERSION - 1)
    notes = [json.loads(line) for line in run(home, "--json", "whoami").stderr.splitlines()]
    assert sentence(home, VERSION - 1) in [note.get("text") for note in notes]


def test_the_console_says_so_beside_what_it_prints(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home", VERSION - 1)
    first, second = run(home), run(home)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stderr == f"messageu: {sentence(home, VERSION - 1)}\n"
    assert second.stderr == ""
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["config", "show"],
        ["export", "{here}/backup", "--passphrase-file", "{here}/pass"],
        ["passphrase", "set", "--new-passphrase-file", "{here}/pass"],
    ],
)
def test_a_command_that_needs_no_messenger_says_so(tmp_path: Path, words: list[str]) -> None:
    home = old_home(tmp_path / "home", VERSION - 1)
    (tmp_path / "pass").write_text("correct horse")
    done = run(home, *(word.format(here=tmp_path) for word in words))
    assert sentence(home, VERSION - 1) in " ".join(done.stderr.split())
    assert done.stderr.count("schema version") == 1
    assert "schema version" not in run(home, "config", "show").stderr


@pytest.mark.parametrize("command", ["doctor", "address"])
def test_a_command_that_looks_at_the_home_first_says_so_once(tmp_path: Path, command: str) -> None:
    home = old_home(tmp_path / "home", VERSION - 1)
    done = run(home, command)
    assert sentence(home, VERSION - 1) in " ".join(done.stderr.split())
    assert done.stderr.count("schema version") == 1
