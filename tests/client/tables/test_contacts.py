from __future__ import annotations

from client.store import Store
from tests.client.tables.mail import A, B


def test_who_is_listed(store: Store) -> None:
    store.contacts.replace_list([(A, "alice"), (B, "bob")])
    store.contacts.replace_list([(B, "robert")])
    assert store.contacts.all() == [(A, "alice", False), (B, "robert", True)]
