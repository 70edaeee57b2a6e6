"""Connections that are being opened: their number, their time, their turns, what they hold."""

from collections.abc import Iterator

import pytest

from gateway.connection.openings import Openings
from gateway.settings import Settings
from tests.gateway.connection.memory_transport import Scene

SETTINGS = Settings(openings=3, openings_a_turn=2)


class Connection:
    """Something that is being opened. It needs `steps` of them."""

    authenticated_as = None

    def __init__(self, openings: Openings, network: str, steps: int = 1) -> None:
        self.openings = openings
        self.network = network
        self.steps = steps
        self.done = 0
        self.aborted = False
        openings.begin(self)

    def step(self) -> None:
        self.done += 1
        if self.done == self.steps:
            self.openings.ended(self)

    def abort(self) -> None:
        self.aborted = True
        self.openings.ended(self)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene(SETTINGS)
    yield scene
    scene.close()


@pytest.fixture
def openings(scene: Scene) -> Openings:
    return scene.context.openings


def pass_time(scene: Scene, seconds: float) -> None:
    scene.clock.time += seconds
    scene.loop.turn(0)


def aborted(connections: list[Connection]) -> list[bool]:
    return [connection.aborted for connection in connections]


def test_the_oldest_of_the_network_that_has_the_most_makes_room(scene: Scene, openings: Openings) -> None:
    found = []
    for network in ("one", "many", "many"):
        assert openings.make_room()
        found.append(Connection(openings, network))
        pass_time(scene, 0.1)
    assert not openings.make_room(), "nobody is here for a second"
    pass_time(scene, 1.0)
    assert openings.make_room()
    assert aborted(found) == [False, True, False]
    assert len(openings) == 2


def test_who_waits_for_us_is_not_ended(scene: Scene, openings: Openings) -> None:
    found = [Connection(openings, "many", steps=9) for _ in range(3)]
    pass_time(scene, 2.0)
    for connection in found:
        openings.wait(connection)
    assert not openings.make_room()
    assert aborted(found) == [False] * 3


def test_who_waits_for_room_hears_of_it_once(openings: Openings) -> None:
    found = [Connection(openings, "many") for _ in range(3)]
    heard: list[int] = []
    openings.when_there_is_room(lambda: heard.append(1))
    found[0].abort()
    found[1].abort()
    assert heard == [1]
    assert openings.make_room()


def test_one_turn_takes_so_many_steps_and_the_next_one_follows(scene: Scene, openings: Openings) -> None:
    found = [Connection(openings, "many") for _ in range(3)]
    for connection in found:
        openings.wait(connection)
    scene.loop.turn(0)
    assert [connection.done for connection in found] == [1, 1, 0]
    # Without any news: the loop does not sleep meanwhile.
    scene.loop.turn(60.0)
    assert [connection.done for connection in found] == [1, 1, 1]
    assert not len(openings)


def test_each_has_its_time_however_often_something_came(scene: Scene, openings: Openings) -> None:
    early = Connection(openings, "one", steps=99)
    pass_time(scene, 6.0)
    late = Connection(openings, "two", steps=99)
    for _ in range(5):
        openings.wait(early)
        pass_time(scene, 0.7)
    assert aborted([early, late]) == [False, False]
    pass_time(scene, 1.0)
    assert aborted([early, late]) == [True, False]
    pass_time(scene, 6.0)
    assert aborted([early, late]) == [True, True]
    again = Connection(openings, "one", steps=99)
    pass_time(scene, 9.9)
    assert aborted([again]) == [False]
    pass_time(scene, 0.2)
    assert aborted([again]) == [True]


def test_what_they_keep_counts_until_they_are_open_or_gone(scene: Scene, openings: Openings) -> None:
    first, second = Connection(openings, "one"), Connection(openings, "two")
    size = scene.context.holdings.size
    assert size > 0
    openings.wait(first)
    scene.loop.turn(0)
    assert scene.context.holdings.size == size // 2
    second.abort()
    second.abort()
    assert scene.context.holdings.size == 0


def test_a_bug_in_a_step_ends_that_one_alone(scene: Scene, openings: Openings) -> None:
    class Broken(Connection):
        def step(self) -> None:
            raise ZeroDivisionError

    broken, other = Broken(openings, "one"), Connection(openings, "one")
    for connection in (broken, other):
        openings.wait(connection)
    scene.loop.turn(0)
    assert broken.aborted
    assert other.done == 1


def test_one_that_is_gone_takes_no_step(scene: Scene, openings: Openings) -> None:
    connection = Connection(openings, "one")
    openings.wait(connection)
    connection.abort()
    scene.loop.turn(0)
    assert connection.done == 0
