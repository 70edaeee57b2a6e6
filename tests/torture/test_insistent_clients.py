"""What the clients of the drill of deaths do reaches the points that the drill arms."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from common.fail_points import FailPoint
from torture.deaths_at_points import Reviver, cases
from torture.insistent_clients import SMALL, Clients
from torture.programs import Server, wait_until

if TYPE_CHECKING:
    from pathlib import Path

_CASES = {(case.point, case.concern): case for case in cases()}


@pytest.mark.parametrize("point", [FailPoint.WORKER_BEFORE_COMMIT, FailPoint.GATEWAY_ANSWERED])
def test_a_big_endian_client_reaches_the_messages_that_travel_one_by_one(tmp_path: Path, point: FailPoint) -> None:
    case = _CASES[point, "StoreMessage"]
    with Server(tmp_path / "server").start() as server:
        clients = Clients(server.port)

        def reach() -> bool:
            for step in case.steps:
                step(clients)
            return reviver.done

        program = server.worker if point is FailPoint.WORKER_BEFORE_COMMIT else server.gateway
        with Reviver(program, case.setting, 1, random.Random(1)) as reviver:
            wait_until(reach, f"a death at {case.setting}")
        server.await_ready()
        clients.write_big_endian(SMALL)
        clients.check(case.setting)
        clients.close()
    assert clients.problems == []
    assert clients.acknowledged[-1] == clients.attempted[-1]
    assert clients.verdict().received >= len(clients.acknowledged)
