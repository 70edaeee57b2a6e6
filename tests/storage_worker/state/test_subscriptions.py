"""Which gateways are notified of mail in which mailboxes, once; a rolled back turn leaves
no trace.
"""

import pytest

from storage_worker.state.rollback import Rollback
from storage_worker.state.subscriptions import Subscriptions

ALICE, BOB, CAROL = b"a" * 16, b"b" * 16, b"c" * 16
ROW = {ALICE: 1, BOB: 2, CAROL: 3}


@pytest.fixture
def undo() -> Rollback:
    return Rollback()


@pytest.fixture
def watched(undo: Rollback) -> Subscriptions:
    """Slot 0 watches alice and bob, slot 5 bob."""
    made = Subscriptions(undo)
    made.add(ROW[BOB], BOB, 0)
    made.add(ROW[ALICE], ALICE, 0)
    made.add(ROW[BOB], BOB, 5)
    undo.commit()
    return made


EVERYBODY = list(ROW.values())


def test_nobody_watches_at_first() -> None:
    nobody = Subscriptions(Rollback())
    assert len(nobody) == 0
    assert nobody.use_up(EVERYBODY) == {}


def test_each_slot_hears_of_what_it_watches(watched: Subscriptions) -> None:
    assert len(watched) == 2
    assert watched.use_up([ROW[CAROL], ROW[BOB], ROW[ALICE], ROW[BOB]]) == {0: [ALICE, BOB], 5: [BOB]}


def test_a_hint_uses_up_what_it_names_and_no_more(watched: Subscriptions) -> None:
    assert watched.use_up([ROW[ALICE]]) == {0: [ALICE]}
    assert watched.use_up([ROW[ALICE]]) == {}
    assert watched.use_up(EVERYBODY) == {0: [BOB], 5: [BOB]}
    assert len(watched) == 0


def test_to_watch_twice_is_one_hint(watched: Subscriptions) -> None:
    watched.add(ROW[ALICE], ALICE, 0)
    assert watched.use_up(EVERYBODY) == {0: [ALICE, BOB], 5: [BOB]}


def test_the_end_of_a_slot_is_no_other_ones(watched: Subscriptions) -> None:
    watched.end_slot(0)
    assert len(watched) == 1
    assert watched.use_up(EVERYBODY) == {5: [BOB]}


def test_a_turn_that_is_rolled_back_leaves_no_trace(watched: Subscriptions, undo: Rollback) -> None:
    watched.add(ROW[CAROL], CAROL, 0)
    watched.add(ROW[ALICE], ALICE, 5)
    watched.end_slot(0)
    watched.add(ROW[BOB], BOB, 0)
    undo.roll_back()
    assert len(watched) == 2
    assert watched.use_up(EVERYBODY) == {0: [ALICE, BOB], 5: [BOB]}


def test_a_deleted_user_is_told_of_once_and_not_after_a_rollback(watched: Subscriptions, undo: Rollback) -> None:
    watched.end_user(ROW[CAROL])
    watched.end_user(ROW[BOB])
    undo.commit()
    watched.end_user(ROW[ALICE])
    undo.roll_back()
    assert watched.take_ended() == {0: [BOB], 5: [BOB]}
    assert watched.take_ended() == {}
    assert watched.watched() == [(ROW[ALICE], ALICE)]
    assert watched.use_up(EVERYBODY) == {0: [ALICE]}


def test_what_was_watched_before_stays_where_it_is_asked_for_again_and_rolled_back(
    watched: Subscriptions, undo: Rollback
) -> None:
    watched.add(ROW[ALICE], ALICE, 0)
    undo.roll_back()
    assert watched.use_up([ROW[ALICE]]) == {0: [ALICE]}
