"""Which connection is closed when there is no room for another one."""

import errno
import socket
from collections.abc import Callable
from typing import NoReturn

import pytest

from common.client_protocol.requests import PublicKeyRequest, encode
from common.values import ClientId
from gateway.connection.capacity import Capacity
from gateway.event_loop import EventLoop
from gateway.settings import Settings
from tests.gateway.connection.fake_connection import FakeConnection
from tests.gateway.harness import Clock, Gate

KEY = encode(PublicKeyRequest(ClientId(b"a" * 16), ClientId(b"b" * 16)))


class Occupant(FakeConnection):
    def __init__(self, occupants: set["Occupant"], idle_since: float | None) -> None:
        super().__init__(idle_since=idle_since)
        self.occupants = occupants
        occupants.add(self)

    def abort(self) -> None:
        super().abort()
        self.occupants.discard(self)


class Scene:
    """32 places, of which two are kept."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = EventLoop(self.clock)
        self.occupants: set[Occupant] = set()
        self.places = Capacity(self.loop, Settings(connections=32), self.occupants)

    def come(self, idle_since: float | None) -> Occupant | None:
        if not self.places.make_one():
            return None
        occupant = Occupant(self.occupants, idle_since)
        self.places.taken(occupant)
        return occupant

    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds
        self.loop.turn(0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_while_there_are_places_nobody_goes(scene: Scene) -> None:
    occupants = [scene.come(0.0) for _ in range(30)]
    assert all(one is not None and not one.closed for one in occupants)


def test_the_longest_idle_makes_room(scene: Scene) -> None:
    occupants = [scene.come(float(100 - number)) for number in range(30)]
    for expected in reversed(occupants):
        assert scene.come(999.9) is not None
        assert expected is not None
        assert expected.closed
    assert len(scene.occupants) == 30


def test_who_said_something_meanwhile_stays(scene: Scene) -> None:
    occupants = [scene.come(float(number)) for number in range(30)]
    scene.come(999.9)
    assert occupants[0] is not None
    assert occupants[0].closed
    assert occupants[1] is not None
    occupants[1].idle_since = 999.9
    scene.come(999.9)
    assert not occupants[1].closed
    assert occupants[2] is not None
    assert occupants[2].closed


def test_where_nobody_is_idle_a_kept_place_is_for_who_proves_itself(scene: Scene) -> None:
    for _ in range(30):
        scene.come(None)
    honest, villain = scene.come(None), scene.come(None)
    assert honest is not None
    assert villain is not None
    assert scene.come(None) is None, "and then the rest waits"
    honest.authenticated_as = b"h" * 16
    scene.pass_time(4.9)
    assert not villain.closed
    scene.pass_time(0.2)
    assert villain not in scene.occupants
    assert honest in scene.occupants
    assert scene.come(None) is not None
    scene.pass_time(5.1)
    assert len(scene.occupants) == 31


def test_a_kept_place_is_an_ordinary_one_once_there_is_room(scene: Scene) -> None:
    others = [scene.come(None) for _ in range(30)]
    late = scene.come(None)
    assert others[0] is not None
    others[0].abort()
    scene.pass_time(6)
    assert late is not None
    assert not late.closed


def test_idle_strangers_lock_nobody_out(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(connections=4))
    gate.turn_until(lambda: gate.link.facts is not None)
    idle = [gate.peer() for _ in range(4)]
    gate.turn_until(lambda: len(gate.context.sessions) == 4)
    gate.pass_time(2)
    for _ in range(8):
        newcomer = gate.peer()
        newcomer.send(KEY)
        assert newcomer.response()[0] == 2102
        gate.pass_time(2)
    assert all(peer.is_ended() for peer in idle)
    assert len(gate.context.sessions) == 4


def test_who_proves_himself_on_every_connection_locks_nobody_out(scene: Scene) -> None:
    """The user with the most loses those that were silent the longest, and nobody else any."""
    occupants = [scene.come(None) for _ in range(32)]
    for number, one in enumerate(occupants):
        assert one is not None
        one.authenticated_as = bytes([number % 8 == 0]) * 16
        one.parked_since = float(100 - number)
    villains = [one for one in occupants if one is not None and one.authenticated_as == bytes(16)]
    for expected in villains[:-6:-1]:
        assert scene.come(None) is not None
        assert expected.closed
    assert sum(one is not None and one.closed for one in occupants) == 5


def test_what_an_authenticated_user_has_done_for_it_stays(scene: Scene) -> None:
    occupants = [scene.come(None) for _ in range(32)]
    for one in occupants:
        assert one is not None
        one.authenticated_as = b"p" * 16
    assert scene.come(None) is None
    assert not any(one is None or one.closed for one in occupants)


def test_of_authenticated_connections_the_longest_silent_makes_room(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(connections=2))
    gate.turn_until(lambda: gate.link.facts is not None)
    first, second = gate.peer(), gate.peer()
    gate.turn_until(lambda: len(gate.context.sessions) == 2)
    for one in gate.context.sessions:
        one.authenticated_as = b"p" * 16
    waiting = gate.peer()
    waiting.send(KEY)
    gate.turns()
    assert waiting.received == b"", "nobody has been silent for long"
    gate.pass_time(0.6)
    second.send(KEY)
    assert second.response()[0] == 9000, "it is another user's"
    gate.pass_time(0.6)
    assert waiting.response()[0] == 2102
    assert first.is_ended()
    assert not second.is_ended()
    assert all(one.idle_since is None for one in gate.context.sessions if one.authenticated_as is not None)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.EMFILE])
def test_a_connection_that_can_not_be_accepted_ends_nobody(
    make_gate: Callable[[Settings], Gate], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Whatever it fails for, accept(2) names many reasons, those that are there go on."""
    gate = make_gate(Settings())
    gate.turn_until(lambda: gate.link.facts is not None)
    present = gate.peer()
    gate.turn_until(lambda: len(gate.context.sessions) == 1)

    def fail(_: socket.socket) -> NoReturn:
        raise OSError(code, "no")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", fail)
        gate.peer()
        gate.turns()
    present.send(KEY)
    assert present.response()[0] == 2102
    gate.pass_time(1)
    gate.turn_until(lambda: len(gate.context.sessions) == 2)
