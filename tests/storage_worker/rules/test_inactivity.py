"""Users who were not seen for so many days are deleted, and nobody else: over both engines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.storage_protocol.administration import Obeyed, SetDisabled
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    Fetch,
    GetProofKey,
    GetPublicKey,
    ListUsers,
    MarkAuthenticated,
    Operation,
    Pull,
    Register,
    Registered,
    StoreMessage,
    StoreMessages,
)
from storage_worker.engine.errors import StoreDamaged, StoreFull
from storage_worker.engine.memory import Disk
from storage_worker.engine.records import RunningNoted
from storage_worker.engine.values import Deletion, Identity
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.activity import DAY_MS
from storage_worker.rules.inactivity import DELETED_AT_ONCE, HOUR_MS, LONGEST_STEP_MS
from tests.storage_worker.rules.days import NOON, Opener
from tests.storage_worker.worker_under_test import KEY, Gateway, MemoryWorker, SqliteWorker, WorkerUnderTest

TWO_DAYS = AccountSettings(inactive_days=2)


def run(worker: WorkerUnderTest, hours: float, step_ms: int = LONGEST_STEP_MS) -> None:
    """The worker runs, and nobody asks for anything."""
    for _ in range(int(hours * HOUR_MS) // step_ms):
        worker.now_ms += step_ms
        worker.processor.maintain(worker.now_ms)


def is_there(worker: WorkerUnderTest, user: bytes) -> bool:
    return worker.users.find(user) is not None


def disable(worker: WorkerUnderTest, name: str, *, disabled: bool) -> None:
    assert worker.administer(SetDisabled(name, disabled)) == Obeyed()


def in_the_name_of(user: bytes, other: bytes) -> list[Operation]:
    """Whatever shows that somebody is there."""
    return [
        MarkAuthenticated(user),
        ListUsers(user, True),
        GetPublicKey(user, True, other),
        StoreMessage(user, True, other, 3, b"x"),
        StoreMessages(True, pack_frame(user, other, 3, b"x")),
        BeginUpload(1, user, True, other, 4, 3),
        Pull(1, user, True, 100, 0, 100),
        Fetch(user, True, 0, 100, 0, 100, False),
    ]


@pytest.mark.parametrize("act", range(8))
def test_who_asks_for_anything_is_seen(open_one: Opener, act: int) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    run(worker, 47)
    assert is_there(worker, bob)
    gateway.one(in_the_name_of(alice, bob)[act])
    # What others do about bob does not show that he is there.
    gateway.ask(GetProofKey(bob), GetPublicKey(alice, True, bob), StoreMessage(alice, True, bob, 3, b"x"))
    run(worker, 14)
    # He was there on the first day, which had twelve hours left.
    assert not is_there(worker, bob)
    assert is_there(worker, alice)
    run(worker, 24)
    assert is_there(worker, alice)
    run(worker, 48)
    assert not is_there(worker, alice)


def test_they_are_deleted_as_if_they_had_asked_for_it(open_one: Opener, caplog: pytest.LogCaptureFixture) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    gateway.store(alice, alice, b"x")
    caplog.set_level("INFO")
    run(worker, 63)
    assert worker.users.deletion(alice) is Deletion.DONE
    assert worker.users.name_is_kept("alice")
    lines = [vars(record)["fields"] for record in caplog.records if record.name == "messageu.audit"]
    assert lines[0] == {"event": "inactive", "user": alice.hex()}
    assert lines[1:] in ([{"event": "deleted", "user": alice.hex()}], [])
    assert "users who were not seen for 2 days and are deleted: 1" in caplog.messages


def test_never_without_the_option(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    [alice] = Gateway(worker).register("alice")
    assert not worker.processor.waits_for_a_time
    run(worker, 100)
    assert is_there(worker, alice)
    assert open_one(now_ms=NOON, accounts=TWO_DAYS, seed=10**6).processor.waits_for_a_time


@pytest.mark.parametrize("orderly", [True, False])
def test_a_server_that_was_off_deletes_nobody(open_one: Opener, orderly: bool) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    [alice] = Gateway(worker).register("alice")
    run(worker, 20)
    (worker.close if orderly else worker.kill)()
    worker = open_one(now_ms=worker.now_ms + 100 * DAY_MS, accounts=TWO_DAYS, seed=10**6)
    run(worker, 29)
    assert is_there(worker, alice)
    # 37 of 49 hours since the end of the first day: the twenty before are not forgotten.
    run(worker, 14)
    assert not is_there(worker, alice)


def test_the_first_start_with_the_option_begins_to_count(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON)
    [alice] = Gateway(worker).register("alice")
    worker.close()
    worker = open_one(now_ms=NOON + 1000 * DAY_MS, accounts=TWO_DAYS, seed=10**6)
    run(worker, 48)
    assert is_there(worker, alice)
    run(worker, 2)
    assert not is_there(worker, alice)


@pytest.mark.parametrize("days", [200, -200, -20_000])
@pytest.mark.parametrize("hours", [1, 30])
def test_a_clock_that_was_wrong_deletes_nobody(open_one: Opener, days: int, hours: int) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    run(worker, 10)
    worker.now_ms += days * DAY_MS
    [carol] = gateway.register("carol")
    gateway.ask(ListUsers(bob, True))
    run(worker, hours)
    worker.now_ms -= days * DAY_MS
    gateway.ask(ListUsers(alice, True), ListUsers(bob, True), ListUsers(carol, True))
    run(worker, 47)
    for user in (alice, bob, carol):
        assert is_there(worker, user)


def test_a_short_life_at_a_day_that_nobody_sees_again(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    worker.now_ms += 41 * DAY_MS
    run(worker, 40)
    # It is corrected, alice is there, and before an hour is over the server goes off.
    worker.now_ms -= 41 * DAY_MS
    gateway.one(ListUsers(alice, True))
    worker.kill()
    worker = open_one(now_ms=worker.now_ms + 3 * DAY_MS, accounts=TWO_DAYS, seed=10**6)
    run(worker, 40)
    assert is_there(worker, alice)


def test_a_machine_that_slept_has_not_run(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    [alice] = Gateway(worker).register("alice")
    run(worker, 200, step_ms=LONGEST_STEP_MS + 1)
    assert is_there(worker, alice)


def test_who_is_disabled_stays_and_has_time_afterwards(open_one: Opener) -> None:
    worker = open_one(now_ms=NOON, accounts=TWO_DAYS)
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    disable(worker, "alice", disabled=True)
    run(worker, 63)
    assert is_there(worker, alice)
    assert not is_there(worker, bob)
    disable(worker, "alice", disabled=False)
    run(worker, 47)
    assert is_there(worker, alice)
    run(worker, 26)
    assert not is_there(worker, alice)


def test_so_many_at_once_and_the_next_when_these_are_gone(
    open_worker: Callable[..., SqliteWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = open_worker(now_ms=NOON, accounts=TWO_DAYS)
    gateway = Gateway(worker)
    names = [f"user {number}" for number in range(2 * DELETED_AT_ONCE + 3)]
    users = list(gateway.register(*names))
    # Nothing of a deleted user goes, at first.
    with monkeypatch.context() as patch:
        patch.setattr(worker.engine, "maintain", lambda _now_ms: None)
        run(worker, 63)
        assert sum(is_there(worker, user) for user in users) == len(users) - DELETED_AT_ONCE
        assert not worker.processor.is_busy
        assert worker.processor.has_waiting
    for left in (len(users) - 2 * DELETED_AT_ONCE, 0):
        for _ in range(10 * DELETED_AT_ONCE):
            worker.now_ms += 1_000
            worker.processor.maintain(worker.now_ms)
            if sum(is_there(worker, user) for user in users) == left:
                break
        else:
            raise AssertionError(f"{left} should be left at some time")
    run(worker, 0.1)
    assert [worker.engine.users.deletion(user) for user in users] == [Deletion.DONE] * len(users)


@pytest.mark.parametrize("trouble", [StoreFull("no room"), StoreDamaged("page 1 is altered")])
def test_hours_that_find_no_place_do_not_count(
    open_worker: Callable[..., SqliteWorker],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Exception,
) -> None:
    worker = open_worker(now_ms=NOON, accounts=TWO_DAYS)
    [alice] = Gateway(worker).register("alice")
    run(worker, 20)

    def fail(_noted: RunningNoted) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(worker.engine.running_time, "apply", fail)
        run(worker, 100)
    assert f"how long the storage worker has run can't be noted now: {trouble}" in caplog.text
    assert is_there(worker, alice)
    run(worker, 35)
    assert is_there(worker, alice)
    run(worker, 30)
    assert not is_there(worker, alice)


def test_a_look_that_fails_is_for_the_next_hour(
    open_worker: Callable[..., SqliteWorker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = open_worker(now_ms=NOON, accounts=TWO_DAYS)
    [alice] = Gateway(worker).register("alice")

    def fail(*_arguments: object) -> None:
        raise StoreDamaged("page 1 is altered")

    with monkeypatch.context() as patch:
        patch.setattr(worker.engine.users, "unseen_since", fail)
        run(worker, 64)
    assert "users who were not seen can't be deleted now: page 1 is altered" in caplog.text
    assert is_there(worker, alice)
    run(worker, 1)
    assert not is_there(worker, alice)


Event = tuple[str, int]
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 30)),
        st.tuples(st.just("set"), st.integers(-400, 400)),
        st.tuples(st.just("act"), st.integers(0, 2)),
        st.tuples(st.just("end"), st.integers(0, 200)),
    ),
    max_size=25,
)


@given(events=EVENTS)
@settings(max_examples=60)
def test_whatever_the_clock_does_nobody_goes_before_their_time(events: list[Event]) -> None:
    disk = Disk(Identity(bytes(16), 1))
    one_day = AccountSettings(inactive_days=1)
    worker = MemoryWorker(disk, now_ms=NOON, accounts=one_day)
    gateway = Gateway(worker)
    ran = 0
    last_act: dict[bytes, int] = {}
    for number, (event, amount) in enumerate(events):
        match event:
            case "run":
                for _ in range(amount):
                    run(worker, 1)
                    ran += 1
                    for user, at in last_act.items():
                        assert ran - at > 24 or is_there(worker, user)
            case "set":
                worker.now_ms = max(0, worker.now_ms + amount * DAY_MS)
            case "end":
                worker.kill()
                worker = MemoryWorker(
                    disk, now_ms=worker.now_ms + amount * DAY_MS, accounts=one_day, seed=10**6 * (number + 1)
                )
                gateway = Gateway(worker, incarnation=number.to_bytes(16, "big"))
            case _:
                outcome = gateway.one(Register(f"user {amount}", KEY, True))
                if isinstance(outcome, Registered):
                    gateway.ask(ListUsers(outcome.client_id, True))
                    last_act[outcome.client_id] = ran
