"""Who is blocked or muted, what the server is to be told, and which of their messages are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.store.silenced import SilencedRow
from tests.client.store.mail import A, B, message, pull, unread

if TYPE_CHECKING:
    from client.store.home_store import Store


def test_blocked_and_muted_are_two_things(store: Store) -> None:
    silenced = store.silenced
    assert silenced.all() == []
    assert silenced.mute(A, muted=True)
    assert not silenced.mute(A, muted=True)
    assert silenced.block(B, blocked=True)
    assert not silenced.block(B, blocked=True)
    assert {(row.client_id, row.blocked, row.muted) for row in silenced.all()} == {(A, False, True), (B, True, False)}
    assert (silenced.is_silent(A), silenced.is_silent(B)) == (True, True)
    assert silenced.mute(A, muted=False)
    assert not silenced.is_silent(A)
    assert [row.client_id for row in silenced.all()] == [B]


def test_the_server_is_told_once_of_each_store_of_its(store: Store) -> None:
    silenced = store.silenced
    silenced.mute(A, muted=True)
    silenced.block(B, blocked=True)
    [owed] = silenced.owed(1)
    assert owed == SilencedRow(B, blocked=True, muted=False, told=0)
    silenced.was_told(owed, 1)
    assert silenced.owed(1) == []
    [again] = silenced.owed(2)
    silenced.was_told(again, 2)
    assert silenced.owed(2) == []
    silenced.block(B, blocked=False)
    assert silenced.all() == silenced.all()
    [owed] = silenced.owed(2)
    assert not owed.blocked
    silenced.was_told(owed, 2)
    assert silenced.owed(2) == silenced.owed(3) == []
    assert [row.client_id for row in silenced.all()] == [A]


def test_an_unblock_is_told_also_where_the_block_may_not_have_come(store: Store) -> None:
    store.silenced.block(A, blocked=True)
    store.silenced.block(A, blocked=False)
    assert [row.blocked for row in store.silenced.owed(1)] == [False]


def test_what_changed_meanwhile_is_told_again(store: Store) -> None:
    store.silenced.block(A, blocked=True)
    [owed] = store.silenced.owed(1)
    store.silenced.block(A, blocked=False)
    store.silenced.was_told(owed, 1)
    assert [row.blocked for row in store.silenced.owed(1)] == [False]


def test_nothing_of_a_blocked_sender_is_kept(store: Store) -> None:
    pull(store, message(1, b"before"))
    store.silenced.block(A, blocked=True)
    pull(store, message(2, b"meanwhile"))
    store.silenced.block(A, blocked=False)
    pull(store, message(3, b"after"))
    assert [content for content, _ in unread(store)] == [b"before", b"after"]
