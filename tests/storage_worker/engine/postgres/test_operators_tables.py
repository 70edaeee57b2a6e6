"""`messageu-admin … --store`: what an operator's commands do to a store in PostgreSQL, beside a
worker that sees it with a later turn, and without one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from common.shards import shard_of
from common.storage_protocol.administration import Obeyed, UsersChanged
from common.storage_protocol.frames import MailArrived
from common.storage_protocol.operations import (
    ClaimKey,
    Done,
    Fetch,
    Fetched,
    Forget,
    GetProofKey,
    GetPublicKey,
    KeyClaimed,
    KeyFound,
    KeysKept,
    MarkAuthenticated,
    PublishKeys,
    Pull,
    Pulled,
    Register,
    Registered,
    TellOthers,
)
from common.values import RefusalReason, Registration
from gateway import certificate
from storage_worker import admin
from storage_worker.rules.accounts import AccountSettings
from tests.gateway.tls_peer import server_tls
from tests.storage_worker.rules.test_keys import RSA_KEY
from tests.storage_worker.test_admin_accounts import invitation_of
from tests.storage_worker.worker_under_test import KEY, Gateway, PostgresWorker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres import PostgresServer

KEYS = bytes(96) + bytes([1]) * 96
LATER_MS = 1_000
"""After so long a turn looks for what commands have changed."""


@pytest.fixture
def run(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints."""

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert admin.main(["--data-folder", str(tmp_path), *words, "--store", url]) == code
        said = capsys.readouterr()
        return said.out + said.err

    return run


def goes_on(worker: PostgresWorker) -> None:
    worker.now_ms += LATER_MS
    worker.processor.maintain(worker.now_ms)


def test_invitations(open_worker: Callable[..., PostgresWorker], run: Callable[..., str], tmp_path: Path) -> None:
    server_tls(tmp_path)
    certificate.keep_addresses(tmp_path, ["chat.example.org:1358"])
    worker = open_worker(accounts=AccountSettings(Registration.INVITED), now_ms=1)
    gateway = Gateway(worker)
    links = [run("invite").strip() for _ in range(2)]
    listed = run("invitations").splitlines()
    assert len(listed) == 3
    used, revoked = (invitation_of(link) for link in links)
    assert isinstance(gateway.one(Register("alice", KEY, invitation=used)), Registered)
    assert gateway.refused(Register("bob", KEY, invitation=used)) is RefusalReason.INVITATION
    [left] = run("invitations").splitlines()[1:]
    run("invitation", "revoke", left.split()[0])
    assert gateway.refused(Register("bob", KEY, invitation=revoked)) is RefusalReason.INVITATION
    assert len(run("invitations").splitlines()) == 1
    assert "There is no invitation" in run("invitation", "revoke", "00000000", code=1)


def test_a_user_is_deleted_and_the_name_is_freed(
    worker: PostgresWorker, gateway: Gateway, run: Callable[..., str]
) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.store(bob, alice, b"waits")
    goes_on(worker)
    assert isinstance(gateway.one(Fetch(alice, True, worker.rules.highest, 2**40, 54, 2**20, True)), Fetched)
    assert "alice is no user any more" in run("delete", "alice")
    assert "no user named 'alice'" in run("delete", "alice", code=1)
    assert "is still being deleted" in run("free", "alice", code=1)
    goes_on(worker)
    [notice] = [one.message for one in worker.processor.take_notices()]
    assert isinstance(notice, MailArrived), "who waits learns of it"
    assert alice in notice[3]
    assert gateway.refused(Pull(1, alice, True, 10, 0, 10)) is RefusalReason.REQUESTER_UNKNOWN
    for _ in range(3):
        goes_on(worker)
    assert worker.beside.rows("SELECT count(*) FROM account WHERE name = 'alice'") == [(0,)]
    assert run("free") == "'alice'\n"
    assert gateway.refused(Register("alice", KEY)) is RefusalReason.NAME_TAKEN
    run("free", "alice")
    assert run("free") == ""
    assert isinstance(gateway.one(Register("alice", KEY)), Registered)
    assert "is registered" in run("free", "bob", code=1)
    assert "Nobody named 'carol' was deleted" in run("free", "carol", code=1)


