"""601: a long list follows its reader, page by page."""

import pytest

from common.client_protocol.requests import ListUsersRequest
from common.storage_protocol.operations import (
    ListUsers,
    Operation,
    Outcome,
    Refused,
    UserEntry,
    UsersPage,
)
from common.values import RefusalReason
from tests.gateway.authenticated import ALICE, BOB, greet
from tests.gateway.harness import Gate


def test_a_list_goes_on_when_the_page_before_was_read(gate: Gate) -> None:
    users = [UserEntry(number.to_bytes(16, "little"), f"user {number}") for number in range(20_000)]

    def decide(operation: Operation) -> Outcome:
        assert isinstance(operation, ListUsers)
        page = users[operation.after : operation.after + 2000]
        return UsersPage(len(users), operation.after + len(page), len(users), page)

    gate.storage.decide = decide
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(lambda: gate.context.holdings.size > 100_000)
    asked = len(gate.storage.operations)
    gate.turns(50)
    assert len(gate.storage.operations) == asked
    code, payload = peer.response()
    assert (code, len(payload)) == (2101, 271 * 20_000)
    assert payload[-271:-255] == users[-1].client_id


def test_a_list_that_ends_in_a_bug_gives_its_page_back_once(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.handlers.list_users.encode_users", lambda *_, **_more: 1 // 0)
    gate.storage.decide = lambda _: UsersPage(1, 1, 1, [UserEntry(BOB, "name")])
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert gate.context.pages.in_flight == 0


def test_a_name_beyond_ascii_is_listed_in_ascii_where_nobody_greeted(gate: Gate) -> None:
    users = [UserEntry(BOB, "Zoë"), UserEntry(ALICE, "alice")]
    gate.storage.decide = lambda _: UsersPage(2, 2, 2, users)
    peer = gate.peer()
    listed = []
    for say_hello in (False, True):
        if say_hello:
            greet(peer)
        peer.send(ListUsersRequest(ALICE))
        code, payload = peer.response()
        assert (code, len(payload)) == (2101, 2 * 271)
        listed.append([payload[at + 16 : at + 271].rstrip(b"\0").decode() for at in (0, 271)])
    assert listed == [["xn--Zo-ija", "alice"], ["Zoë", "alice"]]


@pytest.mark.parametrize(
    "second",
    [
        UsersPage(0, 4, 4, [UserEntry(BOB, "three")]),
        UsersPage(0, 4, 4, []),
        UsersPage(0, 4, 4, [UserEntry(BOB, "three"), UserEntry(BOB, "four"), UserEntry(BOB, "five")]),
        Refused(RefusalReason.REQUESTER_UNKNOWN),
        Refused(RefusalReason.PROOF_NEEDED),
        Refused(RefusalReason.DISABLED),
    ],
    ids=["one was deleted", "all were deleted", "too many", "who asks was deleted", "signed in elsewhere", "disabled"],
)
def test_a_list_that_its_length_no_longer_fits_ends_with_a_reset(gate: Gate, second: Outcome) -> None:
    first = UsersPage(4, 2, 4, [UserEntry(BOB, "one"), UserEntry(BOB, "two")])
    outcomes = [first, second]
    gate.storage.decide = lambda _: outcomes.pop(0)
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert not outcomes
    assert gate.context.pages.in_flight == 0
