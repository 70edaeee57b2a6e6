"""The deadlines of a connection, under a clock of the test's own, without sockets."""

from collections.abc import Callable

import pytest

from common.client_protocol.requests import PublicKeyRequest, SendRequest, encode
from common.client_protocol.responses import ERROR, encode_stored
from common.storage_protocol.operations import AbortUpload, CommitUpload
from common.values import ClientId
from gateway.connection.lifecycle import State
from gateway.settings import Settings
from tests.gateway.connection.memory_transport import PLENTY, Scene

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
KEY_REQUEST = encode(PublicKeyRequest(ALICE, BOB))
SEND = encode(SendRequest(ALICE, BOB, 3, bytes(100)))
LARGE = encode(SendRequest(ALICE, BOB, 3, bytes(1_000_000)))
SUSPICIOUS = ALICE + b"\x02" + (603).to_bytes(2, "little") + (2**31).to_bytes(4, "little")


@pytest.fixture
def scene(make_scene: Callable[[Settings], Scene]) -> Scene:
    return make_scene(Settings())


def is_timed_out(scene: Scene) -> bool:
    return scene.session.state is State.CLOSED and scene.peer.was_reset and not scene.context.sessions


def test_who_asks_for_nothing_has_all_the_time(scene: Scene) -> None:
    scene.pass_time(100_000, 500.0)
    assert len(scene.say(KEY_REQUEST)) > 0


@pytest.mark.parametrize("size", [1, 22])
def test_a_header_has_its_time_in_all(scene: Scene, size: int) -> None:
    scene.say(SEND[:size])
    scene.pass_time(9)
    scene.say(SEND[size : size + 1] if size < 22 else b"")
    assert not scene.session.closed
    scene.pass_time(1.5)
    assert is_timed_out(scene)


def test_a_payload_has_its_time_for_each_byte(scene: Scene) -> None:
    scene.say(SEND[:30])
    for position in range(30, 40):
        scene.pass_time(29, 1.0)
        scene.say(SEND[position : position + 1])
    assert not scene.session.closed
    scene.pass_time(31, 1.0)
    assert is_timed_out(scene)


def test_a_request_that_is_whole_has_no_deadline_left(scene: Scene) -> None:
    scene.say(SEND[:10])
    scene.pass_time(9)
    assert scene.say(SEND[10:])
    scene.pass_time(1000, 5.0)
    assert not scene.session.closed


def test_a_header_behind_another_has_a_time_of_its_own(scene: Scene) -> None:
    scene.say(SEND[:10])
    for _ in range(5):
        scene.pass_time(6, 1.0)
        assert scene.say(SEND[10:] + SEND[:10])
    scene.pass_time(11)
    assert is_timed_out(scene)


def test_an_impossible_size_is_judged_after_a_second_of_silence(scene: Scene) -> None:
    scene.say(SUSPICIOUS)
    scene.pass_time(0.8)
    assert scene.peer.take() == b""
    scene.pass_time(0.7)
    assert scene.peer.take() == ERROR
    assert scene.session.state is State.DRAINING


def test_while_the_gateway_does_not_listen_nothing_runs_out(scene: Scene) -> None:
    scene.storage.answering = False
    scene.say(encode(SendRequest(ALICE, BOB, 3, b"")), KEY_REQUEST)
    scene.peer.room = 0
    scene.storage.answering = True
    scene.turn()
    scene.say(SEND[:10])
    scene.pass_time(50, 1.0)
    assert not scene.session.closed
    scene.peer.room = PLENTY
    scene.turn()
    assert scene.peer.take()
    scene.pass_time(9, 1.0)
    assert not scene.session.closed
    scene.pass_time(2)
    assert is_timed_out(scene)


def test_an_upload_may_not_be_slower_than_its_bytes_allow(make_scene: Callable[[Settings], Scene]) -> None:
    scene = make_scene(Settings(slowest_upload=1000.0))
    scene.say(LARGE[:200])
    # Half of the pace: what comes in a second gives half a second.
    for start in range(200, 200 + 100 * 500, 500):
        scene.say(LARGE[start : start + 500])
        scene.pass_time(1.0, 1.0)
        if scene.session.closed:
            break
    assert is_timed_out(scene)
    assert scene.storage.asked_for(AbortUpload)
    assert scene.clock.time - 1000.0 == pytest.approx(60, abs=3)


def test_an_upload_at_its_pace_may_take_long(make_scene: Callable[[Settings], Scene]) -> None:
    scene = make_scene(Settings(slowest_upload=1000.0))
    answer = b""
    for start in range(0, len(LARGE), 20_000):
        answer += scene.say(LARGE[start : start + 20_000])
        scene.pass_time(19, 1.0)
    scene.turn(10)
    assert scene.storage.asked_for(CommitUpload)
    assert answer + scene.peer.take() == encode_stored(BOB, 1)


def test_no_upload_may_take_longer_than_the_longest(make_scene: Callable[[Settings], Scene]) -> None:
    scene = make_scene(Settings(longest_upload=100.0, slowest_upload=10.0))
    for start in range(0, 60_000, 500):
        scene.say(LARGE[start : start + 500])
        scene.pass_time(1.0, 1.0)
        if scene.session.closed:
            break
    assert is_timed_out(scene)
    assert scene.clock.time - 1000.0 == pytest.approx(100, abs=2)
