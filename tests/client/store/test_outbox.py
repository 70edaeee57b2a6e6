"""The rows of the outbox: kept until the server has answered, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.store.sent import Outgoing
from common.values import MessageKind, PublicKey, Token
from tests.client.store.mail import K1, NOW, A, B

if TYPE_CHECKING:
    from client.store.home_store import Store
    from common.values import ClientId


def add(store: Store, content: bytes, recipient: ClientId = A, *, carries: int | None = None) -> int:
    token = Token(content.ljust(16, b"."))
    outgoing = Outgoing(content.decode(), None)
    return store.outbox.add(recipient, MessageKind.TEXT, len(content), content, token, carries, NOW, outgoing)


def waiting(store: Store) -> list[bytes | None]:
    return [row.content for row in store.outbox.waiting()]


def test_the_oldest_goes_first_and_stays_until_it_is_stored(store: Store) -> None:
    one, two = add(store, b"one"), add(store, b"two", B)
    assert waiting(store) == [b"one", b"two"]
    assert store.outbox.waiting_count() == 2
    store.outbox.stored(one, 7, NOW + 5)
    assert waiting(store) == [b"two"]
    assert not store.outbox.is_there(one)
    assert store.outbox.is_waiting(two)
    [first, second] = store.sent.all()
    assert (first.stored_at, first.message_id, first.waiting) == (NOW + 5, 7, False)
    assert (second.stored_at, second.message_id, second.waiting) == (None, None, True)


def test_what_is_added_while_others_are_sent_is_given_too(store: Store) -> None:
    add(store, b"one")
    rows = store.outbox.waiting()
    assert next(rows).content == b"one"
    add(store, b"two")
    assert [row.content for row in rows] == [b"two"]


def test_whether_the_server_may_have_it(store: Store) -> None:
    number = add(store, b"one")
    assert [row.tried_at for row in store.outbox.waiting()] == [None]
    store.outbox.trying(number, NOW + 1)
    assert [row.tried_at for row in store.outbox.waiting()] == [NOW + 1]
    store.outbox.surely_not_there(number)
    assert [row.tried_at for row in store.outbox.waiting()] == [None]


def test_what_is_refused_for_good_is_set_aside_with_its_reason(store: Store) -> None:
    key = store.keys.add_made(A, K1, NOW, PublicKey(b"k" * 160))
    number = add(store, b"one", carries=key)
    assert store.outbox.carrying(key) == next(store.outbox.waiting())
    store.outbox.set_aside(number, "The name is unknown.")
    assert waiting(store) == []
    assert store.outbox.carrying(key) is None
    [(row, problem)] = store.outbox.failed()
    assert (row.number, row.content, problem) == (number, b"one", "The name is unknown.")
    assert store.outbox.is_there(number)
    assert not store.outbox.is_waiting(number)
    assert [sent.problem for sent in store.sent.all()] == ["The name is unknown."]


def test_another_content_takes_the_place_of_one_that_waits(store: Store) -> None:
    add(store, b"one")
    row = next(store.outbox.waiting())
    changed = store.outbox.encrypted_anew(row, b"eno", 5)
    assert (changed.content, changed.under, changed.token) == (b"eno", 5, row.token)
    assert list(store.outbox.waiting()) == [changed]


def test_what_can_not_be_sent_again_is_possibly_lost_as_before(store: Store) -> None:
    store.server.remember(b"s" * 16, 1, NOW)
    number = add(store, b"one")
    store.outbox.returned(number, NOW)
    assert waiting(store) == []
    assert store.acknowledged.lost_count() == 1
    assert [sent.lost for sent in store.sent.all()] == [True]


def test_a_large_content_is_needed_until_it_is_stored(store: Store) -> None:
    spool = store.spools.new()
    spool.write(b"large")
    spool.keep()
    number = store.outbox.add(A, MessageKind.FILE, 5, spool.name, Token(bytes(16)), None, NOW)
    assert store.outbox.spooled() == [spool.name]
    store.outbox.stored(number, 1, NOW)
    assert store.outbox.spooled() == []
