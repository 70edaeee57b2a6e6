from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import apsw
import pytest

from client.ciphers import SymmetricKey
from client.store import MessageState, NewMessage, Store
from common.errors import HomeInUse, StoreBroken
from common.values import ClientId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A = ClientId(b"a" * 16)
B = ClientId(b"b" * 16)
K1 = SymmetricKey(b"1" * 16)
K2 = SymmetricKey(b"2" * 16)
NOW = 1_700_000_000_000
MUCH_LATER = 1 << 60


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


def message(number: int, content: bytes = b"x", sender: ClientId = A, spool: str | None = None) -> NewMessage:
    return NewMessage(sender, 3, len(content), content, spool, content * 2, number, None, None, sender_proven=False)


def pull(store: Store, *messages: NewMessage, complete: bool = True) -> int:
    number = store.begin_pull()
    kept = store.add_pulled(messages, NOW, number)
    if complete:
        store.end_pull(number)
    return kept


def unread(store: Store) -> list[tuple[bytes | None, bool]]:
    """Show everything; contents, and whether they may be repeated."""
    found = []
    while (row := store.next_unread(0)) is not None:
        store.begin_showing(row.number, None)
        store.was_shown(row.number, readable=True)
        found.append((row.content, row.repeated))
    return found


def test_the_files_are_private(tmp_path: Path, store: Store) -> None:
    store.set_setting("a", "b")
    spool = store.new_spool_file()
    spool.keep()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes.pop("store.spool") == 0o700
    assert set(modes.values()) == {0o600}
    assert "store.db-wal" in modes


