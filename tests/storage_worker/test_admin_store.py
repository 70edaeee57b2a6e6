"""`messageu-admin store`: what it makes, refuses, checks and says."""

import json
import sys
from collections.abc import Iterator

import pytest

from storage_worker import admin, admin_output, admin_store
from storage_worker.engine.errors import StoreSuperseded
from storage_worker.engine.postgres.schema import SCHEMA_VERSION
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.empty_database()


@pytest.fixture
def worker(url: str) -> Iterator[PostgresWorker]:
    opened = PostgresWorker(url)
    yield opened
    opened.kill()


def run(step: str, url: str, *more: str) -> int:
    return admin.main(["store", step, "--store", url, *more])


def test_a_store_is_made_checked_and_upgraded(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", url) == admin.EXIT_FINAL
    assert "no store in the schema messageu_0: make it with `messageu-admin store create`" in capsys.readouterr().err
    assert run("create", url) == 0
    assert "The store is made: PostgreSQL at" in capsys.readouterr().out
    assert run("create", url) == admin.EXIT_FINAL
    assert "already: nothing was changed" in capsys.readouterr().err
    assert run("upgrade", url) == 0
    assert capsys.readouterr().out == f"The store's schema is version {SCHEMA_VERSION}: there is nothing to do.\n"
    assert run("check", url, "--shard", "0/1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "The server waits for no standby: what is acknowledged is on one machine's disk.",
        "The server runs with fsync=off: a power cut loses what was acknowledged.",
        "The server runs with full_page_writes=off: a power cut loses what was acknowledged.",
        "Nothing is altered.",
    ]


def test_each_step_as_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    warnings = [
        "The server waits for no standby: what is acknowledged is on one machine's disk.",
        "The server runs with fsync=off: a power cut loses what was acknowledged.",
        "The server runs with full_page_writes=off: a power cut loses what was acknowledged.",
    ]
    assert run("create", url, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made.pop("store").startswith("PostgreSQL at ")
    assert made == {"type": "store-created", "schema": "messageu_0", "warnings": warnings}
    assert run("upgrade", url, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "type": "store-upgraded",
        "from": SCHEMA_VERSION,
        "to": SCHEMA_VERSION,
    }
    assert run("check", url, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"type": "check", "altered": [], "warnings": warnings}
    assert run("new-generation", url, "--json") == 0
    begun = json.loads(capsys.readouterr().out)
    worker = PostgresWorker(url)
    assert begun == {"type": "generation", "generation": worker.engine.identity.generation}
    worker.kill()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--store", "mysql://u:secret@a/b"], "--store begins with postgresql://"),
        (["--store", "postgresql://u:secret@a/b?no=1"], "--store is no connection string"),
        (["--store", "postgresql://u:secret@/b?host=/nowhere"], "can't be reached"),
        (["--store", "postgresql:///b", "--shard", "1/3"], "--shard 1/3: the number of shards is a power of two"),
        (
            ["--store", "postgresql:///b", "--directory", "postgresql:///d"],
            "--directory is for the parts beside part 0",
        ),
        (["--store", "postgresql:///b", "--shard", "1/2", "--directory", "d:secret"], "--directory begins with"),
        (["--store", "postgresql:///b", "--shard", "one"], "--shard is K/N, such as 0/1, not one"),
    ],
)
def test_what_is_refused(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg", reason="an extra")
    assert admin.main(["store", "check", *arguments]) in {admin.EXIT_FINAL, admin_output.EXIT_UNKNOWN}
    said = capsys.readouterr().err
    assert sentence in said
    assert "secret" not in said


def test_the_directory_is_made_first_and_all_parts_are_one_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", url, "--shard", "1/2") == admin.EXIT_FINAL
    assert "no store in the schema messageu_0" in capsys.readouterr().err
    assert run("create", url, "--shard", "0/2") == 0
    assert run("create", url, "--shard", "1/4") == admin.EXIT_FINAL
    assert "shard 0 of 2, not 0 of 4" in capsys.readouterr().err
    assert run("create", url, "--shard", "1/2", "--directory", url) == 0
    workers = [PostgresWorker(url, shard=(number, 2)) for number in (0, 1)]
    servers = {worker.engine.identity.server_id for worker in workers}
    assert len(servers) == 1
    assert servers != {bytes(16)}
    for worker in workers:
        worker.kill()
    assert run("new-generation", url, "--shard", "1/2") == admin.EXIT_FINAL
    assert "run this with --shard 0/2" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "storage_worker.engine.postgres.connection", None)
    assert run("check", "postgresql:///b") == admin.EXIT_FINAL
    assert "install messageu[postgres]" in capsys.readouterr().err


def test_what_is_altered_is_named(worker: PostgresWorker, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.store(alice, bob, b"one", b"two")
    worker.engine.log.flush(worker.now_ms)
    gateway.store(alice, bob, b"three")
    assert run("check", url) == 0
    assert worker.beside.change("UPDATE mail_page SET entries = set_byte(entries, 60, 1)") == 1
    assert worker.beside.change("UPDATE journal SET records = substr(records, 2)") == 1
    capsys.readouterr()
    assert run("check", url) == admin_store.EXIT_ALTERED
    said = capsys.readouterr().out
    assert "a page of the mailbox of 'bob' (" in said
    assert "is altered: 2 messages, 1 to 2\n" in said
    assert ": the journal holds something that can't be read" in said
    assert said.endswith("Altered messages are not delivered; everything else works.\n")


def test_a_new_generation_ends_the_worker(worker: PostgresWorker, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    before = worker.engine.identity.generation
    assert run("new-generation", url) == 0
    assert "it again" in capsys.readouterr().out
    with pytest.raises(StoreSuperseded):
        gateway.store(alice, alice, b"late")
    later = PostgresWorker(url, seed=5_000_000)
    assert later.engine.identity.generation > before
    assert later.engine.identity.server_id == worker.engine.identity.server_id
    later.kill()
