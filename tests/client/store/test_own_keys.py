"""This account's own keys of cipher suite 1, as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import CipherError
from client.store.own_keys import OwnKeysRow
from tests.client.store.mail import A, B

if TYPE_CHECKING:
    from client.store.home_store import Store


def test_the_newest_state_is_kept(store: Store) -> None:
    assert store.own_keys.get() is None
    first = OwnKeysRow(A, b"state")
    second = OwnKeysRow(B, b"another", b"s" * 16, 3)
    for row in (first, second):
        with store.database.transaction():
            store.own_keys.put(row)
        assert store.own_keys.get() == row
    assert store.database.value("SELECT count(*) FROM own_keys") == 1


def test_under_a_passphrase_it_is_sealed_and_an_altered_one_is_not_believed(store: Store, cheap: None) -> None:
    with store.database.transaction():
        store.own_keys.put(OwnKeysRow(A, b"a secret state"))
    store.sealing.seal_under("pass", {})
    assert store.own_keys.get() == OwnKeysRow(A, b"a secret state")
    stored = store.database.value("SELECT state FROM own_keys")
    assert isinstance(stored, bytes)
    assert b"secret" not in stored
    with store.database.transaction():
        store.database.run("UPDATE own_keys SET state = ?", stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(CipherError):
        store.own_keys.get()
