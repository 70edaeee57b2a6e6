"""Large contents and long mailboxes: uploads that wait for the disk, pages of every kind,
and one by one or in runs.
"""

import struct
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.client_protocol.requests import FetchRequest, PullRequest, SendRequest, encode
from common.storage_protocol.operations import (
    AbortUpload,
    Chunk,
    CommitUpload,
    Fetch,
    Fetched,
    GetUploadProgress,
    Mail,
    Operation,
    Outcome,
    Page,
    Pull,
    Pulled,
    PullPage,
    Refused,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadProgress,
    UploadUnknown,
)
from common.values import ClientId
from gateway.settings import Settings
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate
from tests.gateway.mailbox import page, part

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
CONTENT = bytes(range(256)) * 20_000
UPLOAD = encode(SendRequest(ALICE, BOB, 4, CONTENT))
BEHIND = Settings().unsynced_content + 1


class Disk:
    """A worker that has `unsynced` bytes of an upload not on disk yet."""

    def __init__(self, gate: Gate, unsynced: int) -> None:
        self.unsynced = unsynced
        gate.storage.decide = self.decide

    def decide(self, operation: Operation) -> Outcome:
        if isinstance(operation, CommitUpload):
            return UploadProgress(self.unsynced) if self.unsynced else Stored(7)
        return (
            UploadProgress(self.unsynced)
            if isinstance(operation, Chunk | GetUploadProgress)
            else default_decision(operation)
        )


