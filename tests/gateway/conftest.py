"""A gateway with a scripted storage for each test that asks for one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.gateway.authenticated import knows_alice, prove
from tests.gateway.harness import Gate, Peer


@pytest.fixture
def make_gate(tmp_path: Path) -> Iterator[Callable[[Settings], Gate]]:
    gates: list[Gate] = []

    def make(settings: Settings) -> Gate:
        gates.append(Gate(tmp_path, settings))
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate: Callable[[Settings], Gate]) -> Gate:
    gate = make_gate(Settings())
    gate.turn_until(lambda: gate.link.facts is not None)
    return gate


@pytest.fixture
def authenticated(gate: Gate) -> Peer:
    gate.storage.decide = knows_alice
    peer = gate.peer()
    prove(peer)
    gate.storage.operations.clear()
    return peer
