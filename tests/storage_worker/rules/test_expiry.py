"""Mail that nobody fetched is deleted after so many days: over both engines."""

from collections.abc import Callable

import pytest

from common.storage_protocol.administration import GetTotals, Totals
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    MarkAuthenticated,
    Pull,
    Pulled,
    Stored,
    StoreMessage,
    UploadProgress,
)
from storage_worker.engine.errors import StoreFull
from storage_worker.engine.values import ExpiryState
from storage_worker.rules import expiry as module
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.admission import Limits
from storage_worker.rules.expiry import DAY_MS, SETTLED_MS
from tests.storage_worker.rules.days import NOON, Opener
from tests.storage_worker.worker_under_test import Gateway, MemoryWorker, SqliteWorker, WorkerUnderTest, pieces


def settle(worker: WorkerUnderTest, gateway: Gateway) -> None:
    """A moment later all is in the database."""
    worker.now_ms += 5_000
    gateway.ask()
    worker.now_ms += 5_000
    worker.processor.maintain(worker.now_ms)


def sleep_days(worker: WorkerUnderTest, gateway: Gateway, days: int) -> None:
    settle(worker, gateway)
    worker.now_ms += days * DAY_MS


def expire(worker: WorkerUnderTest, days: int) -> ExpiryState:
    worker.rules.expiry.begin(days, worker.now_ms)
    for _ in range(1000):
        if not worker.rules.expiry.goes_on:
            return worker.rules.expiry.state
        worker.processor.maintain(worker.now_ms)
    raise AssertionError("it never ended")


def pending_in_all(worker: WorkerUnderTest) -> int:
    totals = worker.administer(GetTotals())
    assert isinstance(totals, Totals)
    return totals.messages


def waiting(gateway: Gateway, user: bytes) -> list[bytes]:
    outcome = gateway.one(Fetch(user, True, 0, 2**40, 0, 2**30, False))
    assert isinstance(outcome, Fetched)
    return [piece.content for piece in pieces(outcome.page)]


def test_what_is_old_goes_and_nothing_else(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice), MarkAuthenticated(bob))
    for day in range(4):
        for user in (alice, bob):
            gateway.store(alice, user, b"day %d" % day, authenticated=True)
        sleep_days(worker, gateway, 1)
    gateway.ask()
    settle(worker, gateway)
    assert expire(worker, 100) == ExpiryState(False, 0, 0)
    # The fifth day: of three days ago is what was accepted on the first one.
    assert expire(worker, 3) == ExpiryState(False, 2, 10)
    assert waiting(gateway, bob) == [b"day 1", b"day 2", b"day 3"]
    assert expire(worker, 1) == ExpiryState(False, 4, 20)
    assert waiting(gateway, alice) == waiting(gateway, bob) == [b"day 3"]
    assert expire(worker, 1) == ExpiryState(False, 0, 0)


@pytest.mark.parametrize("orderly", [True, False])
def test_after_a_restart_it_is_the_same(open_one: Opener, orderly: bool) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.ask(MarkAuthenticated(alice))
    gateway.store(alice, alice, b"old", authenticated=True)
    sleep_days(worker, gateway, 2)
    gateway.store(alice, alice, b"young", authenticated=True)
    settle(worker, gateway)
    if orderly:
        worker.close()
    else:
        worker.kill()
    again = open_one(now_ms=worker.now_ms + DAY_MS, seed=10**6)
    gateway = Gateway(again, incarnation=b"2" * 16)
    assert expire(again, 2) == ExpiryState(False, 1, 3)
    assert waiting(gateway, alice) == [b"young"]


