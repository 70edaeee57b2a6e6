"""The schema of a shard: made once, upgraded in one step, recognised."""

from collections.abc import Callable, Iterator

import pytest

from common.storage_protocol.operations import ClaimKey, KeyClaimed, MarkAuthenticated, PublishKeys, StoreMessage
from storage_worker.engine.errors import StoreFailed, StoreSuperseded, StoreUnusable
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import schema
from storage_worker.engine.postgres.connection import Connection
from storage_worker.engine.postgres.schema import SCHEMA_VERSION, Place, check_version, create, upgrade

PLACE = Place(0, 1)


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    opened = Connection(url, PLACE.schema)
    yield opened
    opened.close()


def test_it_is_made_once(connection: Connection) -> None:
    create(connection, PLACE, bytes(16), 77)
    with pytest.raises(StoreUnusable, match="has a store in the schema messageu_0 already"):
        create(connection, PLACE, bytes(range(16)), 78)
    assert connection.rows("SELECT server_id, generation, starts FROM store") == [(bytes(16), 77, 0)]
    check_version(connection, PLACE)


def test_one_that_fails_leaves_nothing(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "TABLES", f"{schema.TABLES}; CREATE TABLE day (again bigint)")
    with pytest.raises(StoreFailed, match="already exists"):
        create(connection, PLACE, bytes(16), 1)
    assert not schema.has_store(connection, PLACE)


def test_a_database_that_can_not_hold_every_name(postgres: PostgresServer) -> None:
    if not postgres.tell("SELECT 1 FROM pg_database WHERE datname = 'latin'"):
        postgres.tell("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' STRATEGY file_copy")
    connection = Connection(postgres.url("latin"), PLACE.schema)
    with pytest.raises(StoreUnusable, match="has the encoding LATIN1"):
        create(connection, PLACE, bytes(16), 1)
    connection.close()


def test_what_is_not_there_or_not_this_one(connection: Connection) -> None:
    with pytest.raises(StoreUnusable, match="no store in the schema messageu_0: make it with `messageu-admin store"):
        check_version(connection, PLACE)
    create(connection, PLACE, bytes(16), 1)
    with pytest.raises(StoreUnusable, match="the schema messageu_0 is shard 0 of 1, not 0 of 2"):
        check_version(connection, Place(0, 2))


def test_other_versions_are_refused(connection: Connection) -> None:
    create(connection, PLACE, bytes(16), 1)
    with pytest.raises(StoreUnusable, match=f"schema version {SCHEMA_VERSION}, this program needs .*store upgrade"):
        check_version(connection, PLACE, SCHEMA_VERSION + 1)
    with pytest.raises(StoreUnusable, match="a later version of MessageU made the store"):
        check_version(connection, PLACE, SCHEMA_VERSION - 1)


class TestUpgrade:
    STEPS = {  # noqa: RUF012
        SCHEMA_VERSION: "ALTER TABLE account ADD COLUMN one bigint",
        SCHEMA_VERSION + 1: "ALTER TABLE account ADD COLUMN two bigint; UPDATE account SET two = 2",
    }

    def test_it_goes_through_every_step_and_ends_a_worker(
        self, connection: Connection, open_worker: Callable[..., PostgresWorker]
    ) -> None:
        gateway = Gateway(open_worker())
        [alice] = gateway.register("alice")
        said: list[str] = []
        upgrade(connection, PLACE, said.append, self.STEPS, SCHEMA_VERSION + 2)
        assert said == [f"The store's schema was version {SCHEMA_VERSION} and is {SCHEMA_VERSION + 2} now."]
        assert connection.rows("SELECT one, two FROM account") == [(None, 2)]
        check_version(connection, PLACE, SCHEMA_VERSION + 2)
        with pytest.raises(StoreSuperseded):
            gateway.store(alice, alice, b"late")

    def test_one_that_fails_changes_nothing(self, connection: Connection) -> None:
        create(connection, PLACE, bytes(16), 1)
        steps = self.STEPS | {SCHEMA_VERSION + 1: "ALTER TABLE nothing ADD COLUMN two bigint"}
        with pytest.raises(StoreFailed, match="does not exist"):
            upgrade(connection, PLACE, str, steps, SCHEMA_VERSION + 2)
        check_version(connection, PLACE)
        assert connection.rows("SELECT epoch FROM owner") == [(0,)]
        with pytest.raises(StoreFailed, match='column "one" does not exist'):
            connection.rows("SELECT one FROM account")

    def test_what_is_up_to_date_stays(self, connection: Connection) -> None:
        create(connection, PLACE, bytes(16), 1)
        said: list[str] = []
        upgrade(connection, PLACE, said.append)
        assert said == [f"The store's schema is version {SCHEMA_VERSION}: there is nothing to do."]
        with pytest.raises(StoreUnusable, match="a later version"):
            upgrade(connection, PLACE, str, {}, SCHEMA_VERSION - 1)

    def test_a_store_of_version_1_has_no_published_keys(
        self, connection: Connection, open_worker: Callable[..., PostgresWorker]
    ) -> None:
        worker = open_worker()
        [alice] = Gateway(worker).register("alice")
        worker.close()
        connection.run_script(
            "DROP TABLE published_key; ALTER TABLE sent_token DROP COLUMN answered; UPDATE store SET version = 1"
        )
        with pytest.raises(StoreUnusable, match=r"schema version 1, this program needs .*store upgrade"):
            open_worker()
        said: list[str] = []
        upgrade(connection, PLACE, said.append)
        assert said == [f"The store's schema was version 1 and is {SCHEMA_VERSION} now."]
        gateway = Gateway(open_worker())
        gateway.ask(MarkAuthenticated(alice), PublishKeys(alice, True, False, b"bundle", bytes(96)))
        assert gateway.one(ClaimKey(alice, True, alice, True)) == KeyClaimed(b"bundle", bytes(96))

    def test_a_store_of_version_2_has_its_tokens(
        self, connection: Connection, open_worker: Callable[..., PostgresWorker]
    ) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        message = StoreMessage(alice, True, alice, 3, b"with a token", b"t" * 16)
        stored = gateway.one(message)
        worker.close()
        connection.run_script("ALTER TABLE sent_token DROP COLUMN answered; UPDATE store SET version = 2")
        upgrade(connection, PLACE, str)
        gateway = Gateway(open_worker())
        assert gateway.one(message) == stored
        assert gateway.one(StoreMessage(alice, True, alice, 3, b"with a token", b"u" * 16)) != stored
