"""The worker's health: its loop, and room for mail, which is looked for once a second."""

from storage_worker.server.health import Health


def test_live_and_ready() -> None:
    now = 50.0
    room = [True, False, True]

    def takes_mail() -> bool:
        return room.pop()

    health = Health(takes_mail, lambda: now)
    health.beat()
    assert health.ready_problem() is None
    now += 0.5
    health.beat()
    assert len(room) == 2, "not looked for again so soon"
    now += 0.5
    health.beat()
    assert health.ready_problem() == "there is no room for mail"
    assert health.live_problem() is None
    assert [health.pages()[path]().status for path in ("/live", "/ready")] == [200, 503]
    now += 1
    health.beat()
    assert health.ready_problem() is None
    now += 6
    assert health.live_problem() == health.ready_problem() == "the loop has not turned for 6 s"
