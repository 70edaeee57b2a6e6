"""Slow steps: a bounded number per turn, in their order, and what a failing one breaks."""

from gateway.connection.slow_steps import SlowSteps
from gateway.event_loop import EventLoop


class _Owner:
    """A connection that counts its ends."""

    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_a_turn_takes_a_bounded_number_in_order_and_the_next_comes_at_once() -> None:
    loop = EventLoop(lambda: 5.0)
    steps = SlowSteps(loop, 2)
    taken: list[int] = []
    for number in range(5):
        steps.add(_Owner(), lambda number=number: taken.append(number))  # type: ignore[misc]
    for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        # It would sleep for an hour where nothing was due.
        loop.turn(0 if len(taken) == 0 else 3600)
        assert taken == expected
    assert len(steps) == 0
    loop.close()


def test_a_step_that_fails_ends_its_owner_alone() -> None:
    loop = EventLoop(lambda: 5.0)
    steps = SlowSteps(loop, 2)
    broken, sound = _Owner(), _Owner()
    taken: list[int] = []
    steps.add(broken, lambda: taken.append(1 // 0))
    steps.add(sound, lambda: taken.append(1))
    loop.turn(0)
    assert (broken.aborted, sound.aborted, taken) == (1, 0, [1])
    loop.close()
