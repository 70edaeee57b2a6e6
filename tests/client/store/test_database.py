from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest

from client.errors import StoreUnusable
from client.store.home_store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_it_syncs_what_it_commits(store: Store) -> None:
    database = store.database.connection
    assert next(database.execute("PRAGMA synchronous"))[0] == 2
    assert next(database.execute("PRAGMA journal_mode"))[0] == "wal"


@pytest.mark.parametrize(
    "content", [b"this is no database, and longer than its header" * 10, b"SQLite format 3\0" * 90]
)
def test_a_damaged_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(StoreUnusable, match=r"store\.db") as caught:
        Store.open(tmp_path)
    assert caught.value.advice
    assert (tmp_path / "store.db").read_bytes() == content


def test_another_programs_database(tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreUnusable, match="not a store of MessageU"):
        Store.open(tmp_path)


def test_a_newer_schema(tmp_path: Path, store: Store) -> None:
    store.database.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnusable, match="has schema version 99, and this program knows"):
        Store.open(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="can't be used"):
        Store.open(tmp_path / "missing")


def test_a_busy_store(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.store.database.BUSY_MS", 1)
    other = Store.open(tmp_path)
    other.database.connection.execute("BEGIN IMMEDIATE")
    store.database.connection.set_busy_timeout(1)
    with pytest.raises(StoreUnusable, match="busy"):
        store.settings.put("a", "b")
    other.close()
    store.settings.put("a", "b")


def test_a_full_disk(store: Store) -> None:
    store.database.connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnusable, match="no room"):
        store.settings.put("a", "b" * 1_000_000)
    assert store.settings.get("a") is None
    store.database.connection.execute("PRAGMA max_page_count = 100000")
    store.settings.put("a", "b")


def test_an_unforeseen_failure(store: Store) -> None:
    store.database.connection.execute("DROP TABLE setting")
    with pytest.raises(StoreUnusable, match="can't be used"):
        store.settings.get("a")


def test_a_commit_that_fails_is_undone(store: Store) -> None:
    store.database.connection.set_commit_hook(lambda: True)
    with pytest.raises(StoreUnusable):
        store.settings.put("a", "b")
    store.database.connection.set_commit_hook(None)
    assert store.settings.get("a") is None
    store.settings.put("a", "c")
