"""Deleting a user: step by step, killed between any two, and not to be found in the bytes of the
folder afterwards.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from common import fail_points
from common.fail_points import FailPoint
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    DeleteAccount,
    DeletionGoesOn,
    Done,
    Fetch,
    Fetched,
    GetAbout,
    KeyClaimed,
    MarkAuthenticated,
    PublishKeys,
    Refused,
    Register,
    Registered,
    StoreMessage,
    StoreMessages,
)
from common.values import RefusalReason
from storage_worker.engine.errors import StoreDamaged, StoreFull
from storage_worker.engine.sqlite import deletion
from storage_worker.engine.sqlite.blocks import BlockLists
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.deletion import ERASE_EVERY_MS, STEP
from storage_worker.engine.sqlite.mail_pages import MailPages
from storage_worker.engine.sqlite.published_keys import Keys
from storage_worker.engine.sqlite.users import UserRegistry
from storage_worker.engine.values import Deletion, KeptName
from tests.storage_worker.rules.asking import contents, fetch, files
from tests.storage_worker.worker_under_test import KEY, Gateway, SqliteWorker

Open = Callable[..., SqliteWorker]
LARGE = 70_000


class Killed(Exception):
    """The process is gone at a fail point."""


def found_in(folder: Path, wanted: bytes) -> list[str]:
    """The files of a folder that have these bytes."""
    return [path.name for path in sorted(folder.rglob("*")) if path.is_file() and wanted in path.read_bytes()]


def go_on(worker: SqliteWorker, times: int = 50) -> None:
    """Turns of the loop in which nothing comes."""
    for _ in range(times):
        worker.now_ms += 1_000
        worker.processor.maintain(worker.now_ms)


def audited(caplog: pytest.LogCaptureFixture) -> list[bytes]:
    """Whose deletion the audit log has, in order."""
    lines = [vars(record)["fields"] for record in caplog.records if record.name == "messageu.audit"]
    return [bytes.fromhex(line["user"]) for line in lines if line["event"] == "deleted"]


BUNDLE, ONE_TIME = b"what alice has published", [bytes([number]) * 96 for number in (0xA1, 0xA2, 0xA3)]


def lived(gateway: Gateway) -> tuple[bytes, bytes]:
    """Alice did everything that leaves a trace, and bob is left."""
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice), StoreMessage(alice, True, bob, 3, b"with a token", b"t" * 16))
    gateway.ask(BeginUpload(1, bob, False, alice, 4, LARGE), Chunk(1, bytes(LARGE)), CommitUpload(1))
    for _ in range(3):
        gateway.ask(StoreMessages(True, pack_frame(alice, bob, 3, b"small") * 20))
        gateway.ask(StoreMessages(False, pack_frame(bob, alice, 3, bytes(LARGE)) * 10))
        gateway.ask(StoreMessages(True, pack_frame(alice, alice, 3, bytes(LARGE)) * 10))
        gateway.worker.processor.maintain(gateway.worker.now_ms + 10_000)
    gateway.ask(PublishKeys(alice, True, False, BUNDLE, b"".join(ONE_TIME)))
    gateway.worker.processor.maintain(gateway.worker.now_ms + 10_000)
    gateway.ask(ClaimKey(bob, True, alice, True))
    everything = gateway.one(Fetch(bob, True, 0, 2**40, 54, 2**20, False))
    gateway.ask(Fetch(bob, True, getattr(everything, "last", 0), 2**40, 54, 2**20, False))
    gateway.store(bob, bob, b"kept")
    return alice, bob


def delete(gateway: Gateway, user: bytes) -> None:
    for _ in range(200):
        if gateway.one(DeleteAccount(user, True)) == Done():
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("orderly", [True, False])
def test_the_id_is_nowhere_in_the_folder(open_worker: Open, tmp_path: Path, orderly: bool) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = lived(gateway)
    traces = [alice, BUNDLE, *ONE_TIME]
    assert all(found_in(tmp_path, trace) for trace in traces)
    # What a claim was answered is kept with its batch.
    assert isinstance(gateway.one(ClaimKey(bob, True, alice, True)), KeyClaimed)
    delete(gateway, alice)
    if orderly:
        worker.close()
    else:
        go_on(worker)
        worker.kill()
    assert [found_in(tmp_path, trace) for trace in traces] == [[]] * len(traces)
    assert found_in(tmp_path, bob)
    worker = open_worker()
    assert contents(fetch(Gateway(worker), bob).page) == [b"kept"]
    assert worker.database.problems() == []


def test_a_control_that_does_not_erase_finds_it(
    open_worker: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = open_worker()
    monkeypatch.setattr(worker.journal, "erase", lambda: None)
    gateway = Gateway(worker)
    alice, _ = lived(gateway)
    delete(gateway, alice)
    go_on(worker)
    worker.kill()
    assert {"mail.journal", "mail.journal.2"} & set(found_in(tmp_path, alice))


def test_what_others_have_not_fetched_keeps_its_sender_until_they_do(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(StoreMessages(False, pack_frame(alice, bob, 3, b"the last words") * 3))
    delete(gateway, alice)
    go_on(worker)
    worker.close()
    assert found_in(tmp_path, alice) == ["mail.db"]
    worker = open_worker()
    gateway = Gateway(worker)
    everything = gateway.one(Fetch(bob, True, 0, 2**40, 54, 2**20, False))
    assert contents(everything.page) == [b"the last words"] * 3  # type: ignore[union-attr]
    gateway.ask(Fetch(bob, True, everything.last, 2**40, 54, 2**20, False))  # type: ignore[union-attr]
    worker.close()
    assert found_in(tmp_path, alice) == []


@pytest.mark.parametrize("place", [FailPoint.DELETION_STEP, FailPoint.DELETION_STEPPED, FailPoint.DELETION_ERASED])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_killed_at_any_place_it_is_ended_by_the_next_start(
    open_worker: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: FailPoint,
    passes: int,
) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = lived(gateway)
    caplog.set_level("INFO", "messageu.audit")
    worker.flush()
    monkeypatch.setattr(deletion, "STEP", 4)
    left = [passes]

    def reach(point: FailPoint, *_concerns: object) -> None:
        if point is place:
            left[0] -= 1
            if not left[0]:
                raise Killed

    monkeypatch.setattr(fail_points, "reach", reach)
    killed = False
    try:
        delete(gateway, alice)
        go_on(worker)
    except Killed:
        killed = True
    assert killed or place is FailPoint.DELETION_ERASED, "every place is passed"
    worker.kill()
    worker = open_worker()
    gateway = Gateway(worker)
    assert gateway.refused(StoreMessage(bob, False, alice, 3, b"x")) is RefusalReason.RECIPIENT_UNKNOWN
    go_on(worker, 300)
    assert worker.engine.users.deletion(alice) is Deletion.DONE
    assert files(worker) == 0
    assert contents(fetch(gateway, bob).page) == [b"kept"]
    worker.kill()
    assert found_in(tmp_path, alice) == []
    assert set(audited(caplog)) == {alice}


@pytest.mark.parametrize(("place", "lines"), [(FailPoint.DELETION_STEP, 2), (FailPoint.DELETION_STEPPED, 1)])
def test_the_audit_log_never_lacks_a_deletion(
    open_worker: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: FailPoint,
    lines: int,
) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    caplog.set_level("INFO", "messageu.audit")

    def reach(point: FailPoint, *_concerns: object) -> None:
        if point is place:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fail_points, "reach", reach)
        with pytest.raises(Killed):
            gateway.one(DeleteAccount(alice, True))
    assert audited(caplog) == [alice], "before the id is gone"
    worker.kill()
    worker = open_worker()
    go_on(worker, 3)
    assert worker.engine.users.deletion(alice) is Deletion.DONE
    # Again where the step was not on disk.
    assert audited(caplog) == [alice] * lines


def test_killed_when_the_journal_alone_knows(open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    monkeypatch.setattr(worker.processor, "maintain", lambda _now_ms: None)
    gateway.ask(StoreMessages(False, pack_frame(bob, alice, 3, b"goes") + pack_frame(alice, bob, 3, b"stays")))
    assert gateway.one(DeleteAccount(alice, True)) == DeletionGoesOn()
    worker.kill()
    worker = open_worker()
    gateway = Gateway(worker)
    assert gateway.refused(StoreMessage(bob, False, alice, 3, b"x")) is RefusalReason.RECIPIENT_UNKNOWN
    delete(gateway, alice)
    assert contents(fetch(gateway, bob).page) == [b"stays"]


def test_a_step_is_short(open_worker: Open) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    for _ in range(STEP + 2):
        gateway.ask(StoreMessages(False, pack_frame(bob, alice, 3, bytes(LARGE))))
    worker.flush()
    count = "SELECT count(*) FROM mail_page"
    assert worker.database.row(count) == (STEP + 2,)
    assert gateway.one(DeleteAccount(alice, True)) == DeletionGoesOn()
    assert worker.database.row(count) == (2,)
    assert gateway.one(DeleteAccount(alice, True)) == DeletionGoesOn()
    assert worker.database.row(count) == (0,)
    assert gateway.one(DeleteAccount(alice, True)) == Done()


def test_the_mark_of_an_operator_is_seen_with_the_next_turn(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.store(bob, alice, b"in the journal alone")
    beside = Database(tmp_path / "mail.db", beside=True)
    with beside.transaction():
        beside.execute("UPDATE user SET deleted = 1 WHERE name = 'alice'")
    assert UserRegistry(beside, BlockLists(beside), Keys(beside, 0)).kept_names() == [KeptName("alice", goes_on=True)]
    assert gateway.refused(StoreMessage(bob, False, alice, 3, b"x")) is RefusalReason.RECIPIENT_UNKNOWN
    assert gateway.one(DeleteAccount(alice, True)) == Done()
    assert UserRegistry(beside, BlockLists(beside), Keys(beside, 0)).kept_names() == [KeptName("alice", goes_on=False)]
    assert beside.row("SELECT count(*) FROM mail_page") == (0,)
    beside.close()


def test_a_mark_that_was_made_while_no_worker_ran(
    open_worker: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    monkeypatch.setattr(worker.processor, "maintain", lambda _now_ms: None)
    gateway.ask(StoreMessages(False, pack_frame(bob, alice, 3, b"goes") + pack_frame(alice, bob, 3, b"stays")))
    worker.kill()
    beside = Database(tmp_path / "mail.db", beside=True)
    with beside.transaction():
        beside.execute("UPDATE user SET deleted = 1 WHERE name = 'alice'")
    beside.close()
    worker = open_worker()
    go_on(worker, 3)
    assert worker.engine.users.deletion(alice) is Deletion.DONE
    assert contents(fetch(Gateway(worker), bob).page) == [b"stays"]


def test_the_next_user_gets_another_row(open_worker: Open) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    _, bob = gateway.register("alice", "bob")
    delete(gateway, bob)
    gateway.register("carol")
    [carol] = gateway.register("carol")
    found = worker.engine.users.find(carol)
    assert found is not None
    assert found.row == 3


def test_a_freed_name_is_registered_again_and_its_id_is_not(open_worker: Open) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    delete(gateway, alice)
    assert gateway.refused(Register("Alice", KEY, True)) is RefusalReason.NAME_TAKEN, "it looks like hers"
    with worker.database.transaction():
        assert worker.engine.users.free_name("alice")
        assert not worker.engine.users.free_name("alice")
    assert isinstance(gateway.one(Register("Alice", KEY, True)), Registered)
    delete(gateway, worker.engine.users.find_name("Alice")[0])  # type: ignore[index]
    with worker.database.transaction():
        assert worker.engine.users.free_name("Alice")
    registered = gateway.one(Register("alice", KEY, True, alice))
    assert isinstance(registered, Registered)
    assert registered.client_id != alice
    assert worker.engine.users.kept_names() == []


def test_an_altered_page_holds_it_up_and_nobody_else(
    open_worker: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob, carol = gateway.register("alice", "bob", "carol")
    for user in (alice, bob):
        gateway.ask(StoreMessages(False, pack_frame(carol, user, 3, b"x")))
    worker.flush()
    drop = MailPages.drop

    def damaged(pages: MailPages, row: int) -> None:
        if row == 1:
            raise StoreDamaged("page 1 is altered")
        drop(pages, row)

    monkeypatch.setattr(MailPages, "drop", damaged)
    gateway.ask(DeleteAccount(alice, True), DeleteAccount(bob, True))
    go_on(worker, 5)
    assert "what a deleted user had can't be deleted: page 1 is altered" in caplog.messages
    assert gateway.refused(DeleteAccount(alice, True)) is RefusalReason.DAMAGED
    assert gateway.one(DeleteAccount(bob, True)) == Done()
    go_on(worker, 5)
    assert not worker.engine.has_pending


def test_no_room_puts_it_off(open_worker: Open) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(StoreMessages(False, pack_frame(bob, alice, 3, b"x")))
    worker.limit_room(0)
    outcomes = [gateway.one(DeleteAccount(alice, True)) for _ in range(3)]
    assert all(outcome in {DeletionGoesOn(), Done()} for outcome in outcomes)
    worker.limit_room(None)
    go_on(worker)
    assert gateway.one(DeleteAccount(alice, True)) == Done()


def test_the_loop_hurries_while_a_step_can_be_done(open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = open_worker()
    gateway = Gateway(worker)

    def busy() -> bool:
        return worker.processor.is_busy

    alice, bob = gateway.register("alice", "bob")
    for _ in range(2 * STEP):
        gateway.ask(StoreMessages(False, pack_frame(bob, alice, 3, bytes(LARGE))))
    worker.flush()
    assert not busy()
    gateway.one(DeleteAccount(alice, True))
    assert busy()

    def full(_pages: MailPages, _row: int) -> None:
        raise StoreFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(MailPages, "drop", full)
        go_on(worker, 1)
        assert not busy(), "there is no room for it"
        assert worker.processor.has_waiting
    go_on(worker, 2)
    assert busy()
    go_on(worker, 3)
    assert worker.engine.users.deletion(alice) is Deletion.DONE
    assert not busy()


def test_who_deletes_one_after_the_other_does_not_hold_up_the_loop_each_time(
    open_worker: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    erased: list[int] = []
    erase = worker.journal.erase

    def noting() -> None:
        erased.append(worker.now_ms)
        erase()

    monkeypatch.setattr(worker.journal, "erase", noting)
    for number in range(5):
        [user] = gateway.register(f"user {number}")
        delete(gateway, user)
        worker.now_ms += ERASE_EVERY_MS // 10
    assert len(erased) == 1
    go_on(worker, 20)
    assert len(erased) == 2
    assert erased[1] - erased[0] >= ERASE_EVERY_MS


def test_somebody_who_reads_puts_the_end_off(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    [alice] = gateway.register("alice")
    reader = Database(tmp_path / "mail.db", beside=True)
    rows = reader.execute("SELECT * FROM user UNION ALL SELECT * FROM user")
    next(rows)
    worker.database.connection.set_busy_timeout(0)
    delete(gateway, alice)
    go_on(worker, 3)
    assert worker.engine.has_pending
    list(rows)
    reader.close()
    go_on(worker, 3)
    assert found_in(tmp_path, alice) == []


def test_answers_that_name_the_user_are_unknown_afterwards(open_worker: Open) -> None:
    worker = open_worker()
    one, other = Gateway(worker, slot=0), Gateway(worker, slot=1, peer=b"other")
    [registered] = one.ask(Register("alice", KEY))
    assert isinstance(registered, Registered)
    kept = one.last_batch
    delete(other, registered.client_id)
    assert kept is not None
    [answer] = worker.handle(kept)
    assert type(answer).__name__ == "GreetAgain"


def test_nothing_is_written_to_the_log_of_what_strangers_ask(
    open_worker: Open, caplog: pytest.LogCaptureFixture
) -> None:
    worker = open_worker()
    caplog.set_level(logging.INFO)
    outcome = Gateway(worker).one(DeleteAccount(bytes(16), True))
    assert isinstance(outcome, Refused)
    assert not isinstance(Gateway(worker).one(GetAbout()), Refused)
    assert "deleted" not in caplog.text


def empty(gateway: Gateway, user: bytes) -> None:
    """Fetch and acknowledge all there is."""
    everything = gateway.one(Fetch(user, True, 0, 2**40, 54, 2**30, False))
    assert isinstance(everything, Fetched)
    gateway.ask(Fetch(user, True, everything.last, 2**40, 54, 2**30, False))


def churned(gateway: Gateway) -> tuple[bytes, bytes]:
    """Before anybody is deleted much mail of alice's was fetched: it is in free pages."""
    alice, bob = gateway.register("alice", "bob")
    for _ in range(5):
        gateway.ask(StoreMessages(False, pack_frame(alice, bob, 3, bytes(LARGE)) * 20))
        gateway.worker.now_ms += 10_000
        gateway.worker.processor.maintain(gateway.worker.now_ms)
    empty(gateway, bob)
    gateway.worker.now_ms += 10_000
    gateway.worker.processor.maintain(gateway.worker.now_ms)
    return alice, bob


