from __future__ import annotations

from client.crypto.ciphers import SymmetricKey
from client.store.home_store import Store
from client.store.keys import MOST_BEFORE, MOST_BEHIND
from common.values import PublicKey
from tests.client.store.mail import K1, K2, NOW, A, B

KEY = PublicKey(b"k" * 160)


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


def test_near_a_message_are_few_keys_however_many_there_are(store: Store) -> None:
    """The ones before it, some behind it, and the newest."""
    keys = [SymmetricKey(number.to_bytes(16, "big")) for number in range(300)]
    for number, key in enumerate(keys):
        store.keys.add_received(A, key, NOW, message=2 * number + 1)
    # Message 200 came between key 99, which message 199 brought, and key 100.
    near = [row.key for row in store.keys.near(A, 200)]
    expected = [*keys[100 - MOST_BEFORE : 100 + MOST_BEHIND], *keys[-MOST_BEFORE:]]
    assert near == expected[::-1]
    assert [row.key for row in store.keys.near(A, 10_000)] == keys[-MOST_BEFORE:][::-1]
    assert [row.key for row in store.keys.newest(A, 2)] == [keys[299], keys[298]]
    assert store.keys.near(B, 200) == []


def test_the_newest_usable_key_is_found_behind_many_others(store: Store) -> None:
    made = store.keys.add_made(A, K1, NOW, KEY)
    store.keys.confirm(made)
    for number in range(100):
        store.keys.add_received(A, K2, NOW, message=number + 1)
    newest, sealed = store.keys.newest_usable(A, None), store.keys.newest_usable(A, KEY)
    assert newest is not None
    assert (newest.key, newest.made) == (K2, False)
    assert sealed is not None
    assert (sealed.number, sealed.key) == (made, K1)
    assert store.keys.newest_usable(A, PublicKey(bytes(160))) is None
    assert store.keys.newest_usable(B, None) is None
    assert store.keys.numbered(A, made) == sealed
    assert store.keys.numbered(B, made) is None
