from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import OutcomeUnknown
from client.store.contacts import ContactRow
from client.store.home_store import Store
from tests.client.store.mail import A, B

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from common.values import ClientId


def test_who_is_listed(store: Store) -> None:
    store.contacts.replace_list([(A, "alice"), (B, "bob")])
    store.contacts.replace_list([(B, "robert")])
    assert [store.contacts.of_id(one) for one in (A, B)] == [
        ContactRow(A, "alice", False),
        ContactRow(B, "robert", True),
    ]
    assert [store.contacts.listed_as(name) for name in ("alice", "bob", "robert")] == [[], [], [B]]
    store.contacts.replace_list([(A, "robert"), (B, "robert")])
    assert store.contacts.listed_as("robert") == [A, B]
    assert store.contacts.names_near("bob", 5) == ["robert"]


def test_a_list_that_breaks_off_changes_nothing(store: Store) -> None:
    store.contacts.replace_list([(A, "alice")])

    def broken() -> Iterator[tuple[ClientId, str]]:
        yield (B, "bob")
        raise OutcomeUnknown("It broke off.", "Try again.")

    with pytest.raises(OutcomeUnknown):
        store.contacts.replace_list(broken())
    assert [store.contacts.listed_as(name) for name in ("alice", "bob")] == [[A], []]
    store.contacts.replace_list([(A, "alice")])
    assert store.contacts.of_id(B) is None


def test_another_process_writes_while_a_list_comes(store: Store, tmp_path: Path) -> None:
    def slow() -> Iterator[tuple[ClientId, str]]:
        yield (A, "alice")
        other = Store.open(tmp_path)
        other.settings.put("told", "meanwhile")
        other.close()
        yield (B, "bob")

    store.contacts.replace_list(slow())
    assert store.settings.get("told") == "meanwhile"
    assert store.contacts.listed_as("bob") == [B]
