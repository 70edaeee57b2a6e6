"""Who was looked up is remembered, with what turns say of them, and not for ever."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import known_users
from storage_worker.engine.postgres.known_users import LOOK_EVERY_MS, KnownUsers
from storage_worker.engine.records import KeysPublished, SenderBlocked, SequenceUsed, UserSeen
from storage_worker.engine.values import KeyState, User

ALICE, BOB, CAROL = (User(row, bytes([row]) * 16, False, False, -1, False) for row in (1, 2, 3))


class Known(KnownUsers):
    """As the users of a shard use it."""

    def remember(self, *users: User) -> None:
        for user in users:
            assert self._remember(user) is user

    def note(self, *records: UserSeen | SenderBlocked | KeysPublished | SequenceUsed) -> None:
        for record in records:
            self._note(record)

    def leave(self, *rows: int) -> None:
        for row in rows:
            self._forget_row(row)

    def unknown(self, *users: User) -> list[bytes]:
        return self._unknown(user.client_id for user in users)

    def looks(self, *moments: int) -> list[bool]:
        return [self._looks_now(moment) for moment in moments]


def test_who_left_is_unknown_again() -> None:
    known = Known()
    known.remember(ALICE, BOB)
    assert known.unknown(ALICE, BOB, CAROL) == [CAROL.client_id]
    known.leave(ALICE.row, CAROL.row)
    assert known.unknown(ALICE, BOB) == [ALICE.client_id]


def test_what_a_turn_says_is_remembered_of_those_who_are_known() -> None:
    known = Known()
    known.remember(ALICE)
    for row in (ALICE.row, BOB.row):
        known.note(
            UserSeen(row, 5), SenderBlocked(row, 3, True), KeysPublished(row, 7, b"", b"", 0, b"", b""), SequenceUsed(1)
        )
    assert (ALICE.seen, ALICE.blocks, ALICE.keys) == (5, True, KeyState.KEPT)
    assert (BOB.seen, BOB.blocks, BOB.keys) == (-1, False, KeyState.NEVER)


def test_of_very_many_the_last_ones_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_users, "REMEMBERED", 2)
    known = Known()
    known.remember(ALICE, BOB, CAROL)
    assert known.unknown(ALICE, BOB, CAROL) == [ALICE.client_id, BOB.client_id]
    known.note(UserSeen(ALICE.row, 9))
    assert ALICE.seen != 9


def test_the_tables_are_looked_at_now_and_then() -> None:
    known = Known()
    assert known.looks(100, 101, 99 + LOOK_EVERY_MS) == [True, False, False]
    assert known.looks(100 + LOOK_EVERY_MS, 101 + LOOK_EVERY_MS) == [True, False]
    # A clock that was set back.
    assert known.looks(50) == [True]
    known.look_again()
    assert known.looks(51) == [True]
