"""Who was seen on which day, and who is disabled: over both engines."""

from collections.abc import Callable

import pytest

from common.storage_protocol.administration import (
    Account,
    Accounts,
    ListAccounts,
    NotDone,
    Obeyed,
    SetDisabled,
)
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    Fetch,
    Fetched,
    GetProofKey,
    KeyFound,
    ListUsers,
    MarkAuthenticated,
    MessagesStored,
    Pull,
    Refused,
    Stored,
    StoreMessage,
    StoreMessages,
)
from common.values import RefusalReason
from storage_worker.rules.activity import DAY_MS
from tests.storage_worker.rules.days import NOON, Opener
from tests.storage_worker.worker_under_test import Gateway, WorkerUnderTest


def account(worker: WorkerUnderTest, name: str) -> Account:
    answer = worker.administer(ListAccounts())
    assert isinstance(answer, Accounts)
    [found] = [one for one in answer.accounts if one.name == name]
    return found


@pytest.mark.parametrize(
    "does",
    [
        lambda me: ListUsers(me, True),
        MarkAuthenticated,
        lambda me: Fetch(me, True, 0, 1000, 0, 1000, False),
        lambda me: Pull(1, me, True, 1000, 0, 1000),
        lambda me: StoreMessage(me, True, me, 3, b"x"),
        lambda me: StoreMessages(True, pack_frame(me, me, 3, b"x")),
        lambda me: BeginUpload(1, me, True, me, 3, 5),
    ],
)
def test_whoever_asks_for_something_was_seen_that_day(open_one: Opener, does: Callable[[bytes], object]) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    alice, _bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    assert (account(worker, "alice").registered, account(worker, "alice").seen) == (20_000, 20_000)
    worker.now_ms += 3 * DAY_MS
    gateway.ask(does(alice))  # type: ignore[arg-type]
    assert (account(worker, "alice").registered, account(worker, "alice").seen) == (20_000, 20_003)
    assert account(worker, "bob").seen == 20_000


def test_nobody_is_seen_for_what_others_ask(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    worker.now_ms += 3 * DAY_MS
    # Not authenticated, a proof that was only begun, mail from others.
    gateway.ask(ListUsers(alice, False), GetProofKey(alice), StoreMessage(bob, False, alice, 3, b"x"))
    assert account(worker, "alice").seen == 20_000


@pytest.mark.parametrize("orderly", [True, False])
def test_days_and_marks_stay(open_one: Opener, orderly: bool) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    alice, _bob = gateway.register("alice", "bob")
    worker.now_ms += DAY_MS
    gateway.ask(ListUsers(alice, False))
    assert worker.administer(SetDisabled("bob", True)) == Obeyed()
    if orderly:
        worker.close()
    else:
        worker.kill()
    again = open_one(now_ms=worker.now_ms, seed=10**6)
    assert account(again, "alice").seen == 20_001
    assert (account(again, "alice").disabled, account(again, "bob").disabled) == (False, True)


def test_nothing_is_done_for_a_disabled_user_and_mail_is_kept(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    gateway.store(bob, alice, b"before")
    assert worker.administer(SetDisabled("alice", True)) == Obeyed()
    for operation in (
        ListUsers(alice, True),
        MarkAuthenticated(alice),
        Fetch(alice, True, 0, 1000, 0, 1000, False),
        Pull(1, alice, True, 1000, 0, 1000),
        StoreMessage(alice, True, bob, 3, b"x"),
        BeginUpload(1, alice, True, bob, 3, 5),
    ):
        assert gateway.refused(operation) is RefusalReason.DISABLED
    # Who has not proven to be alice is not told.
    assert gateway.refused(ListUsers(alice, False)) is RefusalReason.PROOF_NEEDED
    assert isinstance(gateway.one(GetProofKey(alice)), KeyFound)
    run = gateway.one(StoreMessages(True, pack_frame(alice, bob, 3, b"x")))
    assert isinstance(run, MessagesStored)
    assert [refused.reason for refused in run.refused] == [RefusalReason.DISABLED]
    assert isinstance(gateway.one(StoreMessage(bob, False, alice, 3, b"meanwhile")), Stored)
    assert account(worker, "alice").messages == 2
    assert worker.administer(SetDisabled("alice", False)) == Obeyed()
    fetched = gateway.one(Fetch(alice, True, 0, 1000, 0, 1000, False))
    assert isinstance(fetched, Fetched)
    assert fetched.count == 2
    assert not isinstance(gateway.one(MarkAuthenticated(alice)), Refused)


def test_who_is_not_there_can_not_be_disabled(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    list(Gateway(worker).register("alice"))
    answer = worker.administer(SetDisabled("Alice", True))
    assert isinstance(answer, NotDone)
    assert answer.problem == "there is no user named 'Alice'"
    for _ in range(2):
        assert worker.administer(SetDisabled("alice", True)) == Obeyed()
    assert account(worker, "alice").disabled
