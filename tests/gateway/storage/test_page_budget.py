"""Pages wait for their turn: how much of them is on its way from the storage worker at once."""

import socket
import struct
from collections.abc import Callable
from typing import cast

import pytest

from common.client_protocol.requests import ListUsersRequest, PullRequest
from common.storage_protocol.operations import Operation, Outcome, Pull, Release
from gateway.settings import Settings
from gateway.storage.link import StorageLink, Waiter
from gateway.storage.page_budget import PageBudget
from tests.gateway.authenticated import ALICE
from tests.gateway.harness import Gate


class Link:
    """As much of the link as a budget uses: it keeps what is submitted."""

    def __init__(self) -> None:
        self.submitted: list[tuple[Operation, Waiter, int]] = []

    def submit(self, operation: Operation, waiter: Waiter, size: int = 0) -> None:
        self.submitted.append((operation, waiter, size))


class Reader:
    """Somebody who waits for pages."""

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """It is not told here."""

    def unknown(self, operation: Operation) -> None:
        """It is not told here."""


def page(number: int) -> Operation:
    """Any operation: the budget looks at sizes alone."""
    return Release(number)


class Asked:
    """A budget of 100 bytes, and what of it was submitted."""

    def __init__(self, most: int = 100) -> None:
        self.link = Link()
        self.budget = PageBudget(cast("StorageLink", self.link), Settings(pages_in_flight=most))

    def ask(self, *sizes: int) -> list[Reader]:
        """Ask for pages of these sizes, each for a reader of its own."""
        readers = [Reader() for _ in sizes]
        for reader, size in zip(readers, sizes, strict=True):
            self.budget.ask(page(size), reader, size)
        return readers

    def sizes(self) -> list[int]:
        return [size for _, _, size in self.link.submitted]


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_what_fits_is_asked_for_at_once_as_it_was_given(asked: Asked) -> None:
    first, second = asked.ask(60, 40)
    assert asked.link.submitted == [(page(60), first, 60), (page(40), second, 40)]
    assert asked.budget.in_flight == 100


def test_what_does_not_fit_waits_and_what_is_smaller_does_not_overtake_it(asked: Asked) -> None:
    asked.ask(60, 41, 1)
    assert asked.sizes() == [60]
    asked.budget.came(60)
    assert asked.sizes() == [60, 41, 1]
    assert asked.budget.in_flight == 42


def test_a_page_that_comes_lets_in_as_much_as_there_is_room_for(asked: Asked) -> None:
    asked.ask(50, 50, 30, 20, 1)
    assert asked.sizes() == [50, 50]
    asked.budget.came(50)
    assert asked.sizes() == [50, 50, 30, 20]
    assert asked.budget.in_flight == 100


def test_a_page_beyond_the_budget_goes_alone(asked: Asked) -> None:
    asked.ask(1, 1000, 1)
    assert asked.sizes() == [1]
    asked.budget.came(1)
    assert asked.sizes() == [1, 1000]
    asked.budget.came(1000)
    assert asked.sizes() == [1, 1000, 1]
    asked.budget.came(1)
    assert asked.budget.in_flight == 0


def test_who_has_gone_is_not_asked_for(asked: Asked) -> None:
    _, gone, _ = asked.ask(100, 70, 30)
    asked.budget.forget(gone)
    asked.budget.came(100)
    assert asked.sizes() == [100, 30]
    asked.budget.forget(gone)
    assert asked.budget.in_flight == 30


def test_what_was_submitted_for_somebody_who_has_gone_counts_until_it_came(asked: Asked) -> None:
    gone, _ = asked.ask(100, 50)
    asked.budget.forget(gone)
    assert (asked.sizes(), asked.budget.in_flight) == ([100], 100)
    asked.budget.came(100)
    assert (asked.sizes(), asked.budget.in_flight) == ([100, 50], 50)


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
