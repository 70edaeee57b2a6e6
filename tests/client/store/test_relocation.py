"""A store changes to another server: in one commit, with a record of the account that was left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from client.store.home_store import Store
from client.store.relocation import LeftAccount, Relocation, left_account, note_deletion, relocate
from client.store.settings import ServerRow
from client.store.silenced import SilencedRow
from common.server_address import ServerAddress, parse_address
from common.values import ClientId, MessageKind, PublicKey, Token, Username

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ME, NEW_ME, BOB, CAROL = (ClientId(bytes([number]) * 16) for number in range(1, 5))
KEY = PublicKey(b"k" * 160)
OLD = ServerAddress("old.example.org", 1)
LEFT = LeftAccount(OLD, Username("alice"), ME, ServerRow(b"O" * 16, 3, 0), "new.example.org:2")
NEW = Relocation(
    Username("alice2"),
    NEW_ME,
    ServerRow(b"N" * 16, 9, 0),
    {"server_pins": "new", "request_version": None},
    {"my.info": "mine", "server.info": "new.example.org:2\n"},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    opened.server.remember(b"O" * 16, 3, 0)
    opened.contacts.replace_list([(BOB, "bob"), (CAROL, "carol")])
    opened.pins.add(ME, "alice", KEY, 1)
    opened.pins.add(BOB, "bob", KEY, 1)
    opened.pins.verify(BOB, KEY, 2)
    opened.silenced.block(BOB, blocked=True)
    opened.silenced.was_told(SilencedRow(BOB, True, False, 0), 3)
    opened.silenced.block(CAROL, blocked=True)
    opened.silenced.block(CAROL, blocked=False)
    for name in ("server_pins", "request_version", "watch_cursor"):
        opened.settings.put(name, "7")
    yield opened
    opened.close()


def test_what_is_of_the_server_changes_and_the_rest_stays(store: Store) -> None:
    relocate(store, NEW, LEFT, None)
    assert store.server.known() == NEW.server
    assert [store.settings.get(name) for name in ("server_pins", "request_version", "watch_cursor")] == [
        "new",
        None,
        "7",
    ]
    assert store.contacts.listed_as("bob") == []
    bob = store.pins.of_id(BOB)
    assert bob is not None
    assert bob.verified_at == 2
    # The new server is told of those who are blocked, and of nobody who was once.
    assert store.silenced.owed(9) == [SilencedRow(BOB, True, False, 0)]
    own = store.pins.of_id(NEW_ME)
    assert own is not None
    assert (own.name, store.pins.of_id(ME)) == ("alice2", None)
    assert store.database.rows("SELECT name, content FROM rewrite ORDER BY name") == sorted(NEW.files.items())
    assert left_account(store) == LEFT
    note_deletion(store, LEFT)
    assert left_account(store) == LEFT._replace(deleted=True)


def test_an_account_that_never_signed_in(store: Store) -> None:
    relocate(store, NEW._replace(server=None), LEFT, None)
    assert store.server.known() is None


def test_a_new_name_that_is_somebody_elses(store: Store) -> None:
    relocate(store, NEW._replace(name=Username("bob")), LEFT, None)
    found = store.pins.of_name("bob")
    assert found is not None
    assert (found.client_id, store.pins.of_id(ME)) == (BOB, None)


@pytest.mark.parametrize("sealed", [False, True])
def test_what_waits_is_set_aside(store: Store, sealed: bool) -> None:
    if sealed:
        with store.alone():
            store.sealing.seal_under("words", {})
    number = store.outbox.add(BOB, MessageKind.TEXT, 16, b"0" * 16, Token(os.urandom(16)), None, 1)
    relocate(store, NEW, LEFT, "the account moved")
    [(row, problem)] = store.outbox.failed()
    assert (row.number, row.content, problem) == (number, b"0" * 16, "the account moved")
    assert store.outbox.waiting_count() == 0


def test_nothing_changes_where_something_waits_and_nobody_says_why(store: Store) -> None:
    store.outbox.add(BOB, MessageKind.TEXT, 16, b"0" * 16, Token(os.urandom(16)), None, 1)
    with pytest.raises(AssertionError):
        relocate(store, NEW, LEFT, None)
    assert store.server.known() == LEFT.server
    assert store.outbox.waiting_count() == 1
    assert left_account(store) is None


@pytest.mark.parametrize("server", [None, ServerRow(b"S" * 16, 3, 0)], ids=["never signed in", "signed in"])
def test_the_note_is_read_as_it_was_written(server: ServerRow | None) -> None:
    address = parse_address(f"messageu://{'A' * 43}@[::1]:1357")
    note = LeftAccount(address, Username("Zoë"), ClientId(b"i" * 16), server, "new.example.org:1")
    for deleted in (False, True):
        assert LeftAccount.parse(note._replace(deleted=deleted).text()) == note._replace(deleted=deleted)
    for text in ("", "[]", "{}", "null", note.text().replace("messageu", "http"), note.text()[:-9]):
        assert LeftAccount.parse(text) is None
