"""An operator's requests to a gateway, received through its link."""

import logging

import pytest

from common.client_protocol.requests import ListUsersRequest
from common.storage_protocol.frames import Drain, LogLevel
from gateway.orders import Orders
from tests.gateway.authenticated import ALICE
from tests.gateway.harness import Gate


def test_a_level_of_the_log(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    Orders(gate.loop, gate.link)
    root = logging.getLogger()
    before = root.level
    try:
        gate.turn_until(lambda: gate.link.is_joined)
        for level in ("error", "debug"):
            gate.storage.say(LogLevel(level))
            gate.turn_until(lambda: root.level == getattr(logging, level.upper()))  # noqa: B023
            assert f"the log level is {level} now" in caplog.text
    finally:
        root.setLevel(before)
    assert gate.link.orders == []


def test_to_drain_ends_the_loop_and_once_is_enough(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Orders(gate.loop, gate.link)
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(lambda: bool(gate.storage.batches))
    gate.storage.say(Drain())
    gate.storage.say(Drain())
    gate.loop.run()
    assert caplog.text.count("draining, as the operator asked") == 1
    # The loop can still be turned: what is in flight is answered meanwhile.
    gate.turns()
    assert gate.link.idle
