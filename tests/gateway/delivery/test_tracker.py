"""From what a connection shows to Settle and Release, on a transport in memory."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from common.client_protocol.requests import PublicKeyRequest, PullRequest, encode
from common.storage_protocol.operations import NO_MAIL, Operation, Outcome, Pull, Pulled, Release, Settle
from common.values import ClientId
from tests.gateway.connection.memory_transport import PLENTY, MemoryTransport, RecordTransport, Scene
from tests.gateway.fake_storage import default_decision
from tests.gateway.mailbox import page

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
KEY_REQUEST = encode(PublicKeyRequest(ALICE, BOB))
PULL = PullRequest(ALICE)
SETTLED = Settle(1, ALICE, False, 4, 6)


def _with_mail(scene: Scene) -> Iterator[Scene]:
    def decide(operation: Operation) -> Outcome:
        if isinstance(operation, Pull):
            return Pulled(4, 6, 1, 2, page((4, b"hi")))
        return default_decision(operation)

    scene.storage.decide = decide
    yield scene
    scene.close()


@pytest.fixture(params=[MemoryTransport, RecordTransport])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    yield from _with_mail(Scene(peer=request.param()))


def settled(scene: Scene) -> list[Operation]:
    return scene.storage.asked_for(Settle) + scene.storage.asked_for(Release)


def test_a_request_behind_the_acknowledgement_settles_before_it_is_taken_up(scene: Scene) -> None:
    scene.say(PULL)
    scene.peer.acknowledge()
    scene.pass_time(0.3, 0.01)
    assert not settled(scene)
    scene.say(KEY_REQUEST)
    assert scene.storage.asked[1] == SETTLED


def test_an_acknowledgement_is_looked_for_again_later_and_later(scene: Scene) -> None:
    looks: list[float] = []
    real = scene.peer.unacknowledged

    def count() -> int:
        looks.append(scene.clock.time)
        return real()

    scene.peer.unacknowledged = count  # type: ignore[method-assign]
    scene.say(PULL)
    scene.pass_time(10, 0.001)
    pauses = [after - before for before, after in pairwise(looks)]
    assert pauses[0] < 0.01
    assert all(after >= before * 0.9 for before, after in pairwise(pauses))
    assert max(pauses) == pytest.approx(0.25, abs=0.01)
    scene.peer.acknowledge()
    scene.pass_time(1, 0.01)
    known = len(looks)
    scene.pass_time(5, 0.01)
    assert len(looks) == known, "what is known is not looked for"


def test_one_segment_that_acknowledges_and_asks_settles(scene: Scene) -> None:
    scene.say(PULL)
    # The request brings the acknowledgement, so no segment came beside it.
    scene.peer.outstanding = 0
    scene.say(KEY_REQUEST)
    assert settled(scene) == [SETTLED]


def test_a_request_that_overtakes_the_acknowledgement_settles_nothing(scene: Scene) -> None:
    scene.say(PULL)
    scene.say(KEY_REQUEST)
    assert not settled(scene)
    scene.peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST)
    assert settled(scene) == [SETTLED]


def test_bytes_of_a_request_that_was_begun_before_the_response_prove_nothing(scene: Scene) -> None:
    scene.say(encode(PULL) + KEY_REQUEST[:10])
    scene.peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST[10:])
    assert not settled(scene)
    scene.peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST)
    assert settled(scene) == [SETTLED]


@pytest.fixture
def record_peer() -> RecordTransport:
    return RecordTransport()


@pytest.fixture
def record_scene(record_peer: RecordTransport) -> Iterator[Scene]:
    yield from _with_mail(Scene(peer=record_peer))


def test_part_of_a_record_is_input_that_waits(record_scene: Scene, record_peer: RecordTransport) -> None:
    scene = record_scene
    scene.say(PULL)
    record_peer.say_part(KEY_REQUEST[:10])
    scene.turn()
    record_peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST[10:])
    assert not settled(scene), "it was begun before the acknowledgement"
    record_peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST)
    assert settled(scene) == [SETTLED]


def test_an_end_inside_a_record_releases(record_scene: Scene, record_peer: RecordTransport) -> None:
    scene = record_scene
    scene.say(PULL)
    record_peer.acknowledge()
    record_peer.say_part(KEY_REQUEST[:10])
    record_peer.end()
    scene.turn()
    assert settled(scene) == [Release(1)]
    assert record_peer.was_reset


def test_a_response_that_was_not_written_whole_is_released(scene: Scene) -> None:
    scene.peer.room = 10
    scene.say(PULL)
    scene.peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST)
    assert not settled(scene)
    scene.session.abort()
    assert settled(scene) == [Release(1)]


def test_a_response_that_was_written_in_parts_is_followed_from_its_last_byte(scene: Scene) -> None:
    scene.peer.room = 10
    scene.say(PULL)
    scene.peer.room = PLENTY
    scene.turn()
    scene.peer.acknowledge()
    scene.pass_time(0.5, 0.01)
    scene.say(KEY_REQUEST)
    assert settled(scene) == [SETTLED]


def test_an_empty_mailbox_leaves_nothing_to_follow(scene: Scene) -> None:
    scene.storage.decide = lambda _: Pulled(0, 0, 0, 0, NO_MAIL)
    scene.say(PULL)
    scene.session.abort()
    assert not settled(scene)
