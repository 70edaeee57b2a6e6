"""Every row of a session's table of states, without sockets: what it reads and writes there, and
how it leaves.
"""

from collections.abc import Callable, Iterator

import pytest

from common.client_protocol.requests import PublicKeyRequest, PullRequest, RegisterRequest, SendRequest, encode
from common.client_protocol.responses import ERROR
from common.client_protocol.versions import PADDED_BLOCK
from common.storage_protocol.operations import (
    AbortUpload,
    Chunk,
    CommitUpload,
    Operation,
    Outcome,
    Pull,
    Pulled,
    Release,
    Settle,
    StoreMessage,
)
from common.values import ClientId, PublicKey, Username
from gateway.connection.lifecycle import State
from gateway.settings import Settings
from tests.gateway.connection.memory_transport import PLENTY, MemoryTransport, RecordTransport, Scene
from tests.gateway.fake_storage import default_decision
from tests.gateway.mailbox import page

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
KEY_REQUEST = PublicKeyRequest(ALICE, BOB)
PULL = PullRequest(ALICE)
KEY_SIZE = 7 + 16 + 160
STORED_SIZE = 7 + 16 + 4


def send(content: bytes = b"hello") -> bytes:
    return encode(SendRequest(ALICE, BOB, 3, content))


FATAL_FRAME = ALICE + b"\x02" + (602).to_bytes(2, "little") + b"\xff" * 4
"""Declares more than any payload may have, so that nothing behind it can be read."""
SUSPICIOUS = ALICE + b"\x02" + (603).to_bytes(2, "little") + (2**31).to_bytes(4, "little")
"""The header of a 603 with a size that only a key request may have."""


@pytest.fixture(params=[MemoryTransport, RecordTransport])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(peer=request.param())
    yield scene
    scene.close()


def with_mail(scene: Scene, content: bytes = b"hi") -> None:
    def decide(operation: Operation) -> Outcome:
        if isinstance(operation, Pull):
            return Pulled(4, 6, 1, len(content), page((4, content)))
        return default_decision(operation)

    scene.storage.decide = decide


def settled(scene: Scene) -> list[Operation]:
    """How the lease of the one 604 ended, as far as it has."""
    return scene.storage.asked_for(Settle) + scene.storage.asked_for(Release)


def is_closed(scene: Scene, *, reset: bool) -> bool:
    """Whether the session is gone in every respect, and how the peer saw that."""
    return (
        scene.session.state is State.CLOSED
        and scene.session.closed
        and scene.peer.is_closed
        and scene.peer.was_reset is reset
        and not scene.context.sessions
        and scene.context.holdings.size == 0
    )


# --- the ways into each state


def to_open(scene: Scene) -> None:
    """With a lease that is not settled."""
    with_mail(scene)
    assert scene.say(PULL)
    assert scene.is_in(State.OPEN)


def to_ending(scene: Scene) -> None:
    """With a lease, and a request whose answer is held back."""
    to_open(scene)
    scene.peer.acknowledge()
    scene.storage.answering = False
    scene.peer.say(KEY_REQUEST)
    scene.peer.end()
    scene.turn()
    assert scene.is_in(State.ENDING)


def to_draining(scene: Scene) -> None:
    """With a lease, behind a frame that nothing can follow."""
    to_open(scene)
    assert scene.say(FATAL_FRAME) == ERROR
    assert scene.is_in(State.DRAINING)


def to_watching(scene: Scene) -> None:
    """With a lease, everything acknowledged."""
    to_open(scene)
    scene.peer.acknowledge()
    scene.peer.end()
    scene.turn()
    assert scene.is_in(State.WATCHING)


def to_watching_with_both_sides_ended(scene: Scene) -> None:
    """The same behind a half-close."""
    with_mail(scene)
    padded = encode(PULL).ljust(PADDED_BLOCK, b"\0")
    assert len(scene.say(padded)) == PADDED_BLOCK
    assert scene.is_in(State.DRAINING)
    scene.peer.acknowledge()
    scene.peer.end()
    scene.turn()
    assert scene.is_in(State.WATCHING)


