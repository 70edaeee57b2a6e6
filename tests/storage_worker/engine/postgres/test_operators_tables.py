"""`messageu-admin … --store`: what an operator's commands do to a store in PostgreSQL, beside a
worker that sees it with a later turn, and without one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from common.storage_protocol.administration import Obeyed, UsersChanged
from common.storage_protocol.frames import MailArrived
from common.storage_protocol.operations import (
    Fetch,
    Fetched,
    GetProofKey,
    KeyFound,
    MarkAuthenticated,
    Pull,
    Pulled,
    Register,
    Registered,
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
