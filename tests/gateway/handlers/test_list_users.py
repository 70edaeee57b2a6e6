"""601: a long list follows its reader, page by page."""

from common.client_protocol.requests import ListUsersRequest
from common.storage_protocol.operations import (
    ListUsers,
    Operation,
    Outcome,
    UserEntry,
    UsersPage,
)
from tests.gateway.authenticated import ALICE, BOB
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


def test_a_list_that_ends_in_a_bug_gives_its_page_back_once(gate: Gate) -> None:
    gate.storage.decide = lambda _: UsersPage(1, 1, 1, [UserEntry(BOB, "n\N{LATIN SMALL LETTER O WITH STROKE}")])
    peer = gate.peer()
    peer.send(ListUsersRequest(ALICE))
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert gate.context.pages.in_flight == 0
