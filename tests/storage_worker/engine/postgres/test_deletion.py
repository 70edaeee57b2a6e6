"""A deleted user: what is left in the tables, whatever they had, and after a kill between steps."""

from collections.abc import Callable

import pytest

from storage_worker.engine.records import UserDeleted
from storage_worker.engine.values import Admission, Deletion
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import deletion


@pytest.mark.parametrize("kill_after", [None, 0, 1, 2])
def test_it_goes_in_steps_and_a_kill_loses_none(
    open_worker: Callable[..., PostgresWorker], monkeypatch: pytest.MonkeyPatch, kill_after: int | None
) -> None:
    monkeypatch.setattr(deletion, "STEP", 2)
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.store(alice, bob, *[bytes(7000) for _ in range(5)])
    gateway.store(bob, alice, b"stays")
    with worker.engine.turn(worker.now_ms, Admission.OPEN, registers=False):
        worker.engine.apply(UserDeleted(2))
    steps = 0
    while worker.engine.users.deletion(bob) is not Deletion.DONE:
        if steps == kill_after:
            worker.kill()
            worker = open_worker()
        worker.engine.maintain(worker.now_ms)
        if steps == 0:
            assert worker.engine.is_busy
        steps += 1
        assert steps < 20
    assert steps >= 3
    rows = worker.beside.rows
    assert rows("SELECT recipient, messages FROM mail_page") + rows("SELECT count(*), 0::bigint FROM journal") == [
        (1, 1),
        (0, 0),
    ]
    assert rows("SELECT name FROM account") == [("alice",)]
    assert rows("SELECT id, name FROM deleted_account") == [(2, "bob")]
    assert rows("SELECT count(*) FROM slot WHERE position($1::bytea IN outcomes) > 0", bob) == [(0,)]
    assert not worker.engine.has_pending
    assert not worker.engine.is_busy
