"""Published keys: kept in order, given out once, and forgotten with their user or their store."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from common.storage_protocol.operations import (
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    DeleteAccount,
    Done,
    KeyClaimed,
    KeysKept,
    MarkAuthenticated,
    Operation,
    PublishKeys,
    SetBlock,
    Stored,
    StoreMessage,
    UploadProgress,
)
from common.values import RefusalReason as Reason
from storage_worker.admin_accounts import re_key, unprove
from storage_worker.engine.paged import unwritten_keys
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.operators_tables import SqliteTables
from storage_worker.engine.sqlite.store_identity import GenerationFile, new_generation
from tests.storage_worker.rules.asking import NOBODY, TOKEN, after, contents, fetch
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, pieces
from torture.caller import new_key, public_half

Open = Callable[..., SqliteWorker]
BUNDLE = b"\x01" + bytes(1388)
LARGE = 70_000
RSA_KEY = public_half(new_key("another"))


def keys(*numbers: int) -> bytes:
    """One-time keys, one behind the other."""
    return b"".join(number.to_bytes(2, "big") * 48 for number in numbers)


def publish(gateway: Gateway, user: bytes, *numbers: int, forget: bool = False, bundle: bytes = BUNDLE) -> int:
    """How many are kept then."""
    outcome = gateway.one(PublishKeys(user, True, forget, bundle, keys(*numbers)))
    assert isinstance(outcome, KeysKept), outcome
    return outcome.kept


def claim(gateway: Gateway, user: bytes, subject: bytes, *, one_time: bool = True) -> bytes:
    """The one-time key that is given out."""
    outcome = gateway.one(ClaimKey(user, True, subject, one_time))
    assert isinstance(outcome, KeyClaimed), outcome
    assert outcome.bundle
    return outcome.one_time_key


def two(gateway: Gateway) -> tuple[bytes, bytes]:
    """Two users who have signed in."""
    alice, bob = gateway.register("alice", "bob")
    gateway.ask(MarkAuthenticated(alice), MarkAuthenticated(bob))
    return alice, bob


class TestWhoMay:
    @pytest.mark.parametrize(
        "operation",
        [
            lambda user, authenticated: PublishKeys(user, authenticated, False, BUNDLE, keys(1)),
            lambda user, authenticated: ClaimKey(user, authenticated, user, True),
        ],
    )
    def test_the_user_alone_on_an_authenticated_connection(
        self, gateway: Gateway, operation: Callable[[bytes, bool], Operation]
    ) -> None:
        [carol] = gateway.register("carol")
        assert gateway.refused(operation(carol, False)) is Reason.PROOF_NEEDED
        assert gateway.refused(operation(NOBODY, True)) is Reason.REQUESTER_UNKNOWN
        gateway.ask(MarkAuthenticated(carol))
        assert gateway.refused(operation(carol, False)) is Reason.PROOF_NEEDED

    def test_whose_keys(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        assert gateway.refused(ClaimKey(alice, True, NOBODY, True)) is Reason.RECIPIENT_UNKNOWN
        assert gateway.refused(ClaimKey(alice, True, bob, True)) is Reason.NO_KEYS
        publish(gateway, alice, 1)
        assert gateway.refused(ClaimKey(alice, True, bob, True)) is Reason.NO_KEYS
        assert claim(gateway, alice, alice) == keys(1)

    def test_who_need_not_sign_in_has_none(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, bob, 1)
        worker.flush()
        with closing(Database(worker.folder / "mail.db", beside=True)) as beside:
            assert unprove(SqliteTables(beside), "bob", print, as_json=False) == 0
        assert gateway.refused(ClaimKey(alice, True, bob, True)) is Reason.NO_KEYS
        assert gateway.refused(StoreMessage(alice, True, bob, 5, b"sealed", TOKEN)) is Reason.NO_KEYS
        gateway.ask(MarkAuthenticated(bob))
        assert claim(gateway, alice, bob) == keys(1)

    @pytest.mark.parametrize("flushed", ["", "registered", "published", "claimed"])
    @pytest.mark.parametrize("then", ["goes on", "flushes", "is killed", "ends"])
    def test_who_gets_another_key_has_none(self, open_worker: Open, tmp_path: Path, flushed: str, then: str) -> None:
        """Whatever of it the journal alone has, and whatever the worker does next."""
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = two(gateway)
        if flushed == "registered":
            worker.flush()
        publish(gateway, bob, 1, 2)
        if flushed == "published":
            worker.flush()
        assert claim(gateway, alice, bob) == keys(1)
        gateway.one(StoreMessage(alice, True, bob, 5, b"sealed", TOKEN))
        if flushed == "claimed":
            worker.flush()
        (tmp_path / "key").write_bytes(RSA_KEY)
        with closing(Database(worker.folder / "mail.db", beside=True)) as beside:
            assert re_key(SqliteTables(beside), "bob", tmp_path / "key", print, 0, as_json=False) == 0
        if then == "flushes":
            worker.flush()
        elif then != "goes on":
            (worker.kill if then == "is killed" else worker.close)()
            worker = open_worker()
            gateway = Gateway(worker)
        assert gateway.refused(ClaimKey(alice, True, bob, True)) is Reason.NO_KEYS
        # What came before stays where it was, and out of a 604.
        assert fetch(gateway, bob, authenticated=True).count == 0
        assert contents(after(gateway, bob, 0).page) == [b"sealed"]
        [account] = [one for one in worker.users.accounts(0, 9) if one.name == "bob"]
        assert account.one_time_keys is None
        # The new home's.
        assert publish(gateway, bob, 3) == 1
        assert claim(gateway, alice, bob) == keys(3)


class TestPublishing:
    def test_the_newest_100_are_kept(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        assert publish(gateway, alice, *range(50)) == 50
        assert publish(gateway, alice, *range(50, 100)) == 100
        assert claim(gateway, bob, alice) == keys(0)
        assert publish(gateway, alice, *range(100, 103)) == 100
        assert [claim(gateway, bob, alice) for _ in range(101)] == [*map(keys, range(3, 103)), b""]

    def test_those_that_are_forgotten(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice, 1, 2)
        assert publish(gateway, alice, 3, forget=True) == 1
        assert [claim(gateway, bob, alice) for _ in range(2)] == [keys(3), b""]
        assert publish(gateway, alice, 4, forget=True) == 1
        assert publish(gateway, alice, forget=True) == 0

    def test_none_is_kept_twice(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        assert publish(gateway, alice, 1, 1, 2) == 2
        other_signature = PublishKeys(alice, True, False, BUNDLE, keys(2)[:32] + bytes(64) + keys(3))
        assert gateway.one(other_signature) == KeysKept(3)
        assert [claim(gateway, bob, alice) for _ in range(4)] == [keys(1), keys(2), keys(3), b""]

    def test_the_same_once_more_changes_nothing(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        assert publish(gateway, alice, 1, 2) == 2
        assert claim(gateway, bob, alice) == keys(1)
        # The first answer was lost: what was claimed meanwhile is not there again.
        assert publish(gateway, alice, 1, 2) == 1
        assert claim(gateway, bob, alice) == keys(2)
        assert publish(gateway, alice, 1, 2) == 0
        assert publish(gateway, alice) == 0, "a question changes nothing"
        assert publish(gateway, alice, 1, 2) == 0
        assert claim(gateway, bob, alice) == b""

    def test_with_bit_0_it_is_another_publication(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice, 1)
        assert publish(gateway, alice, 2, forget=True) == 1
        assert publish(gateway, alice, 2, forget=True) == 1
        assert claim(gateway, bob, alice) == keys(2)
        assert publish(gateway, alice, 2, forget=True) == 0

    def test_how_many_are_left(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        assert publish(gateway, alice) == 0
        publish(gateway, alice, 1, 2)
        claim(gateway, bob, alice)
        assert publish(gateway, alice) == 1

    def test_a_bundle_takes_the_place_of_the_one_before(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice, 1)
        assert publish(gateway, alice, bundle=b"another") == 1
        assert gateway.one(ClaimKey(bob, True, alice, True)) == KeyClaimed(b"another", keys(1))

    def test_a_full_disk(self, open_worker: Open) -> None:
        worker = open_worker(min_free_bytes=1000)
        gateway = Gateway(worker)
        alice, bob = two(gateway)
        publish(gateway, alice, 1, 2)
        worker.admit(mail=False)
        worker.now_ms += 10_000
        assert gateway.refused(PublishKeys(alice, True, False, BUNDLE, keys(3))) is Reason.STORAGE_FULL
        assert publish(gateway, alice, 1, 2) == 2
        assert claim(gateway, bob, alice) == b"", "nothing is written, and nobody is refused"
        worker.admit(mail=True)
        worker.now_ms += 10_000
        assert claim(gateway, bob, alice) == keys(1)

    def test_many_changes_do_not_wait_in_memory(
        self, worker: SqliteWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(unwritten_keys, "MOST_UNWRITTEN", 2)
        alice, bob = two(gateway)
        worker.flush()
        flushes = worker.engine.log.flushes
        publish(gateway, alice, 1)
        claim(gateway, bob, alice)
        assert worker.engine.log.flushes == flushes
        publish(gateway, bob, 2)
        assert worker.engine.log.flushes == flushes + 1
        assert worker.engine.keys.unwritten == {}
        assert claim(gateway, alice, bob) == keys(2)


class TestClaiming:
    def test_without_a_one_time_key(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice, 1)
        assert claim(gateway, bob, alice, one_time=False) == b""
        assert [claim(gateway, bob, alice) for _ in range(3)] == [keys(1), b"", b""]

    @pytest.mark.parametrize("orderly", [None, True, False])
    def test_a_batch_that_comes_again_gets_the_same(self, open_worker: Open, orderly: bool | None) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = two(gateway)
        publish(gateway, alice, 1, 2)
        first = gateway.ask(ClaimKey(bob, True, alice, True), PublishKeys(bob, True, False, BUNDLE, keys(9)))
        assert first == [KeyClaimed(BUNDLE, keys(1)), KeysKept(1)]
        if orderly is not None:
            (worker.close if orderly else worker.kill)()
            gateway.worker = open_worker()
        assert gateway.resend() == first
        assert [claim(gateway, bob, alice) for _ in range(2)] == [keys(2), b""]
        assert [claim(gateway, alice, bob) for _ in range(2)] == [keys(9), b""]

    def test_none_that_was_there_is_not_given_at_a_repetition(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice)
        assert claim(gateway, bob, alice) == b""
        last = gateway.last_batch
        publish(gateway, alice, 1)
        assert last is not None
        assert gateway.send(last) == [KeyClaimed(BUNDLE, b"")]
        assert claim(gateway, bob, alice) == keys(1)

    def test_who_is_blocked_is_not_told(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice, 1)
        gateway.ask(SetBlock(alice, True, bob, True))
        assert claim(gateway, bob, alice) == keys(1)
        assert gateway.one(StoreMessage(bob, True, alice, 5, b"sealed", TOKEN)) == Stored(1)
        assert contents(after(gateway, alice, 0).page) == []

    def test_another_generation_has_none(self, open_worker: Open, tmp_path: Path) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = two(gateway)
        publish(gateway, alice, 1, 2)
        worker.close()
        for _ in range(2):
            with closing(Database(tmp_path / "mail.db", beside=True)) as beside:
                new_generation(beside, GenerationFile(tmp_path / "store.generation"), 2_000_000)
        worker = open_worker()
        gateway = Gateway(worker)
        with worker.database.reading():
            assert worker.engine.totals()[-2:] == (1, 0)
        assert claim(gateway, bob, alice) == b""
        assert publish(gateway, alice) == 0
        assert publish(gateway, alice, 1, 2) == 0, "they may be somebody's already"
        assert publish(gateway, alice, 3) == 1
        assert [claim(gateway, bob, alice) for _ in range(2)] == [keys(3), b""]

    def test_a_deleted_user_has_none(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, alice, 1)
        while gateway.one(DeleteAccount(alice, True)) != Done():
            pass
        assert gateway.refused(ClaimKey(bob, True, alice, True)) is Reason.RECIPIENT_UNKNOWN


class TestMessages:
    def test_whom_they_reach(self, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        message = StoreMessage(alice, True, bob, 5, b"sealed", TOKEN)
        assert gateway.refused(message) is Reason.NO_KEYS
        publish(gateway, bob)
        assert gateway.one(message) == gateway.one(message) == Stored(1)
        [piece] = pieces(after(gateway, bob, 0).page)
        assert (piece.kind, piece.content, piece.token) == (5, b"sealed", TOKEN)
        assert gateway.refused(StoreMessage(alice, True, bob, 5, b"without a token")) is Reason.MALFORMED
        assert gateway.refused(StoreMessage(alice, True, bob, 6, b"sealed", bytes(16))) is Reason.MALFORMED

    def test_a_resend_is_answered_after_the_keys_are_gone(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        publish(gateway, bob)
        message = StoreMessage(alice, True, bob, 5, b"sealed", TOKEN)
        assert gateway.one(message) == Stored(1)
        worker.flush()
        with closing(Database(worker.folder / "mail.db", beside=True)) as beside:
            unprove(SqliteTables(beside), "bob", print, as_json=False)
        assert gateway.one(message) == Stored(1)

    def test_large_ones(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = two(gateway)
        begin = BeginUpload(1, alice, True, bob, 5, LARGE, TOKEN)
        assert gateway.refused(begin) is Reason.NO_KEYS
        assert gateway.refused(BeginUpload(1, alice, True, bob, 5, LARGE)) is Reason.MALFORMED
        publish(gateway, bob)
        assert gateway.one(begin) == UploadProgress(0)
        gateway.one(Chunk(1, bytes(LARGE)))
        worker.flush()
        with closing(Database(worker.folder / "mail.db", beside=True)) as beside:
            unprove(SqliteTables(beside), "bob", print, as_json=False)
        assert gateway.refused(CommitUpload(1)) is Reason.NO_KEYS
        gateway.ask(MarkAuthenticated(bob))
        assert gateway.one(begin) == UploadProgress(0)
        gateway.one(Chunk(1, bytes(LARGE)))
        assert gateway.one(CommitUpload(1)) == Stored(1)
        assert [(piece.kind, piece.size) for piece in pieces(after(gateway, bob, 0).page)] == [(5, LARGE)]
        # The same once more, whatever became of the keys.
        assert gateway.one(begin) == UploadProgress(0)
        gateway.one(Chunk(1, bytes(LARGE)))
        assert gateway.one(CommitUpload(1)) == Stored(1)