def test_an_open_mode_is_closed(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    (tmp_path / "store.db").chmod(0o644)
    Store.open(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600


def test_it_syncs_what_it_commits(store: Store) -> None:
    database = store._database
    assert next(database.execute("PRAGMA synchronous"))[0] == 2
    assert next(database.execute("PRAGMA journal_mode"))[0] == "wal"


def test_settings_outlive_the_program(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert store.setting("colour") is None
    store.set_setting("colour", "blue")
    store.set_setting("colour", "green")
    store.close()
    again = Store.open(tmp_path)
    assert again.setting("colour") == "green"
    again.close()


@pytest.mark.parametrize(
    "content", [b"this is no database, and longer than its header" * 10, b"SQLite format 3\0" * 90]
)
def test_a_damaged_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(StoreBroken, match=r"store\.db") as caught:
        Store.open(tmp_path)
    assert caught.value.advice
    assert (tmp_path / "store.db").read_bytes() == content


def test_another_programs_database(tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreBroken, match="not a store of MessageU"):
        Store.open(tmp_path)


def test_a_newer_schema(tmp_path: Path, store: Store) -> None:
    store._database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreBroken, match="another version"):
        Store.open(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreBroken, match="can't be used"):
        Store.open(tmp_path / "missing")


def test_a_busy_store(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.store._BUSY_MS", 1)
    other = Store.open(tmp_path)
    other._database.execute("BEGIN IMMEDIATE")
    store._database.set_busy_timeout(1)
    with pytest.raises(StoreBroken, match="busy"):
        store.set_setting("a", "b")
    other.close()
    store.set_setting("a", "b")


def test_a_full_disk(store: Store) -> None:
    store._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreBroken, match="no room"):
        store.set_setting("a", "b" * 1_000_000)
    assert store.setting("a") is None
    store._database.execute("PRAGMA max_page_count = 100000")
    store.set_setting("a", "b")


def test_an_unforeseen_failure(store: Store) -> None:
    store._database.execute("DROP TABLE setting")
    with pytest.raises(StoreBroken, match="can't be used"):
        store.setting("a")


def test_a_commit_that_fails_is_undone(store: Store) -> None:
    store._database.set_commit_hook(lambda: True)
    with pytest.raises(StoreBroken):
        store.set_setting("a", "b")
    store._database.set_commit_hook(None)
    assert store.setting("a") is None
    store.set_setting("a", "c")


def test_who_is_listed(store: Store) -> None:
    store.replace_list([(A, "alice"), (B, "bob")])
    store.replace_list([(B, "robert")])
    assert store.contacts() == [(A, "alice", False), (B, "robert", True)]


def test_keys_the_newest_first(store: Store) -> None:
    made = store.add_made_key(A, K1, NOW)
    assert [row.usable for row in store.keys(A)] == [False]
    store.confirm_key(made)
    store.add_received_key(A, K2, NOW, message=5)
    assert [(row.key, row.usable) for row in store.keys(A)] == [(K2, True), (K1, True)]
    store.drop_key(made)
    assert [row.key for row in store.keys(A)] == [K2]
    assert store.keys(B) == []


def test_a_key_that_is_received_twice_is_one(store: Store) -> None:
    store.add_received_key(A, K1, NOW, message=5)
    store.add_received_key(A, K2, NOW, message=6)
    store.add_received_key(A, K1, NOW, message=5)
    assert [row.key for row in store.keys(A)] == [K2, K1]


def test_messages_in_their_order(store: Store) -> None:
    assert pull(store, message(1, b"one"), message(2, b"two")) == 2
    assert pull(store, message(3, b"three")) == 1
    assert unread(store) == [(b"one", False), (b"two", False), (b"three", False)]
    assert store.next_unread(0) is None


def test_one_that_was_being_shown_is_repeated(store: Store) -> None:
    pull(store, message(1, b"one"), message(2, b"two"))
    row = store.next_unread(0)
    assert row is not None
    store.begin_showing(row.number, None)
    assert unread(store) == [(b"one", True), (b"two", False)]


def test_after_a_broken_pull_what_comes_again_is_passed_over(store: Store) -> None:
    pull(store, message(1, b"one"), message(2, b"two"), complete=False)
    pull(store, message(1, b"one"), complete=False)
    assert pull(store, message(1, b"one"), message(2, b"two"), message(3, b"three")) == 1
    assert unread(store) == [(b"one", False), (b"two", False), (b"three", False)]


def test_two_broken_pulls(store: Store) -> None:
    pull(store, message(1, b"one"), complete=False)
    pull(store, message(1, b"one"), message(2, b"two"), complete=False)
    assert pull(store, message(1, b"one"), message(2, b"two")) == 0
    assert len(unread(store)) == 2


def test_after_a_whole_pull_it_is_marked(store: Store) -> None:
    pull(store, message(1, b"one"))
    pull(store, message(1, b"one"))
    assert unread(store) == [(b"one", False), (b"one", True)]


def test_other_bytes_under_the_same_number_are_new(store: Store) -> None:
    pull(store, message(1, b"one"), complete=False)
    pull(store, message(1, b"uno"), message(2, b"one"), message(1, b"one", sender=B))
    assert unread(store) == [(b"one", False), (b"uno", False), (b"one", False), (b"one", False)]


def test_only_the_last_pull_can_come_again(store: Store) -> None:
    pull(store, message(1, b"one"))
    pull(store, message(2, b"two"))
    pull(store, message(1, b"one"))
    assert [repeated for _, repeated in unread(store)] == [False, False, False]


def test_an_empty_pull_changes_nothing_of_that(store: Store) -> None:
    pull(store, message(1, b"one"))
    pull(store)
    pull(store, message(1, b"one"))
    assert [repeated for _, repeated in unread(store)] == [False, True]


def test_the_unreadable_come_back_with_a_key(store: Store) -> None:
    pull(store, message(1, b"one"), message(2, b"two"), message(3, b"other", sender=B))
    for _ in range(3):
        row = store.next_unread(0)
        assert row is not None
        store.begin_showing(row.number, None)
        store.was_shown(row.number, readable=False)
    assert store.next_unread(0) is None
    store.add_received_key(A, K1, NOW, message=9)
    first = store.next_unread(0)
    assert first is not None
    assert (first.content, first.late, first.repeated) == (b"one", True, False)
    assert len(unread(store)) == 2


def test_large_contents(tmp_path: Path, store: Store) -> None:
    spool = store.new_spool_file()
    spool.write(b"ab")
    spool.write(b"cd")
    pull(store, message(1, b"abcd", spool=spool.keep())._replace(content=None))
    row = store.next_unread(0)
    assert row is not None
    assert row.spool is not None
    assert list(store.read_spool(row.spool, 3)) == [b"abc", b"d"]
    store.sweep(MUCH_LATER)
    assert (tmp_path / "store.spool" / row.spool).exists()
    store.begin_showing(row.number, tmp_path / "saved")
    store.was_shown(row.number, readable=True)
    assert list((tmp_path / "store.spool").iterdir()) == []


def test_the_spool_of_a_repeated_message_goes(tmp_path: Path, store: Store) -> None:
    for _ in range(2):
        spool = store.new_spool_file()
        spool.write(b"abcd")
        pull(store, message(1, b"abcd", spool=spool.keep()), complete=False)
    assert len(list((tmp_path / "store.spool").iterdir())) == 1


def test_what_a_crash_left_is_swept(tmp_path: Path, store: Store) -> None:
    store.sweep(MUCH_LATER)
    store.new_spool_file().keep()
    discarded = store.new_spool_file()
    discarded.discard()
    assert len(list((tmp_path / "store.spool").iterdir())) == 1
    store.sweep(MUCH_LATER)
    assert list((tmp_path / "store.spool").iterdir()) == []


def test_a_lost_large_content(store: Store) -> None:
    with pytest.raises(StoreBroken):
        list(store.read_spool("nothing", 10))


def test_one_receives(tmp_path: Path, store: Store) -> None:
    other = Store.open(tmp_path)
    with store.receiver(), pytest.raises(HomeInUse), other.receiver():
        pass
    with other.receiver():
        pass
    other.close()


def test_a_dead_process_receives_no_more(tmp_path: Path, store: Store) -> None:
    program = (
        "import os, pathlib, sys; from client.store import Store\n"
        "with Store.open(pathlib.Path(sys.argv[1])).receiver(): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    with store.receiver():
        pass


def test_states_are_those_of_the_queries() -> None:
    # The queries and partial indexes have these numbers written out.
    assert [state.value for state in MessageState] == [0, 1, 2, 3]
