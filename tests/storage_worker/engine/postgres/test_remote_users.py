"""The users as a shard beside the directory knows them: two workers, of shards 0 and 1 of 2."""

from collections.abc import Callable
from typing import Any

import pytest

from common.storage_protocol.administration import GetTotals, Totals
from common.storage_protocol.frames import MailArrived
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
    Forget,
    GetPublicKey,
    KeyClaimed,
    KeyFound,
    KeysKept,
    MarkAuthenticated,
    MessagesStored,
    PublishKeys,
    Pull,
    Pulled,
    Release,
    SetBlock,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    TellOthers,
    UploadProgress,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.errors import StoreFailed
from storage_worker.engine.values import ExpiryState, MailboxStats
from storage_worker.rules.accounts import AccountSettings
from storage_worker.rules.admission import Limits
from storage_worker.rules.inactivity import HOUR_MS, LONGEST_STEP_MS
from storage_worker.server.own_turn import own_turn
from tests.storage_worker.worker_under_test import KEY, Gateway, PostgresWorker, pieces

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import deletion, statements
from storage_worker.engine.postgres.known_users import LOOK_EVERY_MS

DAY_MS = 24 * 3600 * 1000
Open = Callable[..., PostgresWorker]


class Two:
    """The directory, the shard beside it, and a gateway at each."""

    def __init__(self, open_worker: Open, **settings: Any) -> None:
        def open_(number: int) -> PostgresWorker:
            return open_worker(shard=(number, 2), **settings)

        self.open = open_
        self.workers = [open_(number) for number in (0, 1)]
        self.gateways = [Gateway(worker) for worker in self.workers]

    @property
    def directory(self) -> Gateway:
        return self.gateways[0]

    @property
    def beside(self) -> Gateway:
        return self.gateways[1]

    def restart(self, number: int) -> None:
        """Kill a worker, and open the next one."""
        self.workers[number].kill()
        self.workers[number] = self.open(number)
        self.gateways[number] = Gateway(self.workers[number])

    def pass_time(self, milliseconds: int) -> None:
        """For both, each of which then does its maintenance."""
        for worker in self.workers:
            worker.now_ms += milliseconds
            worker.processor.maintain(worker.now_ms)

    def prove(self, client_id: bytes) -> None:
        """As a gateway does that has checked a signature."""
        outcome = self.directory.one(MarkAuthenticated(client_id))
        if isinstance(outcome, TellOthers):
            assert self.beside.one(Forget(client_id)) == Done()
            outcome = self.directory.one(MarkAuthenticated(client_id, told=True))
        assert outcome == Done()


@pytest.fixture
def two(open_worker: Open) -> Two:
    return Two(open_worker)


def fetch(client_id: bytes, ack: int = 0) -> Fetch:
    return Fetch(client_id, True, ack, 1000, 54, 1000, False)


def contents(outcome: object) -> list[bytes]:
    assert isinstance(outcome, Fetched)
    return [piece.content for piece in pieces(outcome.page)]


def test_whoever_registers_is_a_user_everywhere(two: Two) -> None:
    message = StoreMessage(b"n" * 16, False, b"m" * 16, 3, b"early")
    assert two.beside.refused(message) is Reason.REQUESTER_UNKNOWN
    alice, bob = two.directory.register("alice", "bob")
    # Nobody remembers that there was no such user.
    assert two.beside.store(alice, bob, b"one", b"two") == [1, 2]
    assert two.beside.one(GetPublicKey(alice, False, bob)) == KeyFound(bob, KEY)
    two.prove(bob)
    two.restart(1)
    assert contents(two.beside.one(fetch(bob))) == [b"one", b"two"]


