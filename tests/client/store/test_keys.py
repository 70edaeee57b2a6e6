from __future__ import annotations

from client.store.home_store import Store
from tests.client.store.mail import K1, K2, NOW, A, B


def test_keys_the_newest_first(store: Store) -> None:
    made = store.keys.add_made(A, K1, NOW)
    assert [row.usable for row in store.keys.of(A)] == [False]
    store.keys.confirm(made)
    store.keys.add_received(A, K2, NOW, message=5)
    assert [(row.key, row.usable) for row in store.keys.of(A)] == [(K2, True), (K1, True)]
    store.keys.drop(made)
    assert [row.key for row in store.keys.of(A)] == [K2]
    assert store.keys.of(B) == []


def test_a_key_that_is_received_twice_is_one(store: Store) -> None:
    store.keys.add_received(A, K1, NOW, message=5)
    store.keys.add_received(A, K2, NOW, message=6)
    store.keys.add_received(A, K1, NOW, message=5)
    assert [row.key for row in store.keys.of(A)] == [K2, K1]
