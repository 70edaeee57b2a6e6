"""Unfinished uploads: how many there may be, what they may hold, and a worker that may
open no more files.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    Done,
    Fetch,
    Fetched,
    MarkAuthenticated,
    MessagesStored,
    Outcome,
    Pull,
    Pulled,
    PullPage,
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
from storage_worker.engine.errors import NoFileLeft, StoreFailed
from storage_worker.engine.sqlite.blobs import DiskBlobs
from storage_worker.engine.sqlite.store_identity import GenerationFile, record_progress
from storage_worker.rules.admission import Limits
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker, pieces

Open = Callable[..., SqliteWorker]
FULL = Refused(Reason.STORAGE_FULL, 30)
MAILBOX_FULL = Refused(Reason.MAILBOX_FULL, 30)
SHARE = Refused(Reason.SENDER_SHARE, 30)
TOO_MANY = Refused(Reason.TOO_FAST, 30)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[DiskBlobs]:
    folder = DiskBlobs(tmp_path / "bodies")
    yield folder
    folder.close_all()


def begin(
    gateway: Gateway, upload: int, sender: bytes, recipient: bytes, size: int, authenticated: bool = False
) -> Outcome:
    return gateway.one(BeginUpload(upload, sender, authenticated, recipient, 3, size))


class TestPlaces:
    def test_of_one_sender(self, open_worker: Open) -> None:
        gateway = Gateway(open_worker(limits=Limits(uploads_of_user=2)))
        alice, bob = gateway.register("alice", "bob")
        assert [begin(gateway, number, alice, bob, 1) for number in (1, 2, 3)] == [
            UploadProgress(0),
            UploadProgress(0),
            TOO_MANY,
        ]
        assert begin(gateway, 4, bob, alice, 1) == UploadProgress(0), "another sender"
        assert gateway.one(AbortUpload(1)) == Done()
        assert begin(gateway, 5, alice, bob, 1) == UploadProgress(0)
        assert begin(gateway, 6, alice, bob, 1) == TOO_MANY
        assert gateway.one(Chunk(2, b"xx")) == Refused(Reason.MALFORMED), "which ends it"
        assert begin(gateway, 7, alice, bob, 1) == UploadProgress(0)
        assert gateway.one(Chunk(5, b"x")) == UploadProgress(1)
        assert isinstance(gateway.one(CommitUpload(5)), Stored)
        assert begin(gateway, 8, alice, bob, 1) == UploadProgress(0)
        assert begin(gateway, 9, alice, bob, 1) == TOO_MANY

    def test_of_all(self, open_worker: Open) -> None:
        gateway = Gateway(open_worker(limits=Limits(uploads=4, uploads_of_user=3)))
        alice, bob, carol = gateway.register("alice", "bob", "carol")
        gateway.ask(MarkAuthenticated(carol))
        assert [begin(gateway, number, alice, bob, 1) for number in (1, 2)] == [UploadProgress(0)] * 2
        assert begin(gateway, 3, bob, bob, 1) == UploadProgress(0)
        assert begin(gateway, 4, bob, bob, 1) == FULL, "the last quarter is for those who prove who they are"
        assert begin(gateway, 5, carol, bob, 1, authenticated=True) == UploadProgress(0)
        assert begin(gateway, 6, carol, bob, 1, authenticated=True) == FULL

    def test_a_greeting_and_an_undone_turn_free_them(self, open_worker: Open) -> None:
        worker = open_worker(limits=Limits(uploads=1, uploads_of_user=1))
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        assert begin(gateway, 1, alice, alice, 2) == UploadProgress(0)
        gateway.ask(Chunk(1, b"x"))
        assert worker.rules.uploaded == 1
        gateway = Gateway(worker)
        assert worker.rules.uploaded == 0
        assert begin(gateway, 1, alice, alice, 2) == UploadProgress(0)
        gateway.ask(Chunk(1, b"x"))
        worker.rules.roll_back()
        assert worker.rules.uploaded == 0
        assert begin(gateway, 2, alice, alice, 1) == UploadProgress(0)
        assert worker.blob_folder.sizes() == {}


class TestRoom:
    def test_they_hold_half_of_the_free_room_at_most(self, open_worker: Open) -> None:
        worker = open_worker(min_free_bytes=1000)
        worker.free_bytes = 1200
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        assert begin(gateway, 1, alice, bob, 101) == FULL, "it would not fit even alone"
        assert begin(gateway, 2, alice, bob, 100) == UploadProgress(0)
        assert begin(gateway, 3, bob, alice, 100) == UploadProgress(0), (
            "what was announced takes no room, what came does"
        )
        assert gateway.one(Chunk(2, bytes(60))) == UploadProgress(60)
        worker.free_bytes -= 60
        worker.now_ms += 1000
        assert gateway.one(Chunk(3, bytes(40))) == UploadProgress(40)
        worker.free_bytes -= 40
        worker.now_ms += 1000
        assert begin(gateway, 4, bob, alice, 1) == FULL
        assert gateway.one(Chunk(3, b"x")) == FULL
        assert gateway.one(Chunk(3, b"x")) == UploadUnknown()
        assert isinstance(gateway.one(StoreMessage(bob, False, alice, 3, bytes(50))), Stored), "sends go on"
        assert gateway.one(Chunk(2, bytes(40))) == UploadProgress(100), "what the other one held is free again"
        assert isinstance(gateway.one(CommitUpload(2)), Stored)
        assert worker.rules.uploaded == 0

    def test_they_are_charged_to_the_mailbox(self, open_worker: Open) -> None:
        worker = open_worker(limits=Limits(largest_message=100, mailbox_bytes=100, sender_share=100))
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        assert begin(gateway, 1, alice, bob, 80) == UploadProgress(0)
        assert begin(gateway, 2, alice, bob, 80) == UploadProgress(0)
        assert begin(gateway, 3, alice, alice, 100) == UploadProgress(0), "another mailbox"
        assert gateway.one(Chunk(1, bytes(60))) == UploadProgress(60)
        assert begin(gateway, 4, alice, bob, 41) == MAILBOX_FULL
        assert gateway.one(Chunk(2, bytes(41))) == MAILBOX_FULL
        assert gateway.one(Chunk(2, b"x")) == UploadUnknown()
        assert begin(gateway, 5, alice, bob, 40) == UploadProgress(0)
        assert gateway.one(Chunk(3, bytes(100))) == UploadProgress(100)
        gateway.ask(Chunk(1, bytes(20)))
        assert isinstance(gateway.one(CommitUpload(1)), Stored)
        assert begin(gateway, 6, alice, bob, 21) == MAILBOX_FULL
        assert begin(gateway, 7, alice, bob, 20) == UploadProgress(0)

    @pytest.mark.parametrize("kept", [1, 100_000])
    def test_what_has_come_is_charged_to_texts_too(
        self, open_worker: Open, monkeypatch: pytest.MonkeyPatch, kept: int
    ) -> None:
        monkeypatch.setattr("storage_worker.engine.paged.message_queue.MAILBOXES_KEPT", kept)
        worker = open_worker(limits=Limits(largest_message=100, mailbox_bytes=100, sender_share=100))
        gateway = Gateway(worker)
        alice, bob = gateway.register("alice", "bob")
        assert begin(gateway, 1, alice, bob, 80) == UploadProgress(0)
        assert gateway.one(Chunk(1, bytes(60))) == UploadProgress(60)
        gateway.store(bob, alice, b"another mailbox")
        worker.flush()
        text, most = StoreMessage(bob, False, bob, 3, bytes(41)), StoreMessage(bob, False, bob, 3, bytes(20))
        assert gateway.one(text) == MAILBOX_FULL, "nothing overfills it"
        run = StoreMessages(False, pack_frame(bob, bob, 3, bytes(41)) + pack_frame(bob, bob, 3, bytes(20)))
        assert gateway.one(run) == MessagesStored(2, [RefusedFrame(0, Reason.MAILBOX_FULL, 30)])
        assert gateway.one(Chunk(1, bytes(20))) == UploadProgress(80)
        assert gateway.one(most) == MAILBOX_FULL
        assert gateway.one(CommitUpload(1)) == Stored(3), "what has come whole is never refused for the mailbox"
        assert gateway.one(most) == MAILBOX_FULL
        # What ends gives its room back.
        gateway.ask(Settle(9, bob, False, 1, 3))
        assert begin(gateway, 2, alice, bob, 100) == UploadProgress(0)
        assert gateway.one(Chunk(2, bytes(90))) == UploadProgress(90)
        assert gateway.one(most) == MAILBOX_FULL
        assert gateway.one(AbortUpload(2)) == Done()
        assert begin(gateway, 3, alice, bob, 100) == UploadProgress(0)
        assert gateway.one(Chunk(3, bytes(90))) == UploadProgress(90)
        gateway = Gateway(worker)
        assert isinstance(gateway.one(most), Stored), "a greeting ends uploads"
        assert begin(gateway, 4, alice, bob, 80) == UploadProgress(0)
        assert gateway.one(Chunk(4, bytes(80))) == UploadProgress(80)
        worker.rules.roll_back()
        assert isinstance(gateway.one(most), Stored), "an undone turn, too"

    def test_they_are_charged_to_their_sender(self, open_worker: Open) -> None:
        gateway = Gateway(open_worker(limits=Limits(largest_message=100, mailbox_bytes=100, sender_share=20)))
        alice, bob = gateway.register("alice", "bob")
        assert begin(gateway, 1, alice, bob, 60) == UploadProgress(0), "one message is always his"
        assert gateway.one(Chunk(1, bytes(60))) == UploadProgress(60)
        assert begin(gateway, 2, alice, bob, 1) == SHARE, "but not beside another"
        assert gateway.one(StoreMessage(alice, False, bob, 3, b"")) == SHARE
        assert isinstance(gateway.one(StoreMessage(bob, False, bob, 3, bytes(12))), Stored)
        assert begin(gateway, 3, bob, bob, 8) == UploadProgress(0)
        assert gateway.one(StoreMessage(bob, False, bob, 3, bytes(8))) == Stored(2), "what has come counts"
        assert gateway.one(Chunk(3, bytes(8))) == SHARE
        assert gateway.one(CommitUpload(3)) == UploadUnknown()
        assert gateway.one(CommitUpload(1)) == Stored(3)
        assert begin(gateway, 4, alice, bob, 1) == SHARE


class TestNoFileLeft:
    """Nobody may open a file. What needs one is refused, and nothing of it was done; the
    worker goes on.
    """

    @pytest.fixture
    def no_file(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        open_ = os.open

        def allow(code: int) -> None:
            def refuse(*_: Any, **__: Any) -> int:
                raise OSError(code, os.strerror(code))

            monkeypatch.setattr(os, "open", refuse if code else open_)
            monkeypatch.setattr("pathlib.Path.read_text", refuse) if code else monkeypatch.undo()

        return allow

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
    def test_an_upload_is_refused(self, open_worker: Open, no_file: Callable[[int], None], code: int) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        assert begin(gateway, 1, alice, alice, 2) == UploadProgress(0)
        assert gateway.one(Chunk(1, b"x")) == UploadProgress(1)
        assert begin(gateway, 2, alice, alice, 1) == UploadProgress(0)
        no_file(code)
        assert gateway.one(Chunk(2, b"x")) == FULL
        assert gateway.one(CommitUpload(2)) == UploadUnknown()
        assert begin(gateway, 3, alice, alice, 0) == UploadProgress(0)
        assert gateway.one(CommitUpload(3)) == FULL, "an empty file, too, is made first"
        assert gateway.one(Chunk(1, b"y")) == UploadProgress(2), "its file is open"
        assert isinstance(gateway.one(CommitUpload(1)), Stored)
        gateway.store(alice, alice, b"small")
        no_file(0)
        assert [len(piece.content) for piece in pieces(fetch_all(gateway, alice).page)] == [2, 5]

    def test_a_fetch_is_refused_and_leaves_all_as_it_was(
        self, open_worker: Open, no_file: Callable[[int], None]
    ) -> None:
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        gateway.ask(MarkAuthenticated(alice))
        [small] = gateway.store(alice, alice, b"small", authenticated=True)
        begin(gateway, 1, alice, alice, 2, authenticated=True)
        gateway.ask(Chunk(1, b"xy"))
        large = gateway.one(CommitUpload(1))
        assert isinstance(large, Stored)
        no_file(errno.EMFILE)
        assert gateway.one(Pull(1, alice, True, 1000, 25, 1000)) == FULL
        assert gateway.one(Fetch(alice, True, small, 1000, 54, 1000, False)) == FULL
        assert gateway.one(PullPage(alice, True, large.sequence, 0, large.sequence, 1000)) == FULL
        no_file(0)
        leased = gateway.one(Pull(2, alice, True, 1000, 25, 1000))
        assert isinstance(leased, Pulled)
        assert leased.count == 2, "no lease hides anything, and nothing was deleted"
        assert gateway.one(Settle(2, alice, True, leased.first, leased.last)) == Done()

    def test_sequences_that_can_not_be_reserved_are_not_given(
        self, open_worker: Open, no_file: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage_worker.engine.sqlite.store_identity.RESERVED_AHEAD", 0)
        worker = open_worker()
        gateway = Gateway(worker)
        [alice] = gateway.register("alice")
        no_file(errno.EMFILE)
        messages = [StoreMessage(alice, False, alice, 3, b"x")] * 2
        assert gateway.ask(*messages) == [FULL, FULL]
        record_progress(worker.database, worker.file)
        no_file(0)
        worker.now_ms += 1000
        assert gateway.ask(*messages) == [Stored(1), Stored(2)]

    def test_what_each_file_says(self, tmp_path: Path, blobs: DiskBlobs, no_file: Callable[[int], None]) -> None:
        blobs.append(1, 0, b"x")
        no_file(errno.EMFILE)
        file = GenerationFile(tmp_path / "store.generation")
        calls: list[Callable[[], object]] = [
            lambda: blobs.append(2, 0, b"x"),
            lambda: blobs.read(1, 0, 1),
            lambda: file.write("x"),
            file.read,
        ]
        for call in calls:
            with pytest.raises(NoFileLeft, match="Too many open files"):
                call()
        blobs.sync(1)
        no_file(errno.EIO)
        for call in calls:
            with pytest.raises(StoreFailed, match="Input/output error"):
                call()


def fetch_all(gateway: Gateway, user: bytes) -> Pulled | Fetched:
    outcome = gateway.one(Pull(9, user, False, 10**6, 25, 10**6))
    assert isinstance(outcome, Pulled)
    return outcome
