"""The users as a shard beside the directory knows them: two workers, of shards 0 and 1 of 2."""

from collections.abc import Callable

import pytest

from common.storage_protocol.frames import MailArrived
from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    BeginUpload,
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
    Stored,
    StoreMessage,
    StoreMessages,
    TellOthers,
    UploadProgress,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.errors import StoreFailed
from storage_worker.server.own_turn import own_turn
from tests.storage_worker.worker_under_test import KEY, Gateway, PostgresWorker, pieces

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import deletion, statements
from storage_worker.engine.postgres.remote_users import LOOK_EVERY_MS

DAY_MS = 24 * 3600 * 1000
Open = Callable[..., PostgresWorker]


class Two:
    """The directory, the shard beside it, and a gateway at each."""

    def __init__(self, open_worker: Open) -> None:
        self.open = open_worker
        self.workers = [open_worker(shard=(number, 2)) for number in (0, 1)]
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
        self.workers[number] = self.open(shard=(number, 2))
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


def test_another_generation_ends_the_worker(two: Two) -> None:
    two.workers[0].beside.rows(statements.NEW_GENERATION, 5)
    with pytest.raises(StoreFailed, match="another generation"):
        two.pass_time(LOOK_EVERY_MS)
    two.workers[1].kill()
    other = two.open(shard=(1, 2))
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
