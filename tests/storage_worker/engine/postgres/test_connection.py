"""The connection: values, errors, transactions, and commits that no standby may have."""

import socket
import tempfile
from collections.abc import Iterator

import pytest

from storage_worker.engine.errors import StoreFailed, StoreFull, StoreUnusable
from tests.postgres import PostgresServer
from torture.programs import wait_until

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres.connection import Connection, ServerAddress, shown


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    opened = Connection(url, "public")
    with opened.transaction():
        opened.run_script("DROP TABLE IF EXISTS t; CREATE TABLE t (a bigint PRIMARY KEY, b bytea)")
    yield opened
    opened.close()


def numbers(connection: Connection) -> list[int]:
    return [row[0] for row in connection.rows("SELECT a FROM t ORDER BY a")]


class TestValues:
    def test_they_come_back_as_they_went(self, connection: Connection) -> None:
        row = (2**62, -1, b"\0\xff", "grüß", None, True)
        assert connection.rows("SELECT $1::bigint, $2::bigint, $3::bytea, $4::text, $5::bigint, $6::boolean", *row) == [
            row
        ]

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            ("bigint", [1, None, -(2**62)]),
            ("bigint", []),
            ("bigint", [None]),
            ("bytea", [b"", None, b'\0,{}"']),
            ("bytea", []),
            ("text", ["a", 'b,"{}', "ß"]),
        ],
    )
    def test_arrays(self, connection: Connection, kind: str, values: list[int | None]) -> None:
        assert connection.rows(f"SELECT * FROM unnest($1::{kind}[])", values) == [(value,) for value in values]

    def test_large_ones(self, connection: Connection) -> None:
        large = bytes(range(256)) * 40_000
        assert connection.change("INSERT INTO t VALUES (1, $1)", large) == 1
        assert connection.rows("SELECT b FROM t") == [(large,)]


class TestTransactions:
    def test_all_or_nothing(self, connection: Connection) -> None:
        with connection.transaction():
            connection.change("INSERT INTO t VALUES ($1)", 1)
            connection.change("INSERT INTO t VALUES ($1)", 2)
        with pytest.raises(ZeroDivisionError), connection.transaction():
            connection.change("INSERT INTO t VALUES ($1)", 3)
            raise ZeroDivisionError
        assert numbers(connection) == [1, 2]

    def test_what_is_prepared_outlives_a_rollback(self, connection: Connection) -> None:
        with pytest.raises(StoreFailed, match="23505"), connection.transaction():
            for _ in range(2):
                connection.change("INSERT INTO t VALUES ($1)", 1)
        connection.change("INSERT INTO t VALUES ($1)", 1)
        assert numbers(connection) == [1]

    def test_an_error_inside_that_is_hidden_is_no_commit(self, connection: Connection) -> None:
        with (
            pytest.raises(StoreFailed, match="rolled a transaction back"),
            connection.transaction(),
            pytest.raises(StoreFailed, match="division by zero"),
        ):
            connection.rows("SELECT 1 / 0")
        assert numbers(connection) == []


