"""Answers to an operator, over both engines."""

from collections.abc import Iterator

import pytest

from common.storage_protocol.administration import (
    Accounts,
    Expire,
    Expiry,
    GetExpiry,
    GetTotals,
    ListAccounts,
    NotDone,
    Totals,
    encode_request,
)
from common.storage_protocol.operations import BeginUpload, Chunk, Fetch, MarkAuthenticated
from storage_worker.engine.errors import StoreDamaged, StoreFailed
from storage_worker.engine.memory import Disk
from storage_worker.engine.values import Identity
from storage_worker.server import administration
from tests.storage_worker.worker_under_test import Gateway, MemoryWorker, SqliteWorker, WorkerUnderTest


@pytest.fixture(params=["memory", "sqlite"])
def served(request: pytest.FixtureRequest) -> Iterator[WorkerUnderTest]:
    if request.param == "sqlite":
        yield request.getfixturevalue("worker")
    else:
        yield MemoryWorker(Disk(Identity(bytes(16), 1)))


def test_numbers_are_those_of_the_last_turn(served: WorkerUnderTest) -> None:
    gateway = Gateway(served)
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice))
    gateway.store(bob, bob, b"abc", b"de")
    # The journal alone has it.
    answer = served.administer(ListAccounts())
    assert isinstance(answer, Accounts)
    assert answer.last == 0
    assert [(one.row, one.client_id, one.name) for one in answer.accounts] == [
        (1, alice, "alice"),
        (2, bob, "bob"),
    ]
    assert [(one.authenticated, one.messages, one.content_bytes) for one in answer.accounts] == [
        (True, 0, 0),
        (False, 2, 5),
    ]
    totals = served.administer(GetTotals())
    assert isinstance(totals, Totals)
    assert (totals.users, totals.authenticated) == (2, 1)
    assert (totals.mailboxes, totals.messages, totals.content_bytes) == (1, 2, 5)
    assert (totals.accepted, totals.accepted_exactly, totals.starts) == (2, True, 1)
    gateway.ask(MarkAuthenticated(bob), Fetch(bob, True, 1, 1000, 0, 1000, False))
    totals = served.administer(GetTotals())
    assert isinstance(totals, Totals)
    assert (totals.authenticated, totals.messages, totals.content_bytes, totals.accepted) == (2, 1, 2, 2)


def test_what_is_uploaded_is_no_mail_yet(served: WorkerUnderTest) -> None:
    gateway = Gateway(served)
    [alice] = gateway.register("alice")
    gateway.ask(BeginUpload(1, alice, False, alice, 3, 10), Chunk(1, b"12345"))
    answer, totals = served.administer(ListAccounts()), served.administer(GetTotals())
    assert isinstance(answer, Accounts)
    assert isinstance(totals, Totals)
    assert (answer.accounts[0].messages, answer.accounts[0].content_bytes) == (0, 0)
    assert (totals.messages, totals.uploads, totals.upload_bytes) == (0, 1, 5)


def test_users_come_in_pieces(served: WorkerUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration, "ACCOUNTS_AT_ONCE", 2)
    list(Gateway(served).register("a", "b", "c"))
    first = served.administer(ListAccounts())
    assert isinstance(first, Accounts)
    assert ([one.name for one in first.accounts], first.last) == (["a", "b"], 2)
    second = served.administer(ListAccounts(first.last))
    assert isinstance(second, Accounts)
    assert ([one.name for one in second.accounts], second.last) == (["c"], 0)
    assert served.administer(ListAccounts(3)) == Accounts(0, [])


def test_looking_at_all_mailboxes_keeps_none_in_memory(worker: SqliteWorker) -> None:
    list(Gateway(worker).register("a", "b", "c"))
    before = dict(worker.engine.mailboxes.boxes)
    worker.administer(ListAccounts())
    assert worker.engine.mailboxes.boxes == before


def test_one_expiry_at_a_time(served: WorkerUnderTest) -> None:
    assert served.administer(GetExpiry()) == Expiry(False, 0, 0)
    assert served.administer(Expire(7)) == Expiry(True, 0, 0)
    again = served.administer(Expire(7))
    assert isinstance(again, NotDone)
    assert "expires already" in again.problem
    served.processor.maintain(served.now_ms)
    assert served.administer(GetExpiry()) == Expiry(False, 0, 0)


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x91\x63", b"\x92\x01\xff"])
def test_a_request_of_another_version_is_refused(served: WorkerUnderTest, body: bytes) -> None:
    answer = served.administration.answer(encode_request(1, GetTotals())[:20] + body, served.now_ms)
    assert isinstance(answer, NotDone)
    assert "another version" in answer.problem


def test_damage_and_bugs_are_refusals_and_failures_end_the_worker(
    worker: SqliteWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [StoreDamaged("page 7 is altered"), ValueError("seventeen"), StoreFailed("no disk")]

    def fail() -> None:
        raise errors.pop(0)

    monkeypatch.setattr(worker.engine, "totals", fail)
    damaged = worker.administer(GetTotals())
    assert isinstance(damaged, NotDone)
    assert "page 7 is altered" in damaged.problem
    broken = worker.administer(GetTotals())
    assert isinstance(broken, NotDone)
    assert "seventeen" not in broken.problem
    assert "seventeen" in caplog.text
    with pytest.raises(StoreFailed):
        worker.administer(GetTotals())
