from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from storage_worker.engine.errors import StoreDamaged, StoreFull, StoreUnusable, TablesDamaged
from storage_worker.engine.sqlite.database import PAGE_SIZE, Database
from tests.storage_worker.worker_under_test import TO_VERSION_5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.abandon()


def test_what_a_crash_left_in_the_log_is_in_the_database_when_it_is_open(path: Path) -> None:
    database = Database(path)
    with database.transaction(synced=False):
        database.execute("INSERT OR REPLACE INTO ballast VALUES (2, zeroblob(40000))")
    database.abandon()
    log = path.with_name("mail.db-wal")
    assert log.stat().st_size > 40_000
    database = Database(path)
    assert log.stat().st_size == 0
    database.abandon()


def test_settings_that_durability_rests_on(database: Database) -> None:
    assert database.row("PRAGMA journal_mode") == ("wal",)
    assert database.row("PRAGMA synchronous") == (2,)
    assert database.row("PRAGMA wal_autocheckpoint") == (0,)


def test_a_transaction_is_kept_whole(database: Database, path: Path) -> None:
    with database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00', 0)")
    database.close()
    again = Database(path)
    assert again.row("SELECT generation, starts FROM store") == (1, 2)
    again.close()


def test_a_failed_transaction_leaves_nothing_and_its_error_passes(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00', 0)")
        raise ZeroDivisionError
    assert database.find("SELECT 1 FROM store") is None
    with database.transaction():
        pass


def test_a_bug_in_sql_is_no_store_error(database: Database) -> None:
    with pytest.raises(apsw.SQLError), database.transaction():
        database.execute("SELECT nonsense")


def test_full(path: Path) -> None:
    database = Database(path, size_limit=200 * 4096)
    with pytest.raises(StoreFull), database.transaction():
        database.execute("INSERT INTO ballast VALUES (2, zeroblob(1000000))")
    assert database.row("SELECT count(*) FROM ballast") == (1,)
    database.close()


def test_no_room_to_open(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no room"):
        Database(path, size_limit=10 * 4096)


def test_ballast(path: Path) -> None:
    database = Database(path, size_limit=220 * 4096)
    with database.transaction():
        database.drop_ballast()
        database.execute("CREATE TABLE plug (filler BLOB)")
        database.execute("INSERT INTO plug VALUES (zeroblob(500000))")
    assert not database.take_ballast()
    database.execute("DELETE FROM plug")
    assert database.unused_bytes() > 400_000
    assert database.take_ballast()
    assert database.row("SELECT count(*) FROM ballast") == (1,)
    database.close()


def test_ballast_that_was_missing_at_the_start_is_taken_again(path: Path) -> None:
    database = Database(path)
    database.drop_ballast()
    database.close()
    database = Database(path)
    assert database.take_ballast()
    assert database.row("SELECT count(*) FROM ballast") == (1,)
    database.close()


def test_checkpoints(path: Path) -> None:
    database = Database(path, checkpoint_bytes=1_000_000)
    wal = path.with_name("mail.db-wal")

    def due() -> bool:
        return database.checkpoint_due

    assert not due()
    with database.transaction():
        database.execute("INSERT INTO ballast VALUES (2, zeroblob(2000000))")
    assert due()
    assert path.stat().st_size < 2_000_000
    database.checkpoint()
    assert not due()
    assert path.stat().st_size > 2_000_000
    assert wal.stat().st_size > 2_000_000
    database.checkpoint(truncate=True)
    assert wal.stat().st_size == 0
    database.close()


def lasting(database: Database) -> bool:
    return database.lasting


def test_sizes_are_bytes_whatever_the_pages_are(path: Path) -> None:
    """Stores that earlier versions made have pages of 4096 bytes, and keep them."""
    Database(path, vfs="unix").close()
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM; PRAGMA journal_mode = WAL").fetchall()
    old.execute(f"{TO_VERSION_5} ALTER TABLE store DROP COLUMN journal; PRAGMA user_version = 4").fetchall()
    old.close()
    for page_size, where in ((4096, path), (PAGE_SIZE, path.with_name("new.db"))):
        database = Database(where, size_limit=3_000_000, checkpoint_bytes=1_000_000)
        assert database.row("PRAGMA page_size") == (page_size,)
        with database.transaction():
            database.execute("INSERT INTO ballast VALUES (2, zeroblob(2000000))")
        assert database.checkpoint_due
        with pytest.raises(StoreFull), database.transaction():
            database.execute("INSERT INTO ballast VALUES (3, zeroblob(1000000))")
        with database.transaction():
            database.execute("DELETE FROM ballast WHERE id = 2")
        assert 1_900_000 < database.unused_bytes() < 2_200_000
        database.close()


def test_what_is_not_synced_lasts_after_a_checkpoint_or_a_synced_transaction(path: Path) -> None:
    database = Database(path)
    assert lasting(database)
    for make_lasting in (database.checkpoint, database.make_lasting, lambda: database.checkpointed(database.commits)):
        with database.transaction(synced=False):
            database.execute("INSERT OR REPLACE INTO ballast VALUES (2, zeroblob(40000))")
            assert database.row("PRAGMA synchronous") == (1,)
        assert database.row("PRAGMA synchronous") == (2,)
        assert not lasting(database)
        assert database.checkpoint_due
        make_lasting()
        assert lasting(database)
    commits = database.commits
    database.make_lasting()
    assert database.commits == commits, "there was nothing to do"
    with database.transaction(synced=False):
        database.execute("DELETE FROM ballast WHERE id = 2")
    # A checkpoint that began before it says nothing of it.
    database.checkpointed(commits)
    assert not lasting(database)
    database.close()


def test_a_transaction_that_fails_changes_nothing_of_that(path: Path) -> None:
    database = Database(path)
    with pytest.raises(ZeroDivisionError), database.transaction(synced=False):
        database.execute("DELETE FROM ballast")
        raise ZeroDivisionError
    assert lasting(database)
    assert database.row("PRAGMA synchronous") == (2,)
    assert database.row("SELECT count(*) FROM ballast") == (1,)
    database.close()


def test_a_reader_holds_a_checkpoint_up_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_worker.engine.sqlite.database.BUSY_TIMEOUT_MS", 1)
    database = Database(path)
    beside = Database(path, beside=True)
    with database.transaction():
        database.execute("INSERT INTO ballast VALUES (2, zeroblob(40000))")
    beside.execute("BEGIN")
    beside.row("SELECT count(*) FROM ballast")
    with database.transaction():
        database.execute("INSERT INTO ballast VALUES (3, zeroblob(40000))")
    assert not database.checkpoint()
    assert not database.checkpoint(truncate=True)
    beside.execute("COMMIT")
    assert database.checkpoint()
    beside.close()
    assert database.row("SELECT count(*) FROM ballast") == (3,)
    database.close()


def test_another_writer_changes_the_data_version(database: Database, path: Path) -> None:
    before = database.data_version()
    with database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00', 0)")
    assert database.data_version() == before
    beside = Database(path, beside=True)
    with beside.transaction():
        beside.execute("UPDATE store SET generation = 5")
        assert beside.changes() == 1
    beside.close()
    assert database.data_version() != before


def test_beside_needs_a_store(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store"):
        Database(path, beside=True)
    assert not path.exists()


def test_not_a_database(path: Path) -> None:
    path.write_bytes(b"this is no database, it only has its name" * 100)
    with pytest.raises(StoreUnusable, match=r"is damaged .*backup"):
        Database(path)


def test_another_programs_database(path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE something (x)")
    other.close()
    with pytest.raises(StoreUnusable, match="not a database of this program"):
        Database(path)


@pytest.mark.parametrize(
    ("version", "next_step"), [(99, "Start the newer version"), (1, "start this one with a new folder")]
)
def test_another_schema(database: Database, path: Path, version: int, next_step: str) -> None:
    database.execute(f"PRAGMA user_version = {version}")
    database.close()
    with pytest.raises(StoreUnusable, match=f"schema version {version}, .*{next_step}"):
        Database(path)


def test_what_is_deleted_is_not_to_be_found_in_the_file(path: Path) -> None:
    database = Database(path)
    database.overwrite_deleted(always=True)
    with database.transaction():
        rows = [(number, number, number, b"what was fetched" * 2000) for number in range(1, 40)]
        database.execute_many("INSERT INTO mail_page VALUES (?, 2, ?, ?, 1, 0, NULL, ?, NULL)", rows)
        rows = [(number, number, number, b"what was fetched") for number in range(40, 4000)]
        database.execute_many("INSERT INTO mail_page VALUES (?, 2, ?, ?, 1, 0, NULL, ?, NULL)", rows)
    with database.transaction():
        database.execute("DELETE FROM mail_page WHERE row % 3")
    with database.transaction():
        database.execute("DELETE FROM mail_page")
    assert database.checkpoint(truncate=True)
    assert b"what was fetched" not in path.read_bytes() + path.with_name("mail.db-wal").read_bytes()
    database.close()


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnusable, match="can't be opened"):
        Database(path)


def test_a_damaged_file(database: Database, path: Path) -> None:
    database.close()
    content = bytearray(path.read_bytes())
    content[PAGE_SIZE * 3 : PAGE_SIZE * 4] = b"\xee" * PAGE_SIZE
    path.write_bytes(content)
    damaged = Database(path)
    with pytest.raises(StoreDamaged, match=r"mail.db is damaged.*scripts/admin check"), damaged.transaction():
        for table in ("user", "mail_page", "token_page", "slot"):
            list(damaged.execute(f"SELECT * FROM {table} ORDER BY 1"))
            list(damaged.execute(f"SELECT * FROM {table} ORDER BY 2, 3"))
    damaged.abandon()
    damaged.abandon()


def pages_of(database: Database, name: str) -> list[int]:
    """The numbers of the pages of a table or an index."""
    return [page for (page,) in database.execute("SELECT pageno FROM dbstat WHERE name = ?", (name,))]


@pytest.mark.parametrize(
    ("of", "sql"),
    [
        ("user", "SELECT name FROM user WHERE row = 7"),
        ("sqlite_autoindex_user_2", "SELECT row FROM user WHERE name = 'user 7'"),
        ("token_page", "SELECT names FROM token_page WHERE last = 7"),
        ("token_page_of_sender", "SELECT sum(tokens) FROM token_page WHERE sender = 1"),
        ("slot", "SELECT * FROM slot"),
        ("store", "SELECT * FROM store"),
        ("page_of_mailbox", "SELECT sum(messages) FROM mail_page WHERE recipient = 7"),
    ],
)
def test_no_altered_bit_of_a_table_or_an_index_is_believed(path: Path, of: str, sql: str) -> None:
    database = Database(path)
    with database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00', 0)")
        database.execute("INSERT INTO slot VALUES (0, 1, x'01', x'', 5, x'90', NULL)")
        for row in range(1, 20):
            database.execute(
                "INSERT INTO user (row, client_id, name, public_key) VALUES (?, ?, ?, x'02')",
                (row, bytes([row]), f"user {row}"),
            )
            database.execute("INSERT INTO token_page VALUES (?, 1, 1, 5, ?, x'04')", (row, bytes([row])))
            database.execute("INSERT INTO mail_page VALUES (?, ?, 1, 1, 1, 0, NULL, x'00', 1)", (row, row))
    found = list(database.execute(sql))
    pages = pages_of(database, of)
    assert len(found) == 1
    assert pages
    database.close()
    sound = path.read_bytes()
    chance = Random(of)
    for _ in range(40):
        at = (chance.choice(pages) - 1) * PAGE_SIZE + chance.randrange(PAGE_SIZE)
        content = bytearray(sound)
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        database = Database(path)
        with pytest.raises(StoreDamaged), database.reading():
            list(database.execute(sql))
        assert database.problems()
        database.abandon()


def test_a_header_that_knows_of_no_checksums_is_damage(database: Database, path: Path) -> None:
    database.close()
    content = bytearray(path.read_bytes())
    assert content[20] == 8
    content[20] = 0
    path.write_bytes(content)
    with pytest.raises(StoreUnusable, match=r"mail\.db is damaged .* no checksums"):
        Database(path)


def test_what_was_read_after_sqlite_undid_a_transaction_ends_it(database: Database) -> None:
    with database.transaction(), database.writing():
        database.refuse_undone(StoreDamaged("a page"))
    with pytest.raises(TablesDamaged, match="a page"), database.transaction():
        # As SQLite does by itself where a page that it reads is altered.
        database.execute("ROLLBACK")
        database.refuse_undone(StoreDamaged("a page"))