def push(gate: Gate, data: bytes) -> int:
    """Write until the gateway takes no more; how much it took."""
    peer = gate.peers[-1]
    sent = 0
    for _ in range(300):
        try:
            sent += peer.sock.send(data[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
    return sent


def test_an_upload_waits_while_the_disk_is_behind(gate: Gate) -> None:
    disk = Disk(gate, BEHIND)
    peer = gate.peer()
    sent = push(gate, UPLOAD)
    chunks = gate.storage.asked(Chunk)
    taken = sum([len(chunk.content) for chunk in chunks if isinstance(chunk, Chunk)])
    assert taken <= Settings().connection_under_way + Settings().chunk
    gate.pass_time(40, 1.0)
    assert len(gate.storage.asked(GetUploadProgress)) > 3
    assert len(gate.storage.asked(Chunk)) == len(chunks), "as long as it is behind"
    assert not peer.is_ended(), "a client that waits for us is not silent"
    disk.unsynced = 0
    gate.pass_time(0.1, 0.02)
    peer.send(UPLOAD[sent:])
    assert peer.response() == (2103, BOB + struct.pack("<I", 7))
    received = b"".join([chunk.content for chunk in gate.storage.asked(Chunk) if isinstance(chunk, Chunk)])
    assert received == CONTENT


def test_the_commit_is_asked_for_until_all_is_on_disk(gate: Gate) -> None:
    disk = Disk(gate, 5)
    peer = gate.peer()
    peer.send(UPLOAD)
    gate.turn_until(lambda: bool(gate.storage.asked(CommitUpload)))
    gate.pass_time(0.1, 0.01)
    asked = len(gate.storage.asked(CommitUpload))
    assert 3 < asked < 30
    peer.read()
    assert peer.received == b""
    disk.unsynced = 0
    gate.pass_time(0.02, 0.01)
    assert peer.response()[0] == 2103
    gate.pass_time(0.1, 0.01)
    assert len(gate.storage.asked(CommitUpload)) <= asked + 3


def test_a_client_that_goes_before_the_commit_is_done_leaves_nothing(gate: Gate) -> None:
    Disk(gate, 5)
    peer = gate.peer()
    peer.send(UPLOAD)
    gate.turn_until(lambda: bool(gate.storage.asked(CommitUpload)))
    peer.sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
    gate.pass_time(0.1, 0.01)
    assert len(gate.storage.asked(AbortUpload)) == 1
    assert isinstance(gate.storage.operations[-1], AbortUpload)


@pytest.mark.parametrize("step", [Chunk, CommitUpload])
def test_an_upload_that_is_gone_is_unknown_to_the_client(gate: Gate, step: type) -> None:
    gate.storage.decide = lambda operation: (
        UploadUnknown() if isinstance(operation, step) else default_decision(operation)
    )
    peer = gate.peer()
    peer.send(UPLOAD[:400_000])
    if step is CommitUpload:
        peer.send(UPLOAD[400_000:])
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    assert peer.reset


# --- pages
# --------------------------------------------------------------------------------------------------


def test_a_large_message_of_643_comes_in_parts(gate: Gate) -> None:
    def decide(operation: Operation) -> Outcome:
        match operation:
            case Fetch():
                return Fetched(9, 2, 8, 9, page((8, b"abc"), part=part(9, b"de", 0, 5)))
            case PullPage(_, _, 9, 2, 9):
                return Page(page(part=part(9, b"fgh", 2, 5)))
            case _:
                return Refused(1)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(FetchRequest(ALICE, 0, 1000, 0))
    code, payload = peer.response()
    whole = page((8, b"abc"), (9, b"defgh"))
    assert (code, payload) == (2143, whole.entries)


def test_a_client_that_keeps_up_gets_larger_pages(gate: Gate) -> None:
    size = 3_000_000

    def decide(operation: Operation) -> Outcome:
        match operation:
            case Pull(page_bytes=length):
                return Pulled(4, 4, 1, size, page(part=part(4, bytes(length), 0, size)))
            case PullPage(offset=offset, page_bytes=length):
                return Page(page(part=part(4, bytes(min(length, size - offset)), offset, size)))
            case _:
                return default_decision(operation)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    code, payload = peer.response()
    assert (code, len(payload)) == (2104, 25 + size)
    lengths = {ask.page_bytes for ask in gate.storage.asked(PullPage) if isinstance(ask, PullPage)}
    assert lengths <= {Settings().page, Settings().large_page}
    assert Settings().large_page in lengths


def test_a_page_that_makes_no_sense_resets(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    nonsense = Mail(page((4, b"hello")).entries[:-1], 4)
    gate.storage.decide = lambda operation: (
        Pulled(4, 4, 1, 5, nonsense) if isinstance(operation, Pull) else default_decision(operation)
    )
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert "makes no sense" in caplog.text


# --- runs
# --------------------------------------------------------------------------------------------------


def test_sends_of_all_connections_are_one_operation(gate: Gate) -> None:
    gate.storage.answering = False
    peers = [gate.peer() for _ in range(3)]
    # So large that what comes behind it grows until it is answered.
    peers[0].send(encode(SendRequest(ALICE, BOB, 3, bytes(10_000))))
    gate.turn_until(lambda: bool(gate.storage.held))
    for peer in peers:
        peer.send(encode(SendRequest(ALICE, BOB, 3, b"x")) * 2)
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    for peer, sent in zip(peers, (3, 2, 2), strict=True):
        assert [peer.response()[0] for _ in range(sent)] == [2103] * sent
    assert [len(batch.operations) for batch in gate.storage.batches] == [1, 1]
    assert all(isinstance(batch.operations[0], StoreMessages) for batch in gate.storage.batches)


def frames(contents: list[tuple[int, bytes]]) -> list[bytes]:
    return [encode(SendRequest(ClientId(bytes([who]) * 16), BOB, 3, content)) for who, content in contents]


def refuses_the_odd() -> Callable[[Operation], Outcome]:
    """A worker that refuses what begins with an odd byte and numbers the rest."""
    numbers = count(1)

    def decide(operation: Operation) -> Outcome:
        assert isinstance(operation, StoreMessage)
        return Refused(3) if operation.content[0] % 2 else Stored(next(numbers))

    return decide


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2), st.binary(min_size=1, max_size=3)), min_size=1, max_size=8), st.data())
def test_a_run_is_answered_as_the_same_sends_one_by_one(contents: list[tuple[int, bytes]], data: st.DataObject) -> None:
    sends = frames(contents)
    data_whole = b"".join(sends)
    cut = data.draw(st.integers(0, len(data_whole)))
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(Path(folder))
        try:
            answers = []
            for pieces in (sends, [data_whole[:cut], data_whole[cut:]]):
                gate.storage.decide = refuses_the_odd()
                peer = gate.peer()
                for piece in pieces:
                    if piece:
                        peer.send(piece)
                        gate.turns(2)
                answers.append([peer.response() for _ in sends])
            assert answers[0] == answers[1]
        finally:
            gate.close()
