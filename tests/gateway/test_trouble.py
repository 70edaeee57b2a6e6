"""What goes wrong around a session: slow readers, silent and confused workers, clients
that vanish, no descriptors.
"""

import errno
import socket
import struct
from collections.abc import Callable

import pytest

from common.client_protocol.requests import (
    FetchRequest,
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PullRequest,
    SendRequest,
    encode,
)
from common.errors import SettingRejected
from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import BatchRefused, GreetAgain, MailArrived, StoreFacts, Superseded
from common.storage_protocol.message_format import walk_frames
from common.storage_protocol.operations import (
    NO_MAIL,
    AbortUpload,
    BeginUpload,
    Chunk,
    CommitUpload,
    Done,
    GetProofKey,
    KeyFound,
    ListUsers,
    Operation,
    Outcome,
    Pull,
    Pulled,
    Refused,
    Release,
    Settle,
    Stored,
    StoreMessage,
    StoreMessages,
    UploadUnknown,
    UserEntry,
    UsersPage,
)
from common.values import ClientId
from gateway.listener import open_listener
from gateway.settings import Settings
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Gate, Peer
from tests.gateway.mailbox import page

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
HELLO = encode(HelloRequest(ClientId(bytes(16)), 1, 0))

EVERY_KIND = {
    "send": encode(SendRequest(ALICE, BOB, 3, b"x")),
    "large send": encode(SendRequest(ALICE, BOB, 3, bytes(100_000))),
    "key": encode(PublicKeyRequest(ALICE, BOB)),
    "list": encode(ListUsersRequest(ALICE)),
    "pull": encode(PullRequest(ALICE)),
    "fetch": encode(FetchRequest(ALICE, 0, 1000, 60)),
    "proof": HELLO + encode(ProveRequest(ALICE, bytes(128))),
}


def skip_greeting(peer: Peer, kind: str) -> None:
    if kind == "proof":
        assert peer.response()[0] == 2140


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_silent_worker_leaves_every_request_without_a_reply(gate: Gate, kind: str) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND[kind])
    skip_greeting(peer, kind)
    gate.turn_until(lambda: bool(gate.storage.held))
    gate.pass_time(16)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    assert not gate.context.sessions


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_outcome_of_the_wrong_kind_ends_the_connection_without_a_reply(gate: Gate, kind: str) -> None:
    wrong: Outcome = Done() if kind not in ("large send", "proof") else Pulled(0, 0, 0, 0, NO_MAIL)
    gate.storage.decide = lambda operation: wrong if not isinstance(operation, BeginUpload) else Done()
    peer = gate.peer()
    peer.send(EVERY_KIND[kind])
    skip_greeting(peer, kind)
    gate.turn_until(peer.is_ended)
    assert peer.received == b""


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_client_that_is_gone_before_the_answer_disturbs_nobody(gate: Gate, kind: str) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND[kind])
    skip_greeting(peer, kind)
    gate.turn_until(lambda: bool(gate.storage.held))
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
    gate.storage.answering = True
    for batch in gate.storage.held:
        gate.storage.answer(batch)
    other = gate.peer()
    other.send(EVERY_KIND["send"])
    assert other.response()[0] == 2103


def test_a_lease_that_comes_too_late_is_released(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: bool(gate.storage.held))
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
    gate.storage.answering = True
    gate.storage.decide = lambda operation: (
        Pulled(1, 2, 2, 0, NO_MAIL) if isinstance(operation, Pull) else default_decision(operation)
    )
    gate.storage.answer(gate.storage.held[0])
    gate.turn_until(lambda: gate.link.collects or bool(gate.storage.asked(Release)))
    assert not gate.link.collects, "it leaves in the turn in which it was asked for: there may be no other for long"


