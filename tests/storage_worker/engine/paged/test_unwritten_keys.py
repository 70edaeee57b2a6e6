"""Published keys in the log of turns: what is applied to which row of the tables."""

from __future__ import annotations

import pytest

from storage_worker.engine.paged import unwritten_keys
from storage_worker.engine.paged.unwritten_keys import UnwrittenKeys
from storage_worker.engine.records import KeysPublished, OneTimeKeyClaimed, SequenceUsed
from storage_worker.engine.values import PublishedKeys

KEY = bytes(96)
OLD = PublishedKeys(b"old bundle", b"old", 7, KEY * 2)
REMOVED = PublishedKeys(b"", b"removed", 0, b"")


class Table(UnwrittenKeys):
    """A table as a dictionary."""

    def __init__(self) -> None:
        super().__init__(7)
        self.rows: dict[int, PublishedKeys] = {}

    def _in_table(self, user: int) -> PublishedKeys | None:
        return self.rows.get(user)

    def look_again(self) -> None:
        self._drop_removed({user: row.digest for user, row in self.rows.items()})


def published(digest: bytes, follows: bytes, dropped: int = 0) -> KeysPublished:
    return KeysPublished(1, 7, b"new bundle", digest, dropped, KEY, follows)


def test_a_publication_comes_on_top_of_what_it_follows() -> None:
    keys = Table()
    keys.replay(published(b"first", b""))
    assert keys.find(1) == PublishedKeys(b"new bundle", b"first", 7, KEY)
    keys.replay(published(b"second", b"first"))
    assert keys.find(1) == PublishedKeys(b"new bundle", b"second", 7, KEY * 2)
    assert keys.unwritten[1].row == b""
    keys.replay(SequenceUsed(3))
    keys.forget()
    assert keys.find(1) is None


def test_one_that_follows_something_else_is_not_applied() -> None:
    keys = Table()
    keys.rows[1] = REMOVED
    keys.replay(published(b"first", b"old"))
    keys.replay(OneTimeKeyClaimed(1))
    assert keys.find(1) == REMOVED
    assert not keys.unwritten


def test_what_is_removed_beside_the_worker_is_forgotten_and_nothing_else() -> None:
    keys = Table()
    keys.rows[1] = keys.rows[2] = OLD
    for user in (1, 2):
        keys.replay(OneTimeKeyClaimed(user))
    keys.rows[1] = REMOVED
    keys.look_again()
    assert keys.find(1) == REMOVED
    assert keys.find(2) == OLD._replace(one_time_keys=KEY)
    assert keys.counts() == {2: 1}
    keys.replay(published(b"first", b"removed"))
    keys.look_again()
    assert keys.find(1) == PublishedKeys(b"new bundle", b"first", 7, KEY)


def test_many_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwritten_keys, "MOST_UNWRITTEN", 2)
    keys = Table()
    keys.rows[1] = keys.rows[2] = OLD
    due: list[bool] = []
    for user in (1, 2):
        keys.replay(OneTimeKeyClaimed(user))
        due.append(keys.is_due)
    keys.forget()
    due.append(keys.is_due)
    assert due == [False, True, False]
