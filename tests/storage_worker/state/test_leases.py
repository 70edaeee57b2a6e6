"""Leases by name and by mailbox, and what a rolled back turn leaves of them."""

import pytest

from storage_worker.state.leases import Lease, Leases
from storage_worker.state.rollback import Rollback

ALICE, BOB = 1, 2

EARLY = Lease(4, 6, ALICE, 0, 1, False)
LATE = Lease(7, 9, ALICE, 0, 2, True)
OF_ANOTHER_SLOT = Lease(10, 12, ALICE, 5, 1, False)
OF_BOB = Lease(4, 9, BOB, 0, 3, False)
ALL = (LATE, OF_BOB, EARLY, OF_ANOTHER_SLOT)


@pytest.fixture
def undo() -> Rollback:
    return Rollback()


@pytest.fixture
def leases(undo: Rollback) -> Leases:
    """All four, taken in a turn that is committed."""
    made = Leases(undo)
    for lease in ALL:
        made.take(lease)
    undo.commit()
    return made


def picture(leases: Leases) -> tuple[int, list[Lease], list[Lease]]:
    return len(leases), list(leases.of_mailbox(ALICE)), list(leases.of_mailbox(BOB))


WHOLE = (4, [EARLY, LATE, OF_ANOTHER_SLOT], [OF_BOB])


def test_nothing_is_leased_at_first() -> None:
    leases = Leases(Rollback())
    assert picture(leases) == (0, [], [])
    assert leases.find(0, 1) is None


def test_a_mailbox_has_its_own_in_the_order_of_messages(leases: Leases) -> None:
    assert picture(leases) == WHOLE


def test_a_name_is_a_slot_and_a_number(leases: Leases) -> None:
    assert leases.find(0, 1) is EARLY
    assert leases.find(5, 1) is OF_ANOTHER_SLOT
    assert leases.find(0, 3) is OF_BOB
    assert leases.find(5, 3) is None


def test_the_end_of_one_is_no_other_ones(leases: Leases) -> None:
    leases.end(LATE)
    assert picture(leases) == (3, [EARLY, OF_ANOTHER_SLOT], [OF_BOB])
    assert leases.find(0, 2) is None
    leases.end(OF_BOB)
    assert picture(leases) == (2, [EARLY, OF_ANOTHER_SLOT], [])


def test_a_slot_ends_its_own_in_every_mailbox(leases: Leases) -> None:
    leases.end_slot(0)
    assert picture(leases) == (1, [OF_ANOTHER_SLOT], [])


def test_a_slot_without_leases_ends_nothing(leases: Leases) -> None:
    leases.end_slot(3)
    assert picture(leases) == WHOLE


def test_a_first_sign_in_ends_what_others_took_of_that_mailbox(leases: Leases) -> None:
    leases.end_unauthenticated(ALICE)
    assert picture(leases) == (1 + 1, [LATE], [OF_BOB])


def test_a_turn_that_is_rolled_back_leaves_no_trace(leases: Leases, undo: Rollback) -> None:
    leases.end(EARLY)
    again = Lease(5, 5, ALICE, 0, 1, True)
    leases.take(again)
    leases.end_slot(0)
    leases.take(Lease(1, 3, BOB, 0, 2, False))
    leases.end_unauthenticated(ALICE)
    assert picture(leases) == (1, [], [Lease(1, 3, BOB, 0, 2, False)])
    undo.roll_back()
    assert picture(leases) == WHOLE
    assert leases.find(0, 1) is EARLY
    assert leases.find(0, 2) is LATE


def test_what_was_committed_is_not_rolled_back_later(leases: Leases, undo: Rollback) -> None:
    leases.end(EARLY)
    undo.commit()
    leases.end(LATE)
    undo.roll_back()
    assert picture(leases) == (3, [LATE, OF_ANOTHER_SLOT], [OF_BOB])