def test_more_content_than_was_announced_resets(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Pulled(1, 1, 1, 3, page((1, b"too large"))) if isinstance(operation, Pull) else default_decision(operation)
    )
    peer = gate.peer()
    peer.send(PullRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset


def test_answers_wait_for_a_client_that_reads_late(gate: Gate) -> None:
    count = 200_000
    peer = gate.peer()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
    request = encode(PublicKeyRequest(ALICE, BOB))
    frame = request * count
    sent = 0
    for _ in range(600):
        try:
            sent += peer.sock.send(frame[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
    assert gate.context.holdings.size > 0
    assert sent < len(frame), "it is not read any more"
    assert len(gate.storage.operations) < count
    answer = b"\x02\x36\x08\xb0\x00\x00\x00" + BOB + b"K" * 160
    received = b""
    while len(received) < count * len(answer):
        try:
            sent += peer.sock.send(frame[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
        peer.read()
        received += peer.received
        peer.received = b""
        assert not peer.ended
    assert received == answer * count
    assert gate.context.holdings.size == 0


def test_a_list_goes_on_when_the_page_before_was_read(gate: Gate) -> None:
    users = [UserEntry(number.to_bytes(16, "little"), f"user {number}") for number in range(20_000)]

    def decide(operation: Operation) -> Outcome:
        assert isinstance(operation, ListUsers)
        page = users[operation.after : operation.after + 2000]
        return UsersPage(len(users), operation.after + len(page), len(users), page)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(lambda: gate.context.holdings.size > 100_000)
    asked = len(gate.storage.operations)
    gate.turns(50)
    assert len(gate.storage.operations) == asked
    code, payload = peer.response()
    assert (code, len(payload)) == (2101, 271 * 20_000)
    assert payload[-271:-255] == users[-1].client_id


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


def test_a_batch_the_worker_can_not_decode_was_not_done(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"] * 2)
    gate.turn_until(lambda: bool(gate.storage.held))
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(BatchRefused(batch.slot, batch.epoch, batch.number))
    [run] = batch.operations
    assert isinstance(run, StoreMessages)
    sends = len(list(walk_frames(run.frames)))
    assert [peer.response()[0] for _ in range(2)] == [9000] * sends + [2103] * (2 - sends)
    peer.send(EVERY_KIND["send"])
    assert peer.response()[0] == 2103


def test_a_worker_that_does_not_know_us_is_greeted_again(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(GreetAgain(batch.slot, batch.epoch, batch.number))
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    other = gate.peer()
    other.send(EVERY_KIND["send"])
    assert other.response()[0] == 2103
    assert len(gate.storage.greetings) == 2


def test_an_upload_that_a_greeting_ended_is_no_fault_of_the_client(gate: Gate) -> None:
    uploader, *others = [gate.peer() for _ in range(1 + MOST_IN_FLIGHT)]
    frame = encode(SendRequest(ALICE, BOB, 4, bytes(600_000)))
    uploader.send(frame[:300_000])
    gate.turn_until(lambda: bool(gate.storage.asked(Chunk)))
    gate.turn_until(lambda: not gate.link.bytes_under_way)
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


def test_a_late_greeting_of_a_dead_gateway_does_not_end_the_living(gate: Gate) -> None:
    gate.storage.answering = False
    peer = gate.peer()
    peer.send(EVERY_KIND["send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(Superseded(batch.slot, batch.epoch))
    gate.turn_until(peer.is_ended)
    assert peer.received == b""
    other = gate.peer()
    other.send(EVERY_KIND["send"])
    assert other.response()[0] == 2103


def test_a_proof_of_a_user_who_vanished_meanwhile(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        KeyFound(ALICE, bytes(160)) if isinstance(operation, GetProofKey) else Refused(2)
    )
    peer = gate.peer()
    peer.send(EVERY_KIND["proof"])
    skip_greeting(peer, "proof")
    assert peer.response() == (9000, b"")


def test_stopping_answers_what_was_asked_and_takes_nothing_more(gate: Gate) -> None:
    gate.storage.answering = False
    peers = {kind: gate.peer() for kind in ("send", "list", "fetch", "large send")}
    for kind, peer in peers.items():
        peer.send(EVERY_KIND[kind][:-1000] if kind == "large send" else EVERY_KIND[kind])
    idle = gate.peer()
    gate.turn_until(lambda: bool(gate.storage.held) and len(gate.context.sessions) == 5)
    gate.turns()
    for session in list(gate.context.sessions):
        session.stop()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    assert [peers[kind].response()[0] for kind in ("send", "list", "fetch")] == [2103, 2101, 2143]
    for peer in (*peers.values(), idle):
        gate.turn_until(peer.is_ended)
    assert not gate.context.sessions


class NoMoreDescriptors:
    """A listening socket for which there is no descriptor, once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.failures = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            raise self.failures.pop()
        return self._sock.accept()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


def test_without_descriptors_new_connections_wait(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    failing = NoMoreDescriptors(gate.listener._sock)
    gate.listener._sock = failing  # type: ignore[assignment]
    peer = gate.peer()
    peer.send(EVERY_KIND["send"])
    gate.turn_until(lambda: not failing.failures)
    gate.turns()
    assert "Too many open files" in caplog.text
    gate.pass_time(1)
    assert peer.response()[0] == 2103


def test_an_address_that_is_taken_is_named(gate: Gate) -> None:
    with pytest.raises(SettingRejected, match=str(gate.port)):
        open_listener("127.0.0.1", gate.port)
    with pytest.raises(SettingRejected, match="no such host"):
        open_listener("no such host", 1)


def test_a_failing_handler_ends_the_loop(gate: Gate) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    gate.loop.call_at(gate.clock.time, fail)
    with pytest.raises(ZeroDivisionError):
        gate.turn()


def test_sends_are_counted_once_answered(gate: Gate) -> None:
    gate.storage.decide = lambda operation: Stored(7) if isinstance(operation, StoreMessage) else Done()
    peer = gate.peer()
    peer.send(EVERY_KIND["send"] * 3000)
    for _ in range(3000):
        assert peer.response()[0] == 2103
    assert gate.link.bytes_under_way == 0
    assert all(getattr(session, "_owed", 0) == 0 for session in gate.context.sessions)


def test_another_store_ends_every_connection_and_settles_nothing(gate: Gate) -> None:
    gate.storage.decide = lambda operation: (
        Pulled(4, 4, 1, 2, page((4, b"hi"))) if isinstance(operation, Pull) else default_decision(operation)
    )
    reader, sender = gate.peer(), gate.peer()
    reader.send(PullRequest(ALICE))
    assert reader.response()[0] == 2104
    gate.turn_until(gate.all_acknowledged)
    gate.storage.facts = StoreFacts(SERVER_ID, 8, 2)
    gate.storage.answering = False
    sender.send(EVERY_KIND["send"])
    gate.turn_until(lambda: bool(gate.storage.held))
    reader.send(EVERY_KIND["send"])
    gate.turns()
    batch = gate.storage.held[0]
    gate.storage.answering = True
    gate.storage.say(GreetAgain(batch.slot, batch.epoch, batch.number))
    for peer in (reader, sender):
        gate.turn_until(peer.is_ended)
        assert peer.received == b""
    gate.turns()
    assert not gate.storage.asked(Settle)
    assert not gate.storage.asked(StoreMessage)


def test_a_sleeping_fetch_that_is_refused_later_is_forgotten(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(EVERY_KIND["fetch"])
    gate.turn_until(lambda: bool(gate.storage.operations))
    gate.turns()
    gate.storage.decide = lambda _: Refused(1)
    gate.storage.say(MailArrived(3, gate.storage.epoch, 101, [ALICE]))
    assert peer.response() == (9000, b"")
    assert not gate.context.waiters.mailboxes


def test_pages_wait_for_their_turn(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(page=1000, pages_under_way=3000))
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.answering = False
    peers = [gate.peer() for _ in range(10)]
    for peer in peers:
        peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: len(gate.context.sessions) == 10 and bool(gate.storage.held))
    gate.turns()
    gone = peers.pop(5)
    gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    for peer in peers:
        assert peer.response() == (2104, b"")
    assert max(len(batch.operations) for batch in gate.storage.batches) <= 3
    assert len(gate.storage.asked(Pull)) == 9


def test_lists_of_users_wait_for_their_turn_too(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(users_page=1000, pages_under_way=3000))
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.answering = False
    peers = [gate.peer() for _ in range(10)]
    for peer in peers:
        peer.send(ListUsersRequest(ALICE))
    gate.turn_until(lambda: len(gate.context.sessions) == 10 and bool(gate.storage.held))
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    for peer in peers:
        assert peer.response() == (2101, b"")
    assert max(len(batch.operations) for batch in gate.storage.batches) <= 3
    assert gate.context.pages.under_way == 0


def test_a_list_that_ends_in_a_bug_gives_its_page_back_once(gate: Gate) -> None:
    gate.storage.decide = lambda _: UsersPage(1, 1, 1, [UserEntry(BOB, "n\N{LATIN SMALL LETTER O WITH STROKE}")])
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert gate.context.pages.under_way == 0


@pytest.mark.parametrize("late", [0, 1, 500])
def test_a_refused_padded_request_gets_a_padded_answer(gate: Gate, late: int) -> None:
    peer = gate.peer()
    frame = struct.pack("<16sBHI", ALICE, 2, 999, 0).ljust(1024, b"\0")
    peer.send(frame[: 1024 - late])
    gate.turns()
    peer.send(frame[1024 - late :])
    assert peer.take(1024) == struct.pack("<BHI", 2, 9000, 0).ljust(1024, b"\0")
    gate.turn_until(peer.is_ended)
    assert not peer.reset
