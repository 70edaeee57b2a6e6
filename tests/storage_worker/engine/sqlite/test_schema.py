"""Databases of earlier versions are upgraded with everything in them."""

from pathlib import Path

import apsw
import pytest
from msgspec.structs import astuple

from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.records import TokenUsed
from storage_worker.engine.sqlite import schema
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.send_tokens import read_all
from tests.storage_worker.worker_under_test import (
    TO_VERSION_5,
    TO_VERSION_6,
    TO_VERSION_7,
    TO_VERSION_8,
    TO_VERSION_9,
    TO_VERSION_10,
    TO_VERSION_11,
    TO_VERSION_12,
    TO_VERSION_13,
)

INSERT_USER = "INSERT INTO user (row, client_id, name, public_key, proven, deleted) VALUES"
SELECT_USER = "SELECT row, client_id, name, public_key, proven, deleted FROM user"
ALICE = (1, b"\1", "alice", b"\2", 1, 0)
TO_VERSION_4 = f"{TO_VERSION_5} ALTER TABLE store DROP COLUMN journal;"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.db"


def made_older(path: Path, version: int) -> None:
    """The store as that version left it: without what later ones added, its pages without
    checksums.
    """
    old = apsw.Connection(str(path))
    old.execute(TO_VERSION_4).fetchall()
    if version < 4:
        old.execute("ALTER TABLE mail_page DROP COLUMN checksum").fetchall()
    if version < 3:
        old.execute("ALTER TABLE slot DROP COLUMN before").fetchall()
    old.execute(f"PRAGMA user_version = {version}").fetchall()
    old.close()
    assert path.read_bytes()[20] == 0


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("broken_off", [False, True])
def test_a_store_of_an_earlier_schema_is_brought_over_with_all_that_is_in_it(
    path: Path, version: int, broken_off: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(path, vfs="unix")
    with database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00', 0)")
        database.execute(f"{INSERT_USER} (1, x'01', 'alice', x'02', 1, 0)")
        database.execute("INSERT INTO slot VALUES (3, 1, x'01', x'', 5, x'90', x'90')")
        database.execute("INSERT INTO mail_page VALUES (1, 2, 3, 3, 1, 0, NULL, x'00', NULL)")
    database.close()
    made_older(path, version)
    beside = Database(path, beside=True)
    assert beside.row("PRAGMA user_version") == (version,), "another program's store is left as it is"
    beside.close()
    if broken_off:
        # All pages are written anew, and then the process is gone.
        with monkeypatch.context() as patch, pytest.raises(apsw.SQLError):
            patch.setattr(schema, "UPGRADE_FROM_4", "no SQL")
            Database(path)
        beside = Database(path, beside=True)
        with beside.transaction():
            beside.execute("UPDATE slot SET epoch = 1")
        beside.close()
        caplog.clear()
    with caplog.at_level("INFO"):
        for _ in range(2):
            database = Database(path)
            assert database.row("PRAGMA user_version") == (schema.VERSION,)
            assert database.row("SELECT * FROM store") == (1, b"\0", 1, 2, 3, 4, b"\0", 0)
            assert database.row(SELECT_USER) == ALICE
            assert database.row("SELECT * FROM name_look") == ("alice", 0, 1)
            assert database.row("SELECT * FROM slot") == (3, 1, b"\x01", b"", 5, b"\x90", b"\x90")
            assert database.row("SELECT * FROM mail_page") == (1, 2, 3, 3, 1, 0, None, b"\0", None)
            assert database.problems() == []
            database.close()
    # What broke off had come to version 4.
    was = 4 if broken_off else version
    assert caplog.messages == [f"{path} was of schema version {was} and is of version {schema.VERSION} now"]
    # In the table and in its index.
    path.write_bytes(path.read_bytes().replace(b"alice", b"alicf"))
    database = Database(path)
    with pytest.raises(StoreDamaged, match="a page is not as it was written"), database.reading():
        database.row("SELECT name FROM user")
    database.abandon()


def test_a_store_of_version_5_learns_what_its_names_look_like(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        for row, name in enumerate(("IVAN", "ivan", "alice"), 1):
            database.execute(
                f"{INSERT_USER} (?, ?, ?, x'02', 1, 0)",
                (row, bytes([row]), name),
            )
        list(database.execute(f"{TO_VERSION_5} PRAGMA user_version = 5"))
    database.close()
    for _ in range(2):
        database = Database(path)
        found = sorted(database.execute("SELECT look, beyond_ascii, user FROM name_look"))
        assert found == [("alice", 0, 3), ("ivan", 0, 1), ("ivan", 0, 2), ("lvan", 0, 1)]
        assert database.problems() == []
        database.close()


@pytest.mark.parametrize(("version", "statements"), [(5, TO_VERSION_5), (6, TO_VERSION_6)])
@pytest.mark.parametrize("broken_off", [False, True])
def test_a_store_of_the_last_versions_keeps_all_but_what_was_deleted(
    path: Path, version: int, statements: str, broken_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These versions left the bytes of what it deleted where they were."""
    database = Database(path)
    list(database.execute("PRAGMA secure_delete = OFF"))
    with database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00', 0)")
        database.execute(f"{INSERT_USER} (1, x'01', 'alice', x'02', 1, 0)")
        pages = [(number, number, number, b"what was fetched" * 2000) for number in range(1, 4)]
        database.execute_many("INSERT INTO mail_page VALUES (?, 2, ?, ?, 1, 0, NULL, ?, NULL)", pages)
        database.execute("DELETE FROM mail_page")
    list(database.execute(f"{statements} PRAGMA user_version = {version}"))
    database.close()
    assert b"what was fetched" in path.read_bytes()
    if broken_off:
        with monkeypatch.context() as patch, pytest.raises(apsw.SQLError):
            patch.setattr(schema, "UPGRADE_FROM_6", "no SQL")
            Database(path)
    database = Database(path)
    assert database.row("PRAGMA user_version") == (schema.VERSION,)
    assert database.row(SELECT_USER) == ALICE
    assert database.row("SELECT count(*) FROM deleted_user") == (0,)
    assert database.row("SELECT count(*) FROM invitation") == (0,)
    assert database.problems() == []
    database.close()
    assert b"what was fetched" not in path.read_bytes()


def test_a_store_of_version_7_begins_to_note_the_days(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute(f"{INSERT_USER} (1, x'01', 'alice', x'02', 1, 0)")
    list(database.execute(f"{TO_VERSION_7} PRAGMA user_version = 7"))
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.row("SELECT count(*) FROM day") == (0,)
        assert database.row(SELECT_USER) == ALICE
        assert database.problems() == []
        database.close()


def test_users_of_version_8_are_brought_over(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute(f"{INSERT_USER} (1, x'01', 'a', x'02', 1, 0)")
    list(database.execute(f"{TO_VERSION_8} PRAGMA user_version = 8"))
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.row("SELECT name, registered, seen, disabled FROM user") == ("a", None, None, 0)
        assert database.problems() == []
        database.close()


def test_nobody_is_blocked_in_a_store_of_version_9(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute(f"{INSERT_USER} (1, x'01', 'a', x'02', 1, 0)")
        database.execute("UPDATE user SET registered = 5, seen = 6, disabled = 1")
        database.execute("INSERT INTO day VALUES (5, 7)")
    list(database.execute(f"{TO_VERSION_9} PRAGMA user_version = 9"))
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.row("SELECT count(*) FROM block") == (0,)
        assert database.row("SELECT name, registered, seen, disabled FROM user") == ("a", 5, 6, 1)
        assert database.row("SELECT day, sequence FROM day") == (5, 7)
        assert database.problems() == []
        database.close()


def test_a_store_of_version_10_has_run_for_no_hour_yet(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute(f"{INSERT_USER} (1, x'01', 'a', x'02', 1, 0)")
        database.execute("UPDATE user SET seen = 6")
        database.execute("INSERT INTO block VALUES (1, 2)")
    list(database.execute(f"{TO_VERSION_10} PRAGMA user_version = 10"))
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.row("SELECT count(*) FROM running_time") == (0,)
        assert database.row("SELECT name, seen FROM user") == ("a", 6)
        assert database.row("SELECT user, sender FROM block") == (1, 2)
        assert database.problems() == []
        database.close()


def test_nobody_has_published_keys_in_a_store_of_version_11(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute(f"{INSERT_USER} (1, x'01', 'alice', x'02', 1, 0)")
    list(database.execute(f"{TO_VERSION_11} PRAGMA user_version = 11"))
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.row("SELECT keys FROM user") == (None,)
        assert database.find("SELECT * FROM published_key") is None
        assert database.problems() == []
        database.close()


def test_tokens_of_version_12_are_brought_over_a_page_for_each_sender(path: Path) -> None:
    database = Database(path)
    list(database.execute(f"{TO_VERSION_12} PRAGMA user_version = 12"))
    tokens = [
        TokenUsed(sequence, sequence % 3 + 1, sequence.to_bytes(16, "big"), 2**40, 3, bytes([sequence]) * 32, 10**12)
        for sequence in range(5, 205)
    ]
    database.execute_many("INSERT INTO sent_token VALUES (?, ?, ?, ?, ?, ?, ?)", [astuple(one) for one in tokens])
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert sorted(read_all(database), key=lambda one: one.sequence) == tokens
        pages = list(database.execute("SELECT last, sender, tokens, accepted_at FROM token_page ORDER BY sender"))
        assert pages == [(204, 1, 67, 10**12), (202, 2, 66, 10**12), (203, 3, 67, 10**12)]
        assert database.problems() == []
        database.close()


def test_where_users_were_deleted_tokens_of_version_12_leave_nothing_behind(path: Path) -> None:
    """They lie in pages of the file that are free afterwards."""
    digest = b"what was sent under the token 12"
    database = Database(path)
    list(database.execute(f"{TO_VERSION_12} PRAGMA user_version = 12"))
    database.execute("INSERT INTO deleted_user (row, name, id_digest) VALUES (9, NULL, x'01')")
    rows = [(sequence, 1, sequence.to_bytes(16, "big"), 2, 3, digest, 10**12) for sequence in range(1, 1025)]
    database.execute_many("INSERT INTO sent_token VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    database.close()
    database = Database(path)
    database.execute("DELETE FROM token_page")
    assert database.row("PRAGMA freelist_count")[0] > 0
    database.close()
    assert digest not in path.read_bytes()


def test_nothing_is_half_taken_in_in_a_store_of_version_13(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute("INSERT INTO token_page VALUES (7, 1, 1, 5, x'01', x'02')")
    list(database.execute(f"{TO_VERSION_13} PRAGMA user_version = 13"))
    database.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (schema.VERSION,)
        assert database.find("SELECT * FROM moved") is None
        assert database.row("SELECT * FROM token_page") == (7, 1, 1, 5, b"\1", b"\2")
        assert database.problems() == []
        database.close()