def test_runs_look_everybody_up_at_once_and_blocks_are_of_the_shard(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.prove(bob)
    assert two.beside.one(SetBlock(bob, True, alice, True)) == Done()
    two.restart(1)
    users = two.workers[1].engine.users
    users.expect([alice, bob, b"x" * 16])
    assert users.known.keys() == {alice, bob}
    assert users.known[bob].blocks
    assert not users.known[alice].blocks
    assert two.beside.store(alice, bob, b"not for bob") == [1]
    assert contents(two.beside.one(fetch(bob))) == []


def test_a_proof_is_known_everywhere_before_it_is_answered(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.beside.store(alice, bob, b"for bob")
    assert isinstance(two.beside.one(Pull(1, bob, False, 1000, 25, 1000)), Pulled)
    assert two.directory.one(MarkAuthenticated(bob)) == TellOthers()
    assert two.beside.one(Forget(bob)) == Done()
    assert two.beside.refused(Pull(2, bob, False, 1000, 25, 1000)) is Reason.PROOF_NEEDED
    # The lease of the connection that had no proof has ended.
    outcome = two.beside.one(Pull(3, bob, True, 1000, 25, 1000))
    assert isinstance(outcome, Pulled)
    assert outcome.count == 1
    assert two.beside.one(Release(3)) == Done()
    assert two.directory.one(MarkAuthenticated(bob)) == TellOthers()
    assert two.directory.one(MarkAuthenticated(bob, told=True)) == Done()
    assert two.directory.one(MarkAuthenticated(bob)) == Done()
    two.restart(0)
    assert two.directory.one(MarkAuthenticated(bob)) == Done()


def test_who_needed_no_proof_for_a_while_is_told_again(two: Two) -> None:
    [bob] = two.directory.register("bob")
    two.prove(bob)
    two.workers[0].engine.log.flush(two.workers[0].now_ms)
    # As an operator does, with the worker stopped.
    two.workers[0].kill()
    two.workers[1].beside.rows("SELECT set_config('search_path', 'messageu_0', false)")
    two.workers[1].beside.rows("UPDATE account SET proven = false")
    two.restart(0)
    assert two.directory.one(MarkAuthenticated(bob)) == TellOthers()
    two.restart(0)
    assert two.directory.one(MarkAuthenticated(bob)) == TellOthers()
    two.prove(bob)
    assert two.directory.one(MarkAuthenticated(bob)) == Done()


def test_a_proof_is_in_the_tables_when_it_is_acknowledged(two: Two) -> None:
    [bob] = two.directory.register("bob")
    two.directory.one(MarkAuthenticated(bob))
    # The directory's journal alone would not do: no other shard reads that.
    two.workers[0].kill()
    assert two.beside.refused(Pull(1, bob, False, 1000, 25, 1000)) is Reason.PROOF_NEEDED
    two.restart(0)
    assert two.directory.refused(Pull(1, bob, False, 1000, 25, 1000)) is Reason.PROOF_NEEDED


def test_what_an_operator_changes_is_known_within_a_second(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.beside.store(alice, bob, b"one")
    worker = two.workers[0]
    own_turn(worker.engine, worker.rules, worker.now_ms, lambda: worker.rules.disable("alice", disabled=True))
    two.pass_time(LOOK_EVERY_MS)
    assert two.beside.refused(StoreMessage(alice, False, bob, 3, b"two")) is Reason.DISABLED
    own_turn(worker.engine, worker.rules, worker.now_ms, lambda: worker.rules.disable("alice", disabled=False))
    two.pass_time(LOOK_EVERY_MS)
    assert two.beside.store(alice, bob, b"three") == [2]


@pytest.mark.parametrize("killed", [None, 0, 1])
def test_a_deleted_user_leaves_every_shard(
    two: Two, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, killed: int | None
) -> None:
    monkeypatch.setattr(deletion, "STEP", 2)
    caplog.set_level("INFO", "messageu.audit")
    alice, bob = two.directory.register("alice", "bob")
    two.beside.store(alice, bob, *[bytes(7000) for _ in range(5)])
    two.prove(bob)
    two.prove(alice)
    assert two.beside.one(StoreMessage(bob, True, alice, 3, b"stays", b"t" * 16)) == Stored(6)
    assert two.beside.one(SetBlock(alice, True, bob, True)) == Done()
    assert two.beside.one(BeginUpload(1, alice, True, bob, 4, 10)) == UploadProgress(0)
    assert isinstance(two.beside.one(Fetch(bob, True, 5, 1000, 54, 1000, True)), Fetched)
    two.beside.store(alice, bob, *[bytes(7000) for _ in range(5)], authenticated=True)
    two.beside.arrived.clear()
    ask = DeleteAccount(bob, True)
    assert two.directory.one(ask) == DeletionGoesOn()
    for _ in range(3):
        # The other shard has done nothing yet.
        two.workers[0].now_ms += 1000
        assert two.directory.one(ask) == DeletionGoesOn()
    if killed is not None:
        two.restart(killed)
    assert two.beside.one(Forget(bob)) == Done()
    for _ in range(10):
        two.pass_time(LOOK_EVERY_MS)
    assert two.directory.one(ask) == Done()
    if killed is None:
        assert two.beside.refused(CommitUpload(1)) is Reason.RECIPIENT_UNKNOWN
    assert two.beside.refused(StoreMessage(alice, True, bob, 3, b"late")) is Reason.RECIPIENT_UNKNOWN
    assert contents(two.beside.one(fetch(alice))) == [b"stays"]
    rows = two.workers[1].beside.rows
    assert rows("SELECT DISTINCT recipient FROM mail_page") == [(1,)]
    assert rows("SELECT sender FROM block") == rows("SELECT sender FROM sent_token") == []
    assert two.workers[0].beside.rows("SELECT account, shard FROM gone_account") == []
    audited = [vars(record)["fields"]["event"] for record in caplog.records if record.name == "messageu.audit"]
    assert audited.count("deleted") == 1


def test_who_waits_for_mail_and_is_deleted_waits_no_longer(two: Two) -> None:
    [bob] = two.directory.register("bob")
    two.prove(bob)
    assert isinstance(two.beside.one(Fetch(bob, True, 0, 1000, 54, 1000, True)), Fetched)
    two.directory.one(DeleteAccount(bob, True))
    two.workers[1].now_ms += LOOK_EVERY_MS
    two.workers[1].processor.maintain(two.workers[1].now_ms)
    [notice] = two.workers[1].processor.take_notices()
    assert isinstance(notice.message, MailArrived)
    assert notice.message.recipients == [bob]


def test_the_directory_hears_who_was_seen(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    for worker in two.workers:
        worker.now_ms = 30 * DAY_MS
    two.beside.store(alice, bob, b"one")
    two.pass_time(2 * LOOK_EVERY_MS)
    two.pass_time(2 * LOOK_EVERY_MS)
    assert two.workers[0].beside.rows("SELECT id, seen FROM account ORDER BY id") == [(1, 30), (2, 0)]


def test_the_directory_hears_it_although_the_worker_is_killed(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    for worker in two.workers:
        worker.now_ms = 30 * DAY_MS
    two.beside.store(alice, bob, b"one")
    # From now on the journal does not have it.
    two.workers[1].engine.log.flush(two.workers[1].now_ms)
    assert two.workers[1].beside.rows("SELECT count(*) FROM journal") == [(0,)]
    two.workers[1].kill()
    assert two.workers[0].beside.rows("SELECT id, seen FROM account ORDER BY id") == [(1, 30), (2, 0)]


def test_who_was_seen_beside_the_directory_is_not_deleted_as_inactive(open_worker: Open) -> None:
    two = Two(open_worker, accounts=AccountSettings(inactive_days=1), now_ms=0)
    alice, bob, carol = two.directory.register("alice", "bob", "carol")
    two.beside.store(alice, carol, b"for somebody who never comes")

    def run(hours: int) -> None:
        for _ in range(hours * HOUR_MS // LONGEST_STEP_MS):
            two.pass_time(LONGEST_STEP_MS)

    for _ in range(2):
        run(24)
        assert isinstance(two.beside.one(Pull(1, bob, False, 100, 25, 100)), Pulled)
        assert two.beside.one(Release(1)) == Done()
    run(12)
    for _ in range(5):
        two.pass_time(LOOK_EVERY_MS)
    assert two.workers[0].beside.rows("SELECT name FROM account ORDER BY id") == [("bob",)]
    assert two.beside.refused(Pull(1, carol, False, 100, 25, 100)) is Reason.REQUESTER_UNKNOWN
    assert two.beside.refused(StoreMessage(bob, False, carol, 3, b"late")) is Reason.RECIPIENT_UNKNOWN
    assert two.workers[1].engine.load()[1] == MailboxStats(0, 0)


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_is_restarted_amid_a_proof_lets_nobody_in_without_one(two: Two, step: int, number: int) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.beside.store(alice, bob, b"for bob")
    # The shard knows the user as one who needs no proof.
    assert isinstance(two.beside.one(Pull(1, bob, False, 1000, 25, 1000)), Pulled)

    def reached(here: int) -> None:
        if here == step:
            two.restart(number)

    reached(0)
    outcome = two.directory.one(MarkAuthenticated(bob))
    reached(1)
    if number == step == 1:
        # It asks the directory, before anybody told it anything.
        assert two.beside.refused(Pull(2, bob, False, 1000, 25, 1000)) is Reason.PROOF_NEEDED
    assert outcome == TellOthers()
    assert two.beside.one(Forget(bob)) == Done()
    reached(2)
    assert two.beside.refused(Pull(3, bob, False, 1000, 25, 1000)) is Reason.PROOF_NEEDED
    assert two.directory.one(MarkAuthenticated(bob, told=True)) == Done()
    reached(3)
    assert two.directory.one(MarkAuthenticated(bob)) == Done()
    for gateway in two.gateways:
        assert gateway.refused(Pull(4, bob, False, 1000, 25, 1000)) is Reason.PROOF_NEEDED
    assert contents(two.beside.one(fetch(bob))) == [b"for bob"]


@pytest.mark.parametrize("number", [0, 1])
def test_what_an_operator_changes_is_known_to_a_worker_that_is_restarted(two: Two, number: int) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.beside.store(alice, bob, b"one")
    worker = two.workers[0]
    own_turn(worker.engine, worker.rules, worker.now_ms, lambda: worker.rules.disable("alice", disabled=True))
    two.restart(number)
    two.pass_time(LOOK_EVERY_MS)
    assert two.beside.refused(StoreMessage(alice, False, bob, 3, b"two")) is Reason.DISABLED


def test_quotas_are_of_a_mailbox_wherever_it_lies(open_worker: Open) -> None:
    two = Two(
        open_worker, limits=Limits(mailbox_messages=10, mailbox_bytes=10_000, sender_share=100, uploads_of_user=1)
    )
    alice, bob, carol = two.directory.register("alice", "bob", "carol")
    two.beside.store(alice, bob, *[b"x"] * 8)
    assert two.beside.one(BeginUpload(1, alice, False, bob, 4, 9_000)) == UploadProgress(0)
    assert two.beside.refused(BeginUpload(2, alice, False, bob, 4, 1)) is Reason.TOO_FAST
    assert two.beside.store(carol, bob, b"x") == [9]
    assert two.beside.refused(StoreMessage(carol, False, bob, 3, b"x")) is Reason.MAILBOX_FULL
    assert two.beside.one(Chunk(1, bytes(9_000))) == UploadProgress(9_000)
    assert two.beside.one(CommitUpload(1)) == Stored(10)
    two.restart(1)
    assert two.beside.refused(StoreMessage(carol, False, bob, 3, b"x")) is Reason.MAILBOX_FULL
    # The mailbox of another shard is another one, and so is what one sender may upload there.
    assert two.directory.store(alice, carol, b"x") == [1]
    assert two.directory.one(BeginUpload(1, alice, False, carol, 4, 1)) == UploadProgress(0)
    two.prove(bob)
    assert len(contents(two.beside.one(Fetch(bob, True, 0, 2**20, 54, 2**20, False)))) == 10


def test_mail_expires_with_its_own_worker(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    for gateway in two.gateways:
        gateway.store(alice, bob, b"old")
    for worker in two.workers:
        worker.engine.log.flush(worker.now_ms)
        worker.now_ms += 3 * DAY_MS
    for gateway in two.gateways:
        gateway.store(alice, bob, b"new")
    for worker in two.workers:
        worker.engine.log.flush(worker.now_ms)
        worker.now_ms += DAY_MS
    worker = two.workers[1]
    worker.rules.expiry.begin(2, worker.now_ms)
    while worker.rules.expiry.goes_on:
        worker.processor.maintain(worker.now_ms)
    assert worker.rules.expiry.state == ExpiryState(False, 1, 3)
    two.restart(1)
    assert [contents(gateway.one(fetch(bob))) for gateway in two.gateways] == [[b"old", b"new"], [b"new"]]


def test_a_token_is_of_a_sender_and_a_shard(two: Two) -> None:
    alice, bob, carol = two.directory.register("alice", "bob", "carol")
    to_bob = StoreMessage(alice, True, bob, 3, b"for bob", b"t" * 16)
    to_carol = StoreMessage(alice, True, carol, 3, b"for carol", b"t" * 16)
    two.beside.store(alice, bob, b"before")
    assert two.beside.one(to_bob) == Stored(2)
    assert two.directory.one(to_carol) == Stored(1)
    for number in (0, 1):
        two.restart(number)
    assert two.beside.one(to_bob) == Stored(2)
    assert two.directory.one(to_carol) == Stored(1)
    for user in (bob, carol):
        two.prove(user)
    assert contents(two.beside.one(fetch(bob))) == [b"before", b"for bob"]
    assert contents(two.directory.one(fetch(carol))) == [b"for carol"]


def test_a_lease_ends_with_its_gateway_and_its_worker(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.beside.store(alice, bob, b"one")

    def count(number: int) -> int:
        pulled = two.beside.one(Pull(number, bob, False, 1000, 25, 1000))
        assert isinstance(pulled, Pulled)
        return pulled.count

    assert [count(1), count(2)] == [1, 0]
    two.gateways[1] = Gateway(two.workers[1])
    assert [count(1), count(2)] == [1, 0]
    # The directory's worker knows of no lease of another shard.
    two.restart(0)
    assert count(3) == 0
    two.restart(1)
    assert count(1) == 1
    assert two.beside.one(Settle(1, bob, False, 1, 1)) == Done()
    assert count(2) == 0
    two.restart(1)
    assert count(3) == 0


def test_who_waits_for_mail_hears_of_it_from_the_worker_that_has_it(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.prove(bob)
    assert isinstance(two.beside.one(Fetch(bob, True, 0, 1000, 54, 1000, True)), Fetched)
    two.beside.arrived.clear()
    two.directory.store(alice, alice, b"elsewhere")
    assert two.beside.arrived == two.directory.arrived == []
    two.beside.store(alice, bob, b"here")
    assert [bob in notice.recipients for notice in two.beside.arrived] == [True]


def test_numbers_are_of_the_shard_and_users_of_the_directory(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    two.directory.store(alice, alice, b"12345")
    two.beside.store(alice, bob, b"123", b"45")

    def totals(number: int) -> tuple[int, int, int, int]:
        found = two.workers[number].administer(GetTotals())
        assert isinstance(found, Totals)
        return found.users, found.messages, found.content_bytes, found.accepted

    assert totals(0) == (2, 1, 5, 1)
    assert totals(1) == (0, 2, 5, 2)
    two.restart(1)
    assert totals(1) == (0, 2, 5, 2)


def test_another_generation_ends_the_worker(two: Two) -> None:
    two.workers[0].beside.rows(statements.NEW_GENERATION, 5)
    with pytest.raises(StoreFailed, match="another generation"):
        two.pass_time(LOOK_EVERY_MS)
    two.workers[1].kill()
    other = two.open(1)
    assert other.engine.identity.generation == two.workers[0].beside.rows(statements.DIRECTORY_STATE)[0][1]
    assert other.engine.identity[2:] == (1, 2)


def test_keys_are_of_their_users_shard(two: Two) -> None:
    alice, bob = two.directory.register("alice", "bob")
    for user in (alice, bob):
        two.prove(user)
    publish = PublishKeys(bob, True, False, b"bundle", bytes(range(96)))
    assert two.beside.refused(ClaimKey(alice, True, bob, True)) is Reason.NO_KEYS
    assert two.beside.one(publish) == KeysKept(1)
    sealed = StoreMessage(alice, True, bob, 5, b"sealed", b"t" * 16)
    assert two.beside.one(sealed) == Stored(1)
    two.restart(1)
    assert two.beside.one(sealed) == Stored(1)
    # Looked up alone, and with others.
    run = pack_frame(alice, bob, 3, b"in a run")
    assert two.beside.one(StoreMessages(True, run)) == MessagesStored(2, [])
    assert two.beside.one(StoreMessage(alice, True, bob, 5, b"another", b"u" * 16)) == Stored(3)
    assert two.beside.one(ClaimKey(alice, True, bob, True)) == KeyClaimed(b"bundle", bytes(range(96)))
    assert two.beside.one(publish) == KeysKept(0)
    assert two.workers[1].engine.totals()[-2:] == (1, 0)
    while two.directory.one(DeleteAccount(bob, True)) != Done():
        two.pass_time(LOOK_EVERY_MS)
    assert two.workers[1].engine.keys.find(2) is None
    assert two.workers[1].engine.totals()[-2:] == (0, 0)
