"""Acknowledged messages: how many are kept, and which count as possibly lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.store.acknowledged import LONGEST_KEPT, MOST_KEPT
from common.values import ClientId, MessageKind, Token
from tests.client.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from client.store.home_store import Store


A = ClientId(b"A" * 16)
NOW_MS = int(NOW * 1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    from client.store.home_store import Store

    opened = Store.open(tmp_path)
    opened.server.remember(b"s" * 16, 1, NOW_MS)
    yield opened
    opened.close()


def acknowledge(store: Store, number: int, now: int = NOW_MS) -> int:
    token = Token(number.to_bytes(16, "big"))
    kept = store.outbox.add(A, MessageKind.KEY_REQUEST, 0, b"", token, None, now)
    store.outbox.stored(kept, 1, now)
    return kept


def test_the_newest_are_kept_and_what_is_marked_stays(store: Store) -> None:
    for number in range(5):
        acknowledge(store, number)
    assert store.server.remember(b"s" * 16, 2, NOW_MS) == 5
    for number in range(5, MOST_KEPT + 10):
        acknowledge(store, number)
    assert store.acknowledged.lost_count() == 5
    assert store.database.value("SELECT count(*) FROM acknowledged") == 5 + MOST_KEPT
    assert store.server.remember(b"s" * 16, 3, NOW_MS) == MOST_KEPT


def test_what_is_older_than_the_servers_tokens_is_not_marked(store: Store) -> None:
    acknowledge(store, 1, NOW_MS)
    acknowledge(store, 2, NOW_MS + 1)
    assert store.server.remember(b"s" * 16, 2, NOW_MS + LONGEST_KEPT + 1) == 1
    assert store.database.value("SELECT count(*) FROM acknowledged") == 1


def test_an_acknowledged_message_costs_the_same_behind_many(store: Store) -> None:
    """However many are kept, and however many are marked."""
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    store.database.connection.set_progress_handler(step, 1)

    def one(number: int) -> int:
        nonlocal steps
        steps = 0
        acknowledge(store, number)
        return steps

    for number in range(10):
        one(number)
    early = one(10)
    for number in range(11, MOST_KEPT + 100):
        one(number)
    store.server.remember(b"s" * 16, 2, NOW_MS)
    for number in range(MOST_KEPT + 100, 2 * MOST_KEPT + 300):
        one(number)
    assert one(2 * MOST_KEPT + 300) <= 2 * early
