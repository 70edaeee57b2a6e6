"""The table of users, with what the journal alone has."""

from common.storage_protocol.operations import MarkAuthenticated
from storage_worker.engine.values import Account
from storage_worker.server.batch_processor import Inbound
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker


def test_accounts_have_what_is_not_flushed(worker: SqliteWorker, gateway: Gateway) -> None:
    alice, bob, carol = gateway.register("alice", "bob", "carol")
    users = worker.engine.users
    gateway.ask(MarkAuthenticated(alice))
    worker.flush()
    # A turn is flushed soon after a first proof; this one is not, for nothing is maintained.
    batch = gateway.next_batch(MarkAuthenticated(carol))
    worker.processor.handle([Inbound(b"peer", batch)], worker.now_ms)
    assert users.has_news
    assert list(users.accounts(0, 9)) == [
        Account(1, alice, "alice", True, 0, 0),
        Account(2, bob, "bob", False, 0, 0),
        Account(3, carol, "carol", True, 0, 0),
    ]
    assert [one.name for one in users.accounts(1, 1)] == ["bob"]
    assert users.authenticated() == 2
    worker.flush()
    assert users.authenticated() == 2
