"""Large contents in pieces: what is accepted, and what ends an upload."""

from collections.abc import Callable

import pytest

from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    Done,
    GetUploadProgress,
    MarkAuthenticated,
    MessagesStored,
    Refused,
    RefusedFrame,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadProgress,
    UploadUnknown,
)
from common.values import RefusalReason as Reason
from storage_worker.engine.sqlite.blob_checksums import table_bytes
from storage_worker.engine.sqlite.mail_pages import PAGE_BYTES
from storage_worker.rules.admission import Limits
from tests.storage_worker.rules.asking import NOBODY, TOKEN, after, contents, fetch, files
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, SyncAtOnce, pieces


class TestUpload:
    def upload(
        self, gateway: Gateway, sender: bytes, recipient: bytes, *chunks: bytes, token: bytes | None = None,
        number: int = 1, authenticated: bool = False,
    ) -> object:  # fmt: skip
        size = sum(map(len, chunks))
        *done, outcome = gateway.ask(
            BeginUpload(number, sender, authenticated, recipient, 4, size, token),
            *[Chunk(number, chunk) for chunk in chunks],
            CommitUpload(number),
        )
        assert all(isinstance(step, UploadProgress) for step in done)
        return outcome

    @pytest.mark.parametrize("sizes", [(), (0,), (5,), (1, 2, 3), (PAGE_BYTES, 1), (100_000, 1, 70_000), (PAGE_BYTES,)])
    def test_arrives_as_it_was_sent(self, worker: SqliteWorker, gateway: Gateway, sizes: tuple[int, ...]) -> None:
        alice, bob = gateway.register("alice", "bob")
        chunks = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
        assert self.upload(gateway, alice, bob, *chunks) == Stored(1)
        [piece] = pieces(fetch(gateway, bob).page)
        assert (piece.content, piece.kind, piece.sender) == (b"".join(chunks), 4, alice)
        after(gateway, bob, 1)
        assert files(worker) == 0

    def test_ends_with_its_worker(self, open_worker: Callable[..., SqliteWorker]) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 6), Chunk(1, b"abc"))
        assert files(worker) == 1
        worker.kill()
        gateway.worker = open_worker()
        assert files(gateway.worker) == 0
        assert gateway.ask(Chunk(1, b"def"), CommitUpload(1), GetUploadProgress(1)) == [UploadUnknown()] * 3

    def test_waits_for_the_disk(self, worker: SqliteWorker, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        [alice] = gateway.register("alice")
        monkeypatch.setattr(SyncAtOnce, "sync", lambda *_: None)
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 6), Chunk(1, b"abc"), Chunk(1, b"def"))
        assert gateway.ask(GetUploadProgress(1), CommitUpload(1)) == [
            UploadProgress(6),
            UploadProgress(7 + table_bytes(6)),
        ]
        assert fetch(gateway, alice).count == 0
        monkeypatch.undo()
        assert gateway.one(CommitUpload(1)) == UploadProgress(7 + table_bytes(6)), "it was asked for before"
        worker.syncer.sync(1, 6 + table_bytes(6))
        assert gateway.one(CommitUpload(1)) == Stored(1)
        assert contents(fetch(gateway, alice).page) == [b"abcdef"]

    @pytest.mark.parametrize("flushed", [False, True])
    def test_survives_a_restart_when_it_is_accepted(
        self, open_worker: Callable[..., SqliteWorker], flushed: bool
    ) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"before")
        assert self.upload(gateway, alice, bob, b"abc", b"def") == Stored(2)
        gateway.store(alice, bob, b"behind")
        if flushed:
            worker.flush()
        worker.kill()
        gateway.worker = worker = open_worker()
        leased = fetch(gateway, bob)
        assert contents(leased.page) == [b"before", b"abcdef", b"behind"]
        assert files(worker) == 1
        gateway.ask(Settle(1, bob, False, 2, 3))
        assert files(worker) == 0
        assert contents(fetch(gateway, bob, 2).page) == [b"before"]

    @pytest.mark.parametrize("flushed", [False, True])
    @pytest.mark.parametrize("damage", ["missing", "short"])
    def test_without_its_file_a_message_is_dropped_at_the_next_start(
        self, open_worker: Callable[..., SqliteWorker], caplog: pytest.LogCaptureFixture, flushed: bool, damage: str
    ) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        gateway.store(alice, bob, b"before")
        self.upload(gateway, alice, bob, b"lost")
        self.upload(gateway, alice, bob, b"kept", number=2)
        if flushed:
            worker.flush()
        worker.kill()
        path = worker.folder / "bodies" / "1"
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(b"los")
        for _ in range(2):
            gateway.worker = worker = open_worker()
            assert contents(fetch(gateway, bob).page) == [b"before", b"kept"]
            worker.kill()
        # The first start tells, and no later one.
        [told, number] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        state = "is missing" if damage == "missing" else "is cut, and kept as bodies/1.damaged"
        owner = f"'bob' ({bob.hex().upper()})"
        assert told == f"bodies/1 {state}: message 2 in the mailbox of {owner} is lost"
        assert number == "large messages that are lost with their files: 1"
        kept = [path.read_bytes() for path in (worker.folder / "bodies").glob("*.damaged")]
        assert kept == ([] if damage == "missing" else [b"los"])

    def test_ends_with_its_epoch(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        other = Gateway(worker, slot=1)
        for each in (gateway, other):
            each.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"abc"))
        successor = Gateway(worker)
        assert successor.one(CommitUpload(1)) == UploadUnknown()
        assert files(worker) == 1
        assert other.one(CommitUpload(1)) == Stored(1)

    def test_abort(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"abc"))
        assert gateway.ask(AbortUpload(1), AbortUpload(1)) == [Done(), Done()]
        assert gateway.one(Chunk(1, b"x")) == UploadUnknown()
        assert files(worker) == 0

    def test_too_much_ends_it(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"ab"))
        assert gateway.refused(Chunk(1, b"cd")) is Reason.MALFORMED
        assert gateway.one(CommitUpload(1)) == UploadUnknown()
        assert files(worker) == 0

    def test_too_little_ends_it(self, worker: SqliteWorker, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3), Chunk(1, b"ab"))
        assert gateway.refused(CommitUpload(1)) is Reason.MALFORMED
        assert files(worker) == 0

    def test_a_number_in_use(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 3))
        assert gateway.refused(BeginUpload(1, alice, False, alice, 3, 3)) is Reason.MALFORMED

    def test_unknown_recipient(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        assert gateway.refused(BeginUpload(1, alice, False, NOBODY, 3, 3)) is Reason.RECIPIENT_UNKNOWN

    def test_the_sender_proved_himself_meanwhile(self, gateway: Gateway) -> None:
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 0), MarkAuthenticated(alice))
        assert gateway.refused(CommitUpload(1)) is Reason.PROOF_NEEDED

    def test_what_was_begun_has_its_place(self, open_worker: Callable[..., SqliteWorker]) -> None:
        gateway = Gateway(open_worker(limits=Limits(mailbox_messages=1)))
        [alice] = gateway.register("alice")
        gateway.ask(BeginUpload(1, alice, False, alice, 3, 0))
        assert gateway.refused(StoreMessage(alice, False, alice, 3, b"x")) is Reason.MAILBOX_FULL
        run = StoreMessages(False, pack_frame(alice, alice, 3, b"x"))
        assert gateway.one(run) == MessagesStored(1, [RefusedFrame(0, Reason.MAILBOX_FULL, 30)])
        assert gateway.one(CommitUpload(1)) == Stored(1)
        assert gateway.refused(StoreMessage(alice, False, alice, 3, b"x")) is Reason.MAILBOX_FULL

    def test_once_with_its_token(self, worker: SqliteWorker, gateway: Gateway) -> None:
        alice, bob = gateway.register("alice", "bob")
        big = bytes(PAGE_BYTES)
        first = self.upload(gateway, alice, bob, big, b"x", token=TOKEN, authenticated=True)
        assert (
            self.upload(gateway, alice, bob, b"\0", big[1:], b"x", token=TOKEN, number=2, authenticated=True) == first
        )
        assert self.upload(gateway, alice, bob, big, b"y", token=TOKEN, number=3, authenticated=True) == Refused(
            Reason.TOKEN_REUSED
        )
        assert gateway.one(StoreMessage(alice, True, bob, 4, big + b"x", TOKEN)) == first
        assert files(worker) == 1
