"""Large contents: uploads that wait for the disk, and that end too early."""

import struct

import pytest

from common.client_protocol.requests import SendRequest, encode
from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import GreetAgain
from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    GetUploadProgress,
    Operation,
    Outcome,
    Refused,
    Stored,
    UploadProgress,
    UploadUnknown,
)
from gateway.settings import Settings
from tests.gateway.authenticated import ALICE, BOB, TOKEN
from tests.gateway.every_kind import EVERY_KIND
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate, Peer, push


def test_large_and_token_sends_carry_both(gate: Gate, authenticated: Peer) -> None:
    authenticated.send(SendRequest(ALICE, BOB, 4, bytes(200_000), TOKEN))
    assert authenticated.response()[0] == 2103
    assert gate.storage.operations[0] == BeginUpload(1, ALICE, True, BOB, 4, 200_000, TOKEN)


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


def test_an_upload_waits_while_the_disk_is_behind(gate: Gate) -> None:
    disk = Disk(gate, BEHIND)
    peer = gate.peer()
    sent = push(gate, UPLOAD)
    chunks = gate.storage.asked(Chunk)
    taken = sum([len(chunk.content) for chunk in chunks if isinstance(chunk, Chunk)])
    assert taken <= Settings().connection_in_flight + Settings().chunk
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


@pytest.mark.parametrize("step", [Chunk, CommitUpload])
def test_an_upload_whose_user_is_deleted_is_refused_and_given_up(gate: Gate, step: type) -> None:
    gate.storage.decide = lambda operation: Refused(3) if isinstance(operation, step) else default_decision(operation)
    peer = gate.peer()
    peer.send(UPLOAD)
    assert peer.response() == (9000, b"")
    gate.turn_until(lambda: len(gate.storage.asked(AbortUpload)) == 1)  # The worker remembers it until then.


def test_an_upload_whose_end_came_before_its_turn(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"] + EVERY_KIND["large send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    peer.end()
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    assert peer.response()[0] == 2103
    assert peer.response()[0] == 2103
    gate.turn_until(peer.is_ended)


def test_half_an_upload_whose_end_came_before_its_turn(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"] + EVERY_KIND["large send"][:1000])
    gate.turn_until(lambda: bool(gate.storage.held))
    peer.end()
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    gate.turn_until(peer.is_ended)
    gate.turn_until(lambda: bool(gate.storage.asked(AbortUpload)))
    assert not gate.storage.asked(CommitUpload)


def test_an_upload_that_a_greeting_ended_is_no_fault_of_the_client(gate: Gate) -> None:
    uploader, *others = [gate.peer() for _ in range(1 + MOST_IN_FLIGHT)]
    frame = encode(SendRequest(ALICE, BOB, 4, bytes(600_000)))
    uploader.send(frame[:300_000])
    gate.turn_until(lambda: bool(gate.storage.asked(Chunk)))
    gate.turn_until(lambda: not gate.link.bytes_in_flight)
    # While others' batches are on their way that will be answered by nobody, the upload goes on
    # behind them.
    gate.storage.answering = False
    for other in others:
        other.send(EVERY_KIND["send"])
        gate.turns()
    assert len(gate.storage.held) == MOST_IN_FLIGHT
    uploader.send(frame[300_000:])
    gate.turns()
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.decide = lambda operation: (
        UploadUnknown() if isinstance(operation, Chunk | CommitUpload) else default_decision(operation)
    )
    gate.storage.say(GreetAgain(batch.slot, batch.epoch, batch.number))
    gate.turn_until(uploader.is_ended)
    assert uploader.received == b"", "a refusal would say that the message is wrong"
    assert gate.storage.asked(CommitUpload)
