from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.crypto.ciphers import SymmetricKey
from client.errors import NoPublicKey, NoSharedKey
from client.store.home_store import Store
from client.trust.contacts import Contact, Contacts
from common.values import ClientId, PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALICE = Contact(ClientId(b"a" * 16), "alice")
BOB = Contact(ClientId(b"b" * 16), "bob")
KEY = PublicKey(b"k" * 160)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def contacts(store: Store) -> Contacts:
    known = Contacts(store)
    known.take_list([ALICE, BOB])
    return known


def test_names_and_ids(contacts: Contacts) -> None:
    assert contacts.listed("bob") == BOB
    assert contacts.listed("Bob") is None
    assert contacts.name_of(BOB.client_id) == "bob"
    assert contacts.name_of(ClientId(b"x" * 16)) is None


def test_a_name_means_whom_the_last_list_says(contacts: Contacts) -> None:
    new_bob = Contact(ClientId(b"c" * 16), "bob")
    contacts.take_list([new_bob])
    assert contacts.listed("bob") == new_bob
    assert contacts.listed("alice") is None
    assert contacts.name_of(ALICE.client_id) == "alice"


@pytest.mark.parametrize(
    ("typed", "nearest"), [("bbo", ("bob",)), ("BOB", ("bob",)), ("Alic", ("alice",)), ("zzz", ())]
)
def test_the_nearest_names(contacts: Contacts, typed: str, nearest: tuple[str, ...]) -> None:
    error = contacts.unknown(typed)
    assert error.nearest == nearest
    assert all(name in error.advice for name in nearest)
    assert error.advice


def test_a_name_that_two_have_is_nobodys(contacts: Contacts) -> None:
    contacts.take_list([BOB, Contact(ClientId(b"c" * 16), "bob")])
    assert contacts.listed("bob") is None
    assert "more than once" in str(contacts.unknown("bob"))


def test_public_keys(contacts: Contacts, store: Store) -> None:
    with pytest.raises(NoPublicKey, match="bob"):
        contacts.public_key(BOB)
    store.pins.add(BOB.client_id, BOB.name, KEY, 1)
    assert contacts.public_key(BOB) == KEY


def test_the_key_to_send_with_is_one_that_the_other_has(contacts: Contacts, store: Store) -> None:
    with pytest.raises(NoSharedKey, match="bob") as caught:
        contacts.sending_key(BOB)
    assert "152" in caught.value.advice
    first, second = SymmetricKey(b"1" * 16), SymmetricKey(b"2" * 16)
    store.keys.confirm(store.keys.add_made(BOB.client_id, first, 1))
    store.keys.add_made(BOB.client_id, second, 2)
    assert contacts.sending_key(BOB).key == first
    assert contacts.decrypting_keys(BOB.client_id, 1) == [second, first]


def test_what_is_known_outlives_the_program(contacts: Contacts, store: Store) -> None:
    store.pins.add(BOB.client_id, BOB.name, KEY, 1)
    assert Contacts(store).public_key(BOB) == KEY