def test_a_resend_of_what_expired_is_stored_once(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.ask(MarkAuthenticated(alice))
    send = StoreMessage(alice, True, alice, 3, b"x", b"t" * 16)
    first = gateway.one(send)
    assert isinstance(first, Stored)
    sleep_days(worker, gateway, 2)
    gateway.ask()
    settle(worker, gateway)
    assert expire(worker, 1).messages == 1
    assert gateway.one(send) == first
    assert waiting(gateway, alice) == []


def test_what_is_leased_stays_until_the_next_time(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    sleep_days(worker, gateway, 2)
    assert isinstance(gateway.one(Pull(7, alice, False, 100, 0, 100)), Pulled)
    settle(worker, gateway)
    assert expire(worker, 1).messages == 0
    worker.rules.greet(0)
    assert expire(worker, 1).messages == 1


def test_a_full_mailbox_has_room_again(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON, limits=Limits(mailbox_messages=4, sender_share=30))
    gateway = Gateway(worker)
    alice, bob, carol = gateway.register("alice", "bob", "carol")
    gateway.store(alice, bob, b"1", b"2")
    gateway.store(carol, bob, b"3")
    settle(worker, gateway)
    assert gateway.refused(StoreMessage(alice, False, bob, 3, b"4"))
    sleep_days(worker, gateway, 2)
    gateway.ask()
    settle(worker, gateway)
    assert expire(worker, 1).messages == 3
    gateway.store(alice, bob, b"4", b"5")
    assert pending_in_all(worker) == 2


def test_large_contents_go_with_their_files(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.ask(BeginUpload(1, alice, False, alice, 3, 5), Chunk(1, b"12345"))
    while isinstance(gateway.one(CommitUpload(1)), UploadProgress):
        pass
    sleep_days(worker, gateway, 2)
    gateway.ask()
    settle(worker, gateway)
    assert expire(worker, 1) == ExpiryState(False, 1, 5)
    settle(worker, gateway)
    if isinstance(worker, SqliteWorker):
        assert list((worker.folder / "bodies").iterdir()) == []
    elif isinstance(worker, MemoryWorker):
        assert worker.disk.blobs == {}


def test_a_step_is_bounded(open_one: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGES_AT_ONCE", 3)
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    users = list(gateway.register(*[f"user {number}" for number in range(10)]))
    for user in users:
        gateway.store(user, user, b"x")
    gateway.store(users[0], users[0], *[b"x" * 60_000] * 4)
    sleep_days(worker, gateway, 2)
    gateway.ask()
    settle(worker, gateway)
    worker.rules.expiry.begin(1, worker.now_ms)
    worker.processor.maintain(worker.now_ms)
    assert 0 < worker.rules.expiry.state.messages <= 5
    while worker.rules.expiry.goes_on:
        worker.processor.maintain(worker.now_ms)
    assert worker.rules.expiry.state == ExpiryState(False, 14, 240_010)
    assert pending_in_all(worker) == 0


def test_by_itself_once_a_day_and_only_when_the_day_has_lasted(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON, accounts=AccountSettings(expire_days=2))
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    sleep_days(worker, gateway, 3)
    began = worker.now_ms
    gateway.ask()
    settle(worker, gateway)
    # A clock that is a year ahead for a moment.
    for now in (began + 365 * DAY_MS, began + SETTLED_MS - 1, began + 365 * DAY_MS, began + SETTLED_MS):
        worker.processor.maintain(now)
        assert not worker.rules.expiry.goes_on
        assert pending_in_all(worker) == 1
    worker.processor.maintain(began + 2 * SETTLED_MS)
    while worker.rules.expiry.goes_on:
        worker.processor.maintain(began + 2 * SETTLED_MS)
    assert worker.rules.expiry.state == ExpiryState(False, 1, 1)
    worker.processor.maintain(began + 3 * SETTLED_MS)
    assert not worker.rules.expiry.goes_on, "once a day"
    assert worker.processor.waits_for_a_time


def test_a_store_that_has_not_noted_the_days_yet_loses_nothing(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    sleep_days(worker, gateway, 5)
    if isinstance(worker, SqliteWorker):
        worker.database.execute("DELETE FROM day")
    elif isinstance(worker, MemoryWorker):
        worker.engine.state.days.clear()
        worker.disk.state.days.clear()
    gateway.store(alice, alice, b"y")
    settle(worker, gateway)
    assert expire(worker, 2).messages == 0
    sleep_days(worker, gateway, 2)
    gateway.ask()
    settle(worker, gateway)
    assert expire(worker, 2).messages == 1


@pytest.mark.parametrize("steps", range(9))
def test_a_death_at_any_step_loses_nothing_else(open_one: Opener, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGES_AT_ONCE", 1)
    worker = open_one(now_ms=NOON)
    gateway = Gateway(worker)
    users = list(gateway.register("alice", "bob", "carol"))
    gateway.ask(*[MarkAuthenticated(user) for user in users])
    for age in (b"old", b"young"):
        for user in users:
            gateway.store(users[0], user, age, age, authenticated=True)
        gateway.ask(BeginUpload(1, users[0], True, users[1], 3, 5), Chunk(1, age.ljust(5)), CommitUpload(1))
        while isinstance(gateway.one(CommitUpload(1)), UploadProgress):
            pass
        sleep_days(worker, gateway, 2)
    gateway.ask()
    worker.rules.expiry.begin(3, worker.now_ms)
    for _ in range(steps):
        if worker.rules.expiry.goes_on:
            worker.processor.maintain(worker.now_ms)
    worker.kill()
    again = open_one(now_ms=worker.now_ms, seed=10**6)
    gateway = Gateway(again, incarnation=b"2" * 16)
    for user in users:
        kept = [content for content in waiting(gateway, user) if not content.startswith(b"old")]
        assert kept == [b"young"] * 2 + [b"young"] * (user == users[1])
    expire(again, 3)
    assert not any(content.startswith(b"old") for user in users for content in waiting(gateway, user))
    assert pending_in_all(again) == 7


def test_a_store_without_room_gives_up_until_the_next_time(
    open_worker: Callable[..., SqliteWorker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = open_worker(now_ms=NOON)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.ask(MarkAuthenticated(alice))
    gateway.store(alice, alice, b"x", authenticated=True)
    sleep_days(worker, gateway, 2)
    gateway.ask()
    settle(worker, gateway)
    with monkeypatch.context() as patched:

        def full(*_arguments: object, **_named: object) -> None:
            raise StoreFull("no room")

        patched.setattr(worker.engine.log, "commit", full)
        assert expire(worker, 1) == ExpiryState(False, 0, 0)
    assert "mail can't expire now: no room" in caplog.text
    assert waiting(gateway, alice) == [b"x"]
    assert expire(worker, 1).messages == 1
