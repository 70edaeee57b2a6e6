"""One budget for all that is in flight: it is kept, and the connection that made no progress for
the longest time is closed for it.
"""

import struct
from collections.abc import Callable

import pytest

from common.client_protocol.requests import (
    HelloRequest,
    ListUsersRequest,
    PublicKeyRequest,
    PullRequest,
    SendRequest,
    encode,
)
from common.storage_protocol.operations import ListUsers, Operation, Outcome, UserEntry, UsersPage
from common.values import ClientId
from gateway.connection.memory_budget import MemoryBudget
from gateway.settings import Settings
from tests.gateway.connection.fake_connection import FakeConnection
from tests.gateway.fake_storage import default_decision
from tests.gateway.harness import Gate

ALICE = ClientId(b"a" * 16)
BOB = ClientId(b"b" * 16)
BUDGET = 2 * 1024 * 1024
KEY = encode(PublicKeyRequest(ALICE, BOB))
HALF_FRAME = encode(SendRequest(ALICE, BOB, 3, bytes(65_000)))[:-1]
HALF_UPLOAD = encode(SendRequest(ALICE, BOB, 4, bytes(1_000_000)))[: 250 * 1024]


@pytest.fixture
def small(make_gate: Callable[[Settings], Gate]) -> Gate:
    gate = make_gate(Settings(total_in_flight=BUDGET))
    gate.turn_until(lambda: gate.link.facts is not None)
    return gate


@pytest.mark.parametrize(("half", "most"), [(HALF_FRAME, 40), (HALF_UPLOAD, 12)])
def test_halves_of_requests_keep_to_the_budget(small: Gate, half: bytes, most: int) -> None:
    innocent = small.peer()
    villains = []
    for _ in range(most):
        villain = small.peer()
        villain.send(half)
        small.turns(3)
        villains.append(villain)
        assert small.context.holdings.size + small.link.bytes_in_flight <= BUDGET
        innocent.send(KEY)
        assert innocent.response()[0] == 2102
    assert villains[0].is_ended(), "the one that has waited the longest is closed"
    assert villains[0].reset, "and not told that anything was or was not done"
    assert not villains[-1].is_ended()
    held = small.context.holdings.size
    assert held > BUDGET // 2
    for villain in villains:
        villain.close()
    small.turn_until(lambda: len(small.context.sessions) == 1)
    assert small.context.holdings.size == 0


def test_who_does_not_read_is_closed_and_nobody_else_notices(make_gate: Callable[[Settings], Gate]) -> None:
    budget = 16 * 1024 * 1024
    gate = make_gate(Settings(total_in_flight=budget))
    gate.turn_until(lambda: gate.link.facts is not None)
    users = [UserEntry(number.to_bytes(16, "little"), f"user {number}") for number in range(20_000)]

    def decide(operation: Operation) -> Outcome:
        return UsersPage(200_000, 1, 10, users) if isinstance(operation, ListUsers) else default_decision(operation)

    gate.storage.decide = decide
    innocent = gate.peer()
    villains = []
    for _ in range(8):
        villain = gate.peer()
        villain.sock.setsockopt(6, 10, 1)  # TCP_WINDOW_CLAMP
        villain.send(ListUsersRequest(ALICE))
        villains.append(villain)
        innocent.send(KEY)
        assert innocent.response()[0] == 2102
        gate.turns(3)
        assert gate.context.holdings.size + gate.link.bytes_in_flight <= budget
    gate.turn_until(lambda: len(gate.context.sessions) < 9)
    assert not innocent.is_ended()
    innocent.send(KEY)
    assert innocent.response()[0] == 2102


def test_single_bytes_of_an_upload_count_as_what_they_take(gate: Gate) -> None:
    peer = gate.peer()
    peer.send(HALF_UPLOAD[:-2000])
    gate.turns()
    before = gate.context.holdings.size
    for at in range(200):
        peer.send(HALF_UPLOAD[-2000 + at : -1999 + at])
        gate.turn()
        gate.turn()
    assert gate.context.holdings.size > before + 200 * 50


class Holder(FakeConnection):
    def __init__(
        self, holdings: MemoryBudget, name: str, gone: list[str], authenticated_as: bytes | None = None
    ) -> None:
        super().__init__(authenticated_as=authenticated_as)
        self.holdings, self.name, self.gone = holdings, name, gone
        self.holds = 0

    def hold(self, size: int) -> None:
        before, self.holds = self.holds, size
        self.holdings.changed(self, before, size)

    def abort(self) -> None:
        self.gone.append(self.name)
        self.hold(0)


def test_the_authenticated_go_last_and_whoever_goes_on_goes_later(small: Gate) -> None:
    gone: list[str] = []
    holdings = MemoryBudget(small.loop, small.link, Settings(total_in_flight=100))
    authenticated, first, second, third = [
        Holder(holdings, name, gone, b"p" if name == "authenticated" else None)
        for name in ("authenticated", "first", "second", "third")
    ]
    for holder in (authenticated, first, second, third):
        holder.hold(25)
    holdings.keep_to_budget()
    assert gone == []
    holdings.went_on(first)
    third.hold(40)
    holdings.keep_to_budget()
    assert gone == ["second"]
    third.hold(200)
    holdings.keep_to_budget()
    assert gone == ["second", "third"], "who holds more has not gone on"
    first.hold(30)
    first.hold(29)
    authenticated.hold(99)
    holdings.keep_to_budget()
    assert gone == ["second", "third", "first"]
    authenticated.hold(101)
    holdings.keep_to_budget()
    assert gone[-1] == "authenticated"
    assert holdings.size == 0


def test_hellos_before_the_first_greeting_leave_nothing(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings())
    gate.storage.welcoming = False
    for _ in range(20):
        peer = gate.peer()
        peer.send(HelloRequest(ALICE, 1, 0))
        gate.turn_until(lambda: gate.context.waiters.awaiting_greeting == 1)
        peer.sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset
        peer.close()
        gate.turn_until(lambda: not gate.context.sessions)
        assert not gate.context.waiters.awaiting_greeting


def test_fetches_that_wait_for_a_page_leave_nothing(make_gate: Callable[[Settings], Gate]) -> None:
    gate = make_gate(Settings(page=1000, pages_in_flight=1000))
    gate.turn_until(lambda: gate.link.facts is not None)
    gate.storage.answering = False
    for _ in range(10):
        peer = gate.peer()
        peer.send(PullRequest(ALICE))
        peer.send(ListUsersRequest(ALICE))
        gate.turns(5)
        peer.sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
        peer.close()
        gate.turn_until(lambda: not gate.context.sessions)
    assert gate.context.pages.waiting == 0
    assert gate.context.pages.in_flight == 1000