def test_a_worker_that_is_told_looks_at_once(worker: PostgresWorker, gateway: Gateway, run: Callable[..., str]) -> None:
    [alice] = gateway.register("alice")
    run("delete", "alice")
    assert worker.administer(UsersChanged()) == Obeyed()
    worker.processor.maintain(worker.now_ms)
    assert gateway.refused(Pull(1, alice, True, 10, 0, 10)) is RefusalReason.REQUESTER_UNKNOWN


def test_a_proof_is_taken_back_and_a_key_changed(
    worker: PostgresWorker, gateway: Gateway, run: Callable[..., str], tmp_path: Path
) -> None:
    [alice] = gateway.register("alice")
    gateway.one(MarkAuthenticated(alice))
    assert gateway.refused(Pull(1, alice, False, 10, 0, 10)) is RefusalReason.PROOF_NEEDED
    worker.engine.log.flush(worker.now_ms)
    run("unprove", "alice")
    assert "no user named 'bob'" in run("unprove", "bob", code=1)
    goes_on(worker)
    assert isinstance(gateway.one(Pull(1, alice, False, 10, 0, 10)), Pulled)
    worker.engine.log.flush(worker.now_ms)
    key_file = tmp_path / "key"
    key_file.write_bytes(RSA_KEY)
    run("re-key", "alice", str(key_file))
    found = gateway.one(GetProofKey(alice))
    assert isinstance(found, KeyFound)
    assert found.public_key == RSA_KEY
    assert "no user named 'bob'" in run("re-key", "bob", str(key_file), code=1)


