"""Pages wait for their turn: how much of them is on its way from the storage worker at once."""

import socket
import struct
from collections.abc import Callable

from common.client_protocol.requests import ListUsersRequest, PullRequest
from common.storage_protocol.operations import (
    Pull,
)
from gateway.settings import Settings
from tests.gateway.authenticated import ALICE
from tests.gateway.harness import Gate


def test_pages_wait_for_their_turn(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(page=1000, pages_in_flight=3000))
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.answering = False
    peers = [gate.peer() for _ in range(10)]
    for peer in peers:
        peer.send(PullRequest(ALICE))
    gate.turn_until(lambda: len(gate.context.sessions) == 10 and bool(gate.storage.held))
    gate.turns()
    gone = peers.pop(5)
    gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    for peer in peers:
        assert peer.response() == (2104, b"")
    assert max(len(batch.operations) for batch in gate.storage.batches) <= 3
    assert len(gate.storage.asked(Pull)) == 9


def test_lists_of_users_wait_for_their_turn_too(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(users_page=1000, pages_in_flight=3000))
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.answering = False
    peers = [gate.peer() for _ in range(10)]
    for peer in peers:
        peer.send(ListUsersRequest(ALICE))
    gate.turn_until(lambda: len(gate.context.sessions) == 10 and bool(gate.storage.held))
    gate.turns()
    gate.storage.answering = True
    gate.storage.answer(gate.storage.held[0])
    for peer in peers:
        assert peer.response() == (2101, b"")
    assert max(len(batch.operations) for batch in gate.storage.batches) <= 3
    assert gate.context.pages.in_flight == 0