def to_stopping(scene: Scene) -> None:
    """With a lease, and a request whose answer is held back."""
    to_open(scene)
    scene.peer.acknowledge()
    scene.storage.answering = False
    scene.say(KEY_REQUEST)
    scene.session.stop()
    scene.turn()
    assert scene.is_in(State.STOPPING)


WAYS = [to_open, to_ending, to_draining, to_watching, to_stopping]


# --- any state


@pytest.mark.parametrize("way", WAYS)
def test_a_reset_releases_the_mail_in_every_state(scene: Scene, way: Callable[[Scene], None]) -> None:
    way(scene)
    before = settled(scene)
    scene.peer.break_off()
    scene.turn()
    assert is_closed(scene, reset=True)
    # The request behind the mail, where the way had one, has settled it before.
    assert settled(scene) == before or settled(scene) == [Release(1)]
    assert len(settled(scene)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_an_abort_resets_in_every_state_and_once(scene: Scene, way: Callable[[Scene], None]) -> None:
    way(scene)
    scene.session.abort()
    scene.session.abort()
    scene.turn()
    assert is_closed(scene, reset=True)
    assert len(settled(scene)) == 1


@pytest.mark.parametrize("way", [to_ending, to_stopping])
def test_an_answer_that_comes_after_the_end_is_nobodys(scene: Scene, way: Callable[[Scene], None]) -> None:
    way(scene)
    scene.session.abort()
    scene.peer.take()
    scene.storage.answering = True
    scene.turn()
    assert scene.peer.take() == b""
    assert is_closed(scene, reset=True)


@pytest.mark.parametrize("way", [to_draining, to_watching, to_stopping, to_ending])
def test_a_stop_changes_nothing_for_who_is_ending(scene: Scene, way: Callable[[Scene], None]) -> None:
    way(scene)
    state = scene.session.state
    scene.session.stop()
    scene.turn()
    assert scene.is_in(state)


# --- OPEN


def test_open_reads_requests_and_writes_their_answers_in_order(scene: Scene) -> None:
    register = RegisterRequest(ClientId(bytes(16)), Username("alice"), PublicKey(b"k" * 160))
    codes = []
    data = scene.say(register, KEY_REQUEST, send(), PULL)
    while data:
        codes.append(int.from_bytes(data[1:3], "little"))
        data = data[7 + int.from_bytes(data[3:7], "little") :]
    assert codes == [2100, 2102, 2103, 2104]
    assert scene.reads()
    assert not scene.writes()


def test_open_takes_any_split_of_the_bytes(scene: Scene) -> None:
    received = b""
    for byte in encode(KEY_REQUEST) + send():
        received += scene.say(bytes([byte]))
    assert len(received) == KEY_SIZE + STORED_SIZE


def test_open_closes_in_order_where_nothing_is_unanswered(scene: Scene) -> None:
    scene.say(send())
    scene.peer.end()
    scene.turn()
    assert is_closed(scene, reset=False)


def test_open_answers_what_came_before_the_end(scene: Scene) -> None:
    scene.peer.say(send() + encode(KEY_REQUEST))
    scene.peer.end()
    scene.turn()
    assert len(scene.peer.take()) == STORED_SIZE + KEY_SIZE
    assert is_closed(scene, reset=False)


def test_the_end_in_half_a_request_is_an_end(scene: Scene) -> None:
    scene.peer.say(send()[:-1])
    scene.peer.end()
    scene.turn()
    assert scene.peer.take() == b""
    assert not scene.storage.asked
    assert is_closed(scene, reset=False)


def test_the_end_behind_a_suspicious_size_judges_it(scene: Scene) -> None:
    scene.peer.say(SUSPICIOUS)
    scene.peer.end()
    scene.turn()
    assert scene.peer.take() == ERROR
    assert is_closed(scene, reset=False)


def test_the_end_within_an_upload_is_a_reset_and_keeps_nothing(scene: Scene) -> None:
    scene.peer.say(send(bytes(1_000_000))[:600_000])
    scene.turn(10)
    assert scene.storage.asked_for(Chunk)
    scene.peer.end()
    scene.turn()
    assert is_closed(scene, reset=True)
    assert scene.storage.asked_for(AbortUpload)
    assert not scene.storage.asked_for(CommitUpload)


def test_a_broken_read_is_a_reset(scene: Scene) -> None:
    scene.peer.break_off()
    scene.session.on_readable()
    assert is_closed(scene, reset=True)


def test_a_readiness_without_bytes_is_no_news(scene: Scene) -> None:
    scene.session.on_readable()
    assert scene.is_in(State.OPEN)
    assert len(scene.say(KEY_REQUEST)) == KEY_SIZE


def test_a_write_error_is_a_reset_and_releases_the_mail(scene: Scene) -> None:
    to_open(scene)
    scene.storage.answering = False
    scene.say(KEY_REQUEST)
    scene.peer.broken = 32
    scene.storage.answering = True
    scene.loop.turn(0)
    assert is_closed(scene, reset=True)
    assert settled(scene) == [Release(1)]


def test_a_write_error_behind_a_partial_write_is_a_reset(scene: Scene) -> None:
    scene.peer.room = 5
    scene.say(KEY_REQUEST)
    scene.peer.room, scene.peer.broken = PLENTY, 32
    scene.session.on_writable()
    assert is_closed(scene, reset=True)


def test_an_outcome_that_is_unknown_ends_the_connection_without_a_reply(scene: Scene) -> None:
    scene.storage.answering = False
    scene.say(KEY_REQUEST, send())
    scene.storage.lose()
    scene.turn()
    assert scene.peer.take() == b""
    assert is_closed(scene, reset=True)


# --- partial writes


def test_what_was_not_taken_is_written_when_there_is_room(scene: Scene) -> None:
    scene.peer.room = 12
    first = len(scene.say(KEY_REQUEST))
    assert 0 < first <= 12
    assert scene.writes()
    received = b""
    for _ in range(10):
        scene.peer.room = 40
        scene.turn(1)
        received += scene.peer.take()
    assert first + len(received) == KEY_SIZE
    assert not scene.writes()
    assert scene.reads()


def test_who_takes_no_answers_gets_no_more_of_them(scene: Scene) -> None:
    scene.peer.room = 0
    scene.say(KEY_REQUEST)
    scene.say(KEY_REQUEST)
    scene.say(send(bytes(8000)))
    assert len(scene.storage.asked) == 1
    assert not scene.reads(), "more than a little is not read ahead"
    scene.peer.room = PLENTY
    scene.turn()
    assert len(scene.peer.take()) == 2 * KEY_SIZE + STORED_SIZE
    assert scene.reads()


def test_answers_behind_a_partial_write_keep_their_order(scene: Scene) -> None:
    scene.storage.answering = False
    scene.say(KEY_REQUEST)
    scene.say(send())
    scene.peer.room = 5
    scene.storage.answering = True
    scene.turn()
    scene.peer.room = PLENTY
    scene.turn()
    data = scene.peer.take()
    assert [data[1:3], data[KEY_SIZE + 1 : KEY_SIZE + 3]] == [b"\x36\x08", b"\x37\x08"]
    assert len(data) == KEY_SIZE + STORED_SIZE


@pytest.mark.parametrize("room", [0, 5])
def test_an_answer_of_which_nothing_is_taken_is_a_reset(scene: Scene, room: int) -> None:
    scene.peer.room = room
    scene.say(KEY_REQUEST)
    scene.pass_time(59, 1.0)
    assert not scene.session.closed
    scene.pass_time(2)
    assert is_closed(scene, reset=True)


@pytest.mark.parametrize("end_first", [False, True])
def test_an_answer_that_is_not_taken_in_time_is_a_reset(scene: Scene, end_first: bool) -> None:
    scene.peer.room = 5
    scene.peer.say(KEY_REQUEST)
    if end_first:
        scene.peer.end()
    scene.turn()
    scene.pass_time(59, 1.0)
    assert not scene.session.closed
    # What is taken gives the whole time again.
    scene.peer.room = 8
    scene.turn(1)
    scene.pass_time(59, 1.0)
    assert not scene.session.closed
    scene.pass_time(2)
    assert is_closed(scene, reset=True)


# --- ENDING


def test_ending_reads_nothing_and_writes_what_was_asked(scene: Scene) -> None:
    scene.storage.answering = False
    scene.peer.say(KEY_REQUEST)
    scene.peer.end()
    scene.turn()
    assert scene.is_in(State.ENDING)
    assert not scene.reads()
    scene.storage.answering = True
    scene.turn()
    assert len(scene.peer.take()) == KEY_SIZE
    assert is_closed(scene, reset=False)


def test_ending_waits_until_all_is_written(scene: Scene) -> None:
    scene.peer.room = 5
    scene.peer.say(KEY_REQUEST)
    scene.peer.end()
    scene.turn()
    assert scene.is_in(State.ENDING)
    assert scene.writes()
    scene.peer.room = PLENTY
    scene.turn()
    assert len(scene.peer.take()) == KEY_SIZE
    assert is_closed(scene, reset=False)


def test_a_write_error_in_ending_is_a_reset(scene: Scene) -> None:
    scene.storage.answering = False
    scene.peer.say(KEY_REQUEST)
    scene.peer.end()
    scene.turn()
    scene.peer.broken = 32
    scene.storage.answering = True
    scene.loop.turn(0)
    assert is_closed(scene, reset=True)


def test_ending_with_unsettled_mail_becomes_watching(scene: Scene) -> None:
    with_mail(scene)
    scene.peer.say(PULL)
    scene.peer.end()
    scene.turn()
    assert scene.peer.take()
    assert scene.is_in(State.WATCHING)


# --- DRAINING


def test_a_fatal_frame_is_answered_then_this_side_ends(scene: Scene) -> None:
    assert scene.say(FATAL_FRAME) == ERROR
    assert scene.is_in(State.DRAINING)
    assert scene.peer.ended
    assert not scene.peer.is_closed


def test_answers_that_are_in_flight_come_before_the_end(scene: Scene) -> None:
    scene.storage.answering = False
    scene.say(KEY_REQUEST, FATAL_FRAME)
    assert scene.is_in(State.OPEN)
    scene.storage.answering = True
    scene.turn()
    data = scene.peer.take()
    assert len(data) == KEY_SIZE + len(ERROR)
    assert data.endswith(ERROR)
    assert scene.is_in(State.DRAINING)


def test_the_padded_dialect_gets_a_padded_answer_then_the_end(scene: Scene) -> None:
    assert len(scene.say(encode(KEY_REQUEST).ljust(PADDED_BLOCK, b"\0"))) == PADDED_BLOCK
    assert scene.is_in(State.DRAINING)


def test_draining_drops_what_comes_and_holds_nothing(scene: Scene) -> None:
    scene.say(FATAL_FRAME)
    for _ in range(5):
        scene.say(send())
    assert scene.reads()
    assert not scene.peer.unread
    assert not scene.storage.asked
    assert scene.context.holdings.size == 0
    scene.peer.end()
    scene.turn()
    assert is_closed(scene, reset=False)


def test_draining_drops_what_came_before_it(scene: Scene) -> None:
    malformed = ALICE + b"\x02" + bytes(6)
    answers = scene.say(malformed * scene.settings.malformed_frames + send(bytes(5000)) * 2)
    assert answers == ERROR * scene.settings.malformed_frames
    assert scene.is_in(State.DRAINING)
    assert scene.context.holdings.size == 0
    assert not scene.storage.asked


def test_draining_has_an_end(scene: Scene) -> None:
    to_draining(scene)
    scene.pass_time(29, 1.0)
    scene.say(b"still here")
    assert scene.is_in(State.DRAINING)
    scene.pass_time(2)
    assert is_closed(scene, reset=True)
    assert len(settled(scene)) == 1


def test_a_connection_that_is_gone_at_its_half_close_is_reset(scene: Scene) -> None:
    to_open(scene)
    scene.peer.shut_down_fails = True
    scene.say(FATAL_FRAME)
    assert is_closed(scene, reset=True)
    assert len(settled(scene)) == 1


# --- WATCHING


WATCHED = pytest.mark.parametrize("way", [to_watching, to_watching_with_both_sides_ended])


@WATCHED
def test_without_a_reset_the_mail_is_settled_and_the_end_is_in_order(
    scene: Scene, way: Callable[[Scene], None]
) -> None:
    way(scene)
    assert not scene.reads()
    assert not scene.writes()
    scene.pass_time(1.9)
    assert scene.is_in(State.WATCHING)
    assert not settled(scene)
    scene.pass_time(0.2)
    assert settled(scene) == [Settle(1, ALICE, False, 4, 6)]
    assert is_closed(scene, reset=False)


@WATCHED
def test_a_reset_while_watching_releases_the_mail(scene: Scene, way: Callable[[Scene], None]) -> None:
    way(scene)
    scene.pass_time(1.0)
    scene.peer.break_off()
    scene.pass_time(2.0)
    assert settled(scene) == [Release(1)]
    assert is_closed(scene, reset=True)


def test_the_watch_begins_when_all_is_acknowledged(scene: Scene) -> None:
    to_open(scene)
    scene.peer.end()
    scene.turn()
    assert scene.is_in(State.WATCHING)
    scene.pass_time(30)
    assert not settled(scene)
    scene.peer.acknowledge()
    scene.pass_time(1.9)
    assert not settled(scene)
    scene.pass_time(0.5)
    assert settled(scene) == [Settle(1, ALICE, False, 4, 6)]
    assert is_closed(scene, reset=False)


def test_mail_that_is_never_acknowledged_is_released(scene: Scene) -> None:
    to_open(scene)
    scene.peer.end()
    scene.turn()
    scene.pass_time(59, 0.25)
    assert scene.is_in(State.WATCHING)
    scene.pass_time(2, 0.25)
    assert settled(scene) == [Release(1)]
    assert is_closed(scene, reset=True)


# --- STOPPING


def test_a_stop_closes_who_waits_for_nothing(scene: Scene) -> None:
    scene.say(send())
    scene.session.stop()
    scene.turn()
    assert is_closed(scene, reset=False)


def test_a_stop_answers_what_was_asked_and_reads_nothing_more(scene: Scene) -> None:
    scene.storage.answering = False
    scene.say(KEY_REQUEST)
    scene.session.stop()
    scene.turn()
    assert scene.is_in(State.STOPPING)
    assert not scene.reads()
    scene.storage.answering = True
    scene.turn()
    assert len(scene.peer.take()) == KEY_SIZE
    assert is_closed(scene, reset=False)


def test_a_stop_releases_mail_that_is_not_settled(scene: Scene) -> None:
    to_open(scene)
    scene.session.stop()
    scene.turn()
    assert settled(scene) == [Release(1)]
    assert is_closed(scene, reset=False)


# --- bounds


def test_what_is_unanswered_is_bounded_and_reading_goes_on_later(
    make_scene: Callable[[Settings], Scene],
) -> None:
    scene = make_scene(Settings(connection_in_flight=20_000))
    scene.storage.answering = False
    for _ in range(10):
        scene.say(send(bytes(4000)))
    assert not scene.reads()
    assert 4 <= len(scene.storage.asked_for(StoreMessage)) < 10
    scene.storage.answering = True
    scene.turn(10)
    assert len(scene.peer.take()) == 10 * STORED_SIZE
    assert scene.reads()
