"""A store from outside is checked row by row: whatever this program would not write is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import apsw
import pytest

from client.errors import StoreUnusable
from client.store import foreign as module
from client.store.foreign import check_foreign_store
from client.store.home_store import Store
from client.store.inbox import NewMessage
from client.store.schema import APPLICATION_ID, FIRST, LATER_PARTS, VERSION
from client.store.sent import Outgoing
from common.values import ClientId, MessageKind, Token

if TYPE_CHECKING:
    from pathlib import Path

BOB = ClientId(b"b" * 16)
NOW = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a row in every table, and large contents."""
    opened = Store.open(tmp_path)
    opened.settings.put("published_only", "0")
    opened.contacts.replace_list([(BOB, "bob")])
    spools = [opened.spools.new(), opened.spools.new()]
    for spool in spools:
        spool.write(bytes(100_000))
    names = [spool.keep() for spool in spools]
    message = NewMessage(BOB, 3, 100_000, None, names[0], bytes(32), 7, b"t" * 16, NOW, True)
    opened.server.remember(b"s" * 16, 5, 0)
    opened.inbox.add_fetched([message], NOW, 5)
    small = message._replace(token=None, spool=None, content=b"x", size=1)
    opened.inbox.add_pulled([small], NOW, opened.inbox.begin_pull())
    opened.outbox.add(
        BOB, MessageKind.FILE, 100_000, names[1], Token(b"u" * 16), None, NOW, Outgoing(None, "/tmp/file"), None
    )
    sent = opened.outbox.add(BOB, MessageKind.KEY_REQUEST, 0, b"", Token(b"v" * 16), None, NOW)
    opened.outbox.stored(sent, 1, NOW)
    opened.close()
    return tmp_path


def change(home: Path, statement: str) -> None:
    connection = apsw.Connection(str(home / "store.db"))
    connection.execute(statement)
    connection.close()


def check(home: Path) -> None:
    check_foreign_store(home / "store.db", home / "store.spool")


@pytest.mark.parametrize("name", ["Zoë", "山田太郎", "xn--Zo-ija", "O'Brien-1"])
def test_names_beyond_ascii_pass(store: Path, name: str) -> None:
    quoted = name.replace("'", "''")
    change(store, f"INSERT INTO contact (client_id, name, listed) VALUES (zeroblob(16), '{quoted}', 1)")
    check(store)


def test_what_we_wrote_passes_and_nothing_is_written(store: Path) -> None:
    before = {path.name: path.read_bytes() for path in store.iterdir() if path.is_file()}
    check(store)
    assert {path.name: path.read_bytes() for path in store.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_so_does_every_version_of_ours(tmp_path: Path, version: int) -> None:
    connection = apsw.Connection(str(tmp_path / "store.db"))
    connection.execute(FIRST)
    for added_in, part in LATER_PARTS:
        if added_in <= version:
            connection.execute(part)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    check(tmp_path)
    Store.open(tmp_path).close()


def test_every_column_has_its_condition(store: Path) -> None:
    connection = apsw.Connection(str(store / "store.db"))
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in tables:
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        assert columns - {"spool", "one", "name"} == module.COLUMNS[table].keys() - {"name"}, table
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inbox SET spool = '/etc/passwd' WHERE spool IS NOT NULL",
        "UPDATE outbox SET spool = '/etc/passwd'",
        "UPDATE outbox SET spool = '../my.info'",
        "UPDATE outbox SET spool = ''",
        "UPDATE outbox SET spool = '0123456789abcdef0123456789abcdeg'",
        "UPDATE outbox SET spool = '0123456789abcdef0123456789abcdef'",
        "UPDATE outbox SET size = 99999",
        "UPDATE outbox SET content = x'00'",
        "UPDATE outbox SET kind = 6",
        "UPDATE outbox SET queued_at = 253402300800000",
        "UPDATE outbox SET queued_at = -1",
        "UPDATE outbox SET again = 2",
        "UPDATE outbox SET digest = x'00'",
        "UPDATE acknowledged SET lost = 2",
        "UPDATE acknowledged SET digest = x'00'",
        "UPDATE acknowledged SET kind = 6",
        "UPDATE inbox SET sender = x'00'",
        "UPDATE inbox SET state = 4",
        "UPDATE inbox SET accepted_at = -1",
        "UPDATE inbox SET received_at = 9223372036854775807",
        "UPDATE inbox SET digest = x''",
        "UPDATE server SET ack = -1",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'inbox'",
        "INSERT INTO contact (client_id, name, listed) VALUES (zeroblob(16), 'a' || char(27), 1)",
        "INSERT INTO contact (client_id, name, listed) VALUES (zeroblob(16), 'a' || char(155), 1)",
        "INSERT INTO rewrite VALUES ('my.info', '')",
        "INSERT INTO setting VALUES ('watch_cursor', 'x')",
        "INSERT INTO setting VALUES ('watch_cursor', '99999999999999999')",
        "INSERT INTO setting VALUES ('watch_aside:1', '')",
        "INSERT INTO setting VALUES ('watch_aside:000000000000000x', '')",
        "INSERT INTO setting VALUES ('watch_tries:0000000000000001', 'many')",
        "INSERT INTO setting VALUES ('watch_tries:0000000000000001', '')",
        "UPDATE inbox SET saved_path = '/etc/passwd' WHERE state = 0",
        "UPDATE sent SET path = CAST(x'2f746d702fff' AS TEXT)",
        "UPDATE contact SET name = CAST(x'62ff' AS TEXT)",
        "UPDATE setting SET value = CAST(x'ff' AS TEXT)",
        "CREATE TRIGGER t AFTER UPDATE ON inbox BEGIN DELETE FROM outbox; END",
        "CREATE VIEW v AS SELECT * FROM inbox",
        "CREATE TABLE more (a)",
        "DROP INDEX inbox_token",
        "ALTER TABLE inbox ADD COLUMN more TEXT",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 1",
    ],
)
def test_what_no_messageu_wrote_is_refused(store: Path, statement: str) -> None:
    change(store, statement)
    with pytest.raises(StoreUnusable):
        check(store)


def test_a_link_in_the_place_of_a_large_content(store: Path, tmp_path: Path) -> None:
    (spool, *_) = (store / "store.spool").iterdir()
    spool.unlink()
    (tmp_path / "bait").write_bytes(bytes(100_000))
    spool.symlink_to(tmp_path / "bait")
    with pytest.raises(StoreUnusable, match="is not there"):
        check(store)


def test_a_schema_that_is_not_text(store: Path) -> None:
    """A flipped bit in a comment of what SQLite keeps of the tables themselves."""
    path = store / "store.db"
    whole = path.read_bytes()
    assert b" -- " in whole
    path.write_bytes(whole.replace(b" -- ", b" --\xa7"))
    with pytest.raises(StoreUnusable, match="not UTF-8"):
        check(store)


def test_a_text_that_is_not_utf8_in_a_home(store: Path) -> None:
    change(store, "UPDATE contact SET name = CAST(x'62ff' AS TEXT)")
    opened = Store.open(store)
    with pytest.raises(StoreUnusable, match="not UTF-8"):
        opened.contacts.names_near("bab", 5)
    opened.close()


def test_a_damaged_page(store: Path) -> None:
    path = store / "store.db"
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(path.stat().st_size - 2 * 4096))
    with pytest.raises(StoreUnusable):
        check(store)