def test_pages_that_were_free_before_the_first_deletion_are_overwritten_once(
    open_worker: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "FREE_BYTES", 256 * 1024)
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob = churned(gateway)
    free = worker.database.unused_bytes()
    assert free > 4 * 1024 * 1024
    assert "mail.db" in found_in(tmp_path, alice) or "mail.db-wal" in found_in(tmp_path, alice)
    taken: list[int] = []
    take_free = worker.database.take_free

    def counted(most_bytes: int) -> int:
        taken.append(most_bytes)
        return take_free(most_bytes)

    monkeypatch.setattr(worker.database, "take_free", counted)
    delete(gateway, alice)
    go_on(worker, 200)
    assert len(taken) >= free // (256 * 1024)
    assert found_in(tmp_path, alice) == []
    # All of it is free again.
    assert worker.database.unused_bytes() >= free - 256 * 1024
    assert worker.database.problems() == []
    taken.clear()
    delete(gateway, bob)
    go_on(worker, 50)
    assert taken == []
    assert found_in(tmp_path, bob) == []


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20, 30, 40, 45])
def test_killed_while_free_pages_are_overwritten(
    open_worker: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(deletion, "FREE_BYTES", 256 * 1024)
    monkeypatch.setattr(deletion, "FREE_PIECES", 2)
    worker = open_worker()
    gateway = Gateway(worker)
    alice, _bob = churned(gateway)
    free = worker.database.unused_bytes()
    delete(gateway, alice)
    go_on(worker, steps)
    worker.kill()
    worker = open_worker()
    go_on(worker, 200)
    worker.kill()
    assert found_in(tmp_path, alice) == []
    worker = open_worker()
    assert worker.database.unused_bytes() >= free - 256 * 1024
    assert worker.database.find("SELECT 1 FROM sqlite_schema WHERE name = 'overwritten'") is None
    assert worker.database.problems() == []


def test_mail_that_is_fetched_after_somebody_was_deleted_is_overwritten(open_worker: Open, tmp_path: Path) -> None:
    worker = open_worker()
    gateway = Gateway(worker)
    alice, bob, carol = gateway.register("alice", "bob", "carol")
    gateway.ask(StoreMessages(False, pack_frame(alice, bob, 3, bytes(LARGE)) * 20))
    delete(gateway, carol)
    go_on(worker)
    delete(gateway, alice)
    go_on(worker)
    worker.close()
    worker = open_worker()
    gateway = Gateway(worker)
    empty(gateway, bob)
    worker.close()
    assert found_in(tmp_path, alice) == []