class TestKeysWithAnotherShard:
    """Ids of these tests are of shard 1 of 4."""

    @pytest.fixture
    def workers(self, open_worker: Callable[..., PostgresWorker]) -> list[PostgresWorker]:
        return [open_worker(shard=(number, 4)) for number in (0, 1)]

    @pytest.fixture
    def key_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "key"
        path.write_bytes(RSA_KEY)
        return path

    @pytest.mark.parametrize("journal", ["nothing", "a publication", "a claim"])
    @pytest.mark.parametrize("killed", [False, True])
    def test_they_go_when_the_user_gets_another_one(
        self,
        workers: list[PostgresWorker],
        open_worker: Callable[..., PostgresWorker],
        run: Callable[..., str],
        key_file: Path,
        journal: str,
        killed: bool,
    ) -> None:
        directory, shard = (Gateway(worker) for worker in workers)
        alice, bob = directory.register("alice", "bob")
        assert {shard_of(user, 4) for user in (alice, bob)} == {1}
        for user in (alice, bob):
            assert directory.one(MarkAuthenticated(user)) == TellOthers()
            assert shard.one(Forget(user)) == Done()
            assert shard.one(PublishKeys(user, True, False, b"bundle", KEYS)) == KeysKept(2)
        if journal != "a publication":
            workers[1].engine.log.flush(workers[1].now_ms)
        if journal == "a claim":
            assert shard.one(ClaimKey(bob, True, alice, True)) == KeyClaimed(b"bundle", bytes(96))
        if killed:
            workers[1].kill()
        run("re-key", "alice", str(key_file))
        if killed:
            workers[1] = open_worker(shard=(1, 4))
            shard = Gateway(workers[1])
        for worker in workers:
            goes_on(worker)
        assert shard.refused(ClaimKey(bob, True, alice, True)) is RefusalReason.NO_KEYS
        workers[1].engine.log.flush(workers[1].now_ms)
        assert shard.refused(ClaimKey(bob, True, alice, True)) is RefusalReason.NO_KEYS
        assert shard.one(GetPublicKey(bob, True, alice)) == KeyFound(alice, RSA_KEY)
        assert shard.one(ClaimKey(alice, True, bob, True)) == KeyClaimed(b"bundle", bytes(96))
        # The new home publishes the same again, and it is new; so it is after one more change.
        for _ in range(2):
            assert shard.one(PublishKeys(alice, True, False, b"bundle", KEYS)) == KeysKept(2)
            run("re-key", "alice", str(key_file))
            for worker in workers:
                goes_on(worker)
            assert shard.refused(ClaimKey(bob, True, alice, True)) is RefusalReason.NO_KEYS
        assert shard.one(PublishKeys(alice, True, False, b"bundle", KEYS)) == KeysKept(2)
        workers[1].engine.log.flush(workers[1].now_ms)
        assert shard.one(ClaimKey(bob, True, alice, True)) == KeyClaimed(b"bundle", bytes(96))

    def test_where_the_shard_is_elsewhere_nothing_changes_until_it_is_named(
        self, workers: list[PostgresWorker], run: Callable[..., str], key_file: Path, postgres: PostgresServer
    ) -> None:
        directory = Gateway(workers[0])
        [alice] = directory.register("alice")
        postgres.tell("ALTER SCHEMA messageu_1 RENAME TO messageu_elsewhere", "mail")
        try:
            said = run("re-key", "alice", str(key_file), code=78)
            assert "keys are with shard 1 of 4" in said
            assert "name it with --shard-store" in said
            assert directory.one(GetProofKey(alice)) == KeyFound(alice, KEY)
        finally:
            postgres.tell("ALTER SCHEMA messageu_elsewhere RENAME TO messageu_1", "mail")
        run("re-key", "alice", str(key_file), "--shard-store", postgres.url("mail"))
        assert directory.one(GetProofKey(alice)) == KeyFound(alice, RSA_KEY)

    def test_a_shard_of_another_server_is_none(
        self, workers: list[PostgresWorker], run: Callable[..., str], key_file: Path
    ) -> None:
        directory = Gateway(workers[0])
        [alice] = directory.register("alice")
        workers[1].beside.rows("UPDATE store SET server_id = $1 WHERE id = 1", bytes(15) + b"x")
        assert "shard of another server" in run("re-key", "alice", str(key_file), code=78)
        assert directory.one(GetProofKey(alice)) == KeyFound(alice, KEY)


def test_what_the_journal_has_is_waited_for(open_worker: Callable[..., PostgresWorker], url: str) -> None:
    from storage_worker.engine.errors import StoreUnusable
    from storage_worker.engine.postgres.operators_tables import PostgresTables

    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.one(MarkAuthenticated(alice))
    gateway.store(alice, alice, b"x", authenticated=True)
    waited: list[float] = []

    def flushes(seconds: float) -> None:
        waited.append(seconds)
        worker.engine.log.flush(worker.now_ms)

    tables = PostgresTables(url, flushes)
    assert tables.unprove("alice")
    assert len(waited) == 1
    gateway.store(alice, alice, b"x", authenticated=True)
    tables.close()
    tables = PostgresTables(url, waited.append)
    with pytest.raises(StoreUnusable, match="no storage worker takes it in"):
        tables.unprove("alice")
    tables.close()


def test_numbers_without_a_worker(worker: PostgresWorker, gateway: Gateway, run: Callable[..., str]) -> None:
    alice, bob = gateway.register("alice", "bob")
    gateway.store(alice, bob, b"one", b"two")
    worker.close()
    users = [json.loads(line) for line in run("users", "--json").splitlines()]
    assert [(one["name"], one["waiting"], one["bytes"]) for one in users] == [("alice", 0, 0), ("bob", 2, 6)]
    stats = json.loads(run("stats", "--json"))
    assert (stats["users"], stats["waiting"], stats["bytes"], stats["accepted"]) == (2, 2, 6, 2)
    assert stats["told_by"] == "database"


def test_a_database_without_a_store(run: Callable[..., str]) -> None:
    assert "has no store" in run("delete", "alice", code=78)