class TestErrors:
    def test_no_room_is_told_apart(self, connection: Connection) -> None:
        with connection.transaction():
            connection.run_script(
                "CREATE OR REPLACE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;"
                "CREATE TRIGGER no_room BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION public.no_room()"
            )
        with pytest.raises(StoreFull, match="no space left"):
            connection.change("INSERT INTO t VALUES ($1)", 1)
        assert numbers(connection) == []

    @pytest.mark.parametrize("inside", [False, True])
    def test_a_connection_that_is_lost(self, postgres: PostgresServer, connection: Connection, inside: bool) -> None:
        [(pid,)] = connection.rows("SELECT pg_backend_pid()")
        if not inside:
            postgres.tell(f"SELECT pg_terminate_backend({pid}, 60000)")
            with pytest.raises(StoreFailed):
                connection.change("INSERT INTO t VALUES ($1)", 1)
        else:
            with pytest.raises(StoreFailed), connection.transaction():
                connection.change("INSERT INTO t VALUES ($1)", 1)
                postgres.tell(f"SELECT pg_terminate_backend({pid}, 60000)")
        with pytest.raises(StoreFailed):
            connection.rows("SELECT 1::bigint")
        assert postgres.tell("SELECT count(*) FROM public.t", "mail") == "0"

    def test_a_server_that_is_not_there(self, postgres: PostgresServer) -> None:
        with pytest.raises(StoreFailed, match="PostgreSQL at /nowhere/mail can't be reached"):
            Connection("postgresql://u:secret@/mail?host=/nowhere", "public")
        with pytest.raises(StoreFailed, match='database "missing" does not exist'):
            Connection(postgres.url("missing"), "public")

    def test_no_password_is_shown(self) -> None:
        assert shown("postgresql://u:secret@a,b:5433/mail") == "PostgreSQL at a,b/,5433/mail"
        with pytest.raises(StoreUnusable) as refused:
            shown("postgresql://u:secret@a/b?nonsense=1")
        assert "secret" not in str(refused.value)

    def test_one_that_takes_no_writes_is_none(self, postgres: PostgresServer, url: str) -> None:
        postgres.tell("ALTER DATABASE mail SET default_transaction_read_only = on")
        try:
            with pytest.raises(StoreFailed, match="read-only"):
                Connection(url, "public")
        finally:
            postgres.tell("ALTER DATABASE mail RESET default_transaction_read_only")

    @pytest.mark.parametrize(("value", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
    def test_commits_are_always_waited_for(self, postgres: PostgresServer, url: str, value: str, used: str) -> None:
        postgres.tell(f"ALTER DATABASE mail SET synchronous_commit = {value}")
        try:
            connection = Connection(url, "public")
            assert connection.setting("synchronous_commit") == used
            connection.close()
        finally:
            postgres.tell("ALTER DATABASE mail RESET synchronous_commit")

    def test_they_are_waited_for_where_the_server_changes_its_mind(self, postgres: PostgresServer, url: str) -> None:
        connection = Connection(url, "public")
        # The second setting shows that the session took both up.
        changed = {"synchronous_commit": "off", "work_mem": "7MB"}
        try:
            for name, value in changed.items():
                postgres.tell(f"ALTER SYSTEM SET {name} = '{value}'")
            postgres.tell("SELECT pg_reload_conf()")
            wait_until(lambda: connection.setting("work_mem") == "7MB", "the settings")
            assert connection.setting("synchronous_commit") == "on"
        finally:
            connection.close()
            for name in changed:
                postgres.tell(f"ALTER SYSTEM RESET {name}")
            postgres.tell("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def alone() -> Iterator[PostgresServer]:
    """A server of which a test changes the settings."""
    with PostgresServer() as server:
        yield server


class TestCancelledCommit:
    """With a synchronous standby that never comes: who cancels the wait gets a success and a
    warning, and others see what was committed.
    """

    @pytest.fixture
    def connection(self, alone: PostgresServer) -> Iterator[Connection]:
        opened = Connection(alone.empty_database(), "public")
        opened.run_script("DROP TABLE IF EXISTS t")
        opened.run_script("CREATE TABLE t (a bigint)")
        alone.wait_for_standby("nobody")
        yield opened
        opened.close()
        alone.wait_for_standby("")

    def test_of_one_statement(self, alone: PostgresServer, connection: Connection) -> None:
        thread = alone.cancel_the_next_wait()
        with pytest.raises(StoreFailed, match="committed with a warning"):
            connection.change("INSERT INTO t VALUES ($1)", 1)
        thread.join()
        assert alone.tell("SELECT count(*) FROM public.t", "mail") == "1", "others see it"

    def test_of_a_transaction(self, alone: PostgresServer, connection: Connection) -> None:
        thread = alone.cancel_the_next_wait()
        with pytest.raises(StoreFailed, match="committed with a warning"), connection.transaction():
            connection.change("INSERT INTO t VALUES ($1)", 1)
        thread.join()
        assert alone.tell("SELECT count(*) FROM public.t", "mail") == "1", "others see it"


def test_a_transaction_that_nobody_goes_on_with_ends(connection: Connection) -> None:
    assert connection.setting("idle_in_transaction_session_timeout") == "10s"


@pytest.mark.parametrize("ports", ["&port=5432,5432", "&port=5432", ""])
def test_of_several_hosts_the_one_that_answered_is_asked_first(postgres: PostgresServer, ports: str) -> None:
    with socket.socket(socket.AF_UNIX) as silent, tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        # It takes a connection, and says nothing: as a machine that stands still.
        silent.bind(f"{folder}/.s.PGSQL.5432")
        silent.listen()
        silent.setblocking(False)
        url = f"postgresql://postgres@/postgres?host={folder},{postgres.folder}{ports}"
        Connection(url, "public").close()
        silent.accept()[0].close()
        Connection(url, "public").close()
        with pytest.raises(BlockingIOError):
            silent.accept()


class TestOneServer:
    """Where several servers take writes, as when a primary was cut off and lives."""

    @pytest.fixture
    def both(self, postgres: PostgresServer, alone: PostgresServer) -> str:
        return f"postgresql://postgres@/postgres?host={postgres.folder},{alone.folder}"

    def test_one_is_asked_and_no_other(self, both: str, alone: PostgresServer) -> None:
        first = Connection(alone.url(), "public")
        second = Connection(both, "public", first.server)
        assert second.server == first.server
        assert first.server.host == str(alone.folder)
        first.close()
        second.close()

    def test_where_it_is_away_no_other_takes_its_place(self, both: str) -> None:
        with PostgresServer() as third:
            opened = Connection(third.url(), "public")
            opened.close()
            third.kill()
            with pytest.raises(StoreFailed, match="can't be reached"):
                Connection(both, "public", opened.server)

    def test_an_address_of_a_network_is_kept_with_its_name(self) -> None:
        server = ServerAddress("db1.example.org", "192.0.2.1", "5433")
        parts = {"host": "db1.example.org,db2", "hostaddr": "192.0.2.9,192.0.2.2", "port": "5433,5432", "user": "u"}
        alone = {"host": "db1.example.org", "hostaddr": "192.0.2.1", "port": "5433", "user": "u"}
        assert server.alone(parts) == alone
        assert server.alone({"user": "u"}) == alone
        assert server.first(parts) == parts
