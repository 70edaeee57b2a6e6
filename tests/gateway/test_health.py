"""The gateway's health: what makes it stuck, and what keeps it from being ready."""

from common.client_protocol.requests import ListUsersRequest
from gateway.event_loop import EventLoop
from gateway.health import Health
from tests.gateway.authenticated import ALICE
from tests.gateway.harness import Clock, Gate


class Link:
    """A link that says what a test says."""

    def __init__(self, now: float) -> None:
        self.answered_at = now
        self.is_joined = True
        self.idle = True


def test_live_and_ready() -> None:
    clock = Clock()
    loop = EventLoop(clock)
    link = Link(clock.time)
    health = Health(loop, link)

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            clock.time += 1
            loop.turn(0)

    pass_time(60)
    assert health.live_problem() is health.ready_problem() is None
    # Something is asked, and not answered.
    link.idle = False
    pass_time(4)
    assert health.ready_problem() is None
    pass_time(1)
    assert health.ready_problem() == "the storage worker has not answered for 5 s"
    assert health.live_problem() is None
    assert health.pages()["/ready"]().status == 503
    assert health.pages()["/live"]().status == 200
    link.answered_at = clock.time
    pass_time(4)
    assert health.ready_problem() is None
    link.is_joined = False
    assert health.ready_problem() == "the storage worker is not there"
    # The loop hangs.
    clock.time += 5
    assert health.live_problem() == health.ready_problem() == "the loop has not turned for 5 s"
    loop.turn(0)
    assert health.live_problem() is None
    loop.close()


def test_the_worker_is_there_once_it_has_greeted(gate: Gate) -> None:
    link = gate.link
    gate.turn_until(lambda: link.is_joined)
    answered_at = link.answered_at
    gate.pass_time(3, 1.0)
    assert link.answered_at == answered_at
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    assert peer.response()[0] == 2101
    assert link.answered_at > answered_at
    gate.storage.die()
    gate.turn_until(lambda: not link.is_joined)
