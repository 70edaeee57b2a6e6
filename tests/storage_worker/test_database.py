from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from common.errors import StoreDamaged, StoreFull, StoreUnusable
from storage_worker.database import PAGE_SIZE, Database


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
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00')")
    database.close()
    again = Database(path)
    assert again.row("SELECT generation, starts FROM store") == (1, 2)
    again.close()


def test_a_failed_transaction_leaves_nothing_and_its_error_passes(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00')")
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
    database = Database(path, size_limit=200 * 4096)
    with database.transaction():
        database.drop_ballast()
        database.execute("CREATE TABLE plug (filler BLOB)")
        database.execute("INSERT INTO plug VALUES (zeroblob(580000))")
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
    Database(path).close()
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM; PRAGMA journal_mode = WAL").fetchall()
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
    monkeypatch.setattr("storage_worker.database.BUSY_TIMEOUT_MS", 1)
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
        database.execute("INSERT INTO store VALUES (1, x'00', 1, 2, 3, 4, x'00')")
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


def test_a_store_of_the_last_schema_is_brought_over(path: Path) -> None:
    database = Database(path)
    with database.transaction():
        database.execute("INSERT INTO slot VALUES (3, 1, x'01', x'', 5, x'90', NULL)")
    list(
        database.execute(
            "ALTER TABLE slot DROP COLUMN before; ALTER TABLE mail_page DROP COLUMN checksum; PRAGMA user_version = 2"
        )
    )
    database.close()
    beside = Database(path, beside=True)
    assert beside.row("PRAGMA user_version") == (2,), "another program's store is left as it is"
    beside.close()
    for _ in range(2):
        database = Database(path)
        assert database.row("PRAGMA user_version") == (4,)
        assert database.row("SELECT * FROM slot") == (3, 1, b"\x01", b"", 5, b"\x90", b"\x90")
        database.close()


def test_a_store_of_schema_3_is_brought_over_with_its_mail(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(path)
    list(database.execute("ALTER TABLE mail_page DROP COLUMN checksum; PRAGMA user_version = 3"))
    list(database.execute("INSERT INTO mail_page VALUES (1, 2, 3, 3, 1, 0, NULL, x'00')"))
    database.close()
    with caplog.at_level("INFO"):
        for _ in range(2):
            database = Database(path)
            assert database.row("PRAGMA user_version") == (4,)
            assert database.row("SELECT * FROM mail_page") == (1, 2, 3, 3, 1, 0, None, b"\0", None)
            database.close()
    assert caplog.messages == [f"{path} was of schema version 3 and is of version 4 now"]


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
    with pytest.raises(StoreDamaged, match=r"malformed.*scripts/admin check"), damaged.transaction():
        for table in ("user", "mail_page", "sent_token", "slot"):
            list(damaged.execute(f"SELECT * FROM {table} ORDER BY 1"))
            list(damaged.execute(f"SELECT * FROM {table} ORDER BY 2, 3"))
    damaged.abandon()
    damaged.abandon()
