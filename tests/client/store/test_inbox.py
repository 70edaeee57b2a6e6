from __future__ import annotations

from client.store.home_store import Store
from client.store.inbox import MessageState
from tests.client.store.mail import K1, NOW, A, B, message, pull, unread


def test_messages_in_their_order(store: Store) -> None:
    assert pull(store, message(1, b"one"), message(2, b"two")) == 2
    assert pull(store, message(3, b"three")) == 1
    assert unread(store) == [(b"one", False), (b"two", False), (b"three", False)]
    assert store.inbox.next_unread(0) is None


def test_one_that_was_being_shown_is_repeated(store: Store) -> None:
    pull(store, message(1, b"one"), message(2, b"two"))
    row = store.inbox.next_unread(0)
    assert row is not None
    store.inbox.begin_showing(row.number, None)
    assert unread(store) == [(b"one", True), (b"two", False)]


def test_after_a_broken_pull_what_comes_again_is_passed_over(store: Store) -> None:
    pull(store, message(1, b"one"), message(2, b"two"), complete=False)
    pull(store, message(1, b"one"), complete=False)
    assert pull(store, message(1, b"one"), message(2, b"two"), message(3, b"three")) == 1
    assert unread(store) == [(b"one", False), (b"two", False), (b"three", False)]


def test_two_broken_pulls(store: Store) -> None:
    pull(store, message(1, b"one"), complete=False)
    pull(store, message(1, b"one"), message(2, b"two"), complete=False)
    assert pull(store, message(1, b"one"), message(2, b"two")) == 0
    assert len(unread(store)) == 2


def test_after_a_whole_pull_it_is_marked(store: Store) -> None:
    pull(store, message(1, b"one"))
    pull(store, message(1, b"one"))
    assert unread(store) == [(b"one", False), (b"one", True)]


def test_other_bytes_under_the_same_number_are_new(store: Store) -> None:
    pull(store, message(1, b"one"), complete=False)
    pull(store, message(1, b"uno"), message(2, b"one"), message(1, b"one", sender=B))
    assert unread(store) == [(b"one", False), (b"uno", False), (b"one", False), (b"one", False)]


def test_only_the_last_pull_can_come_again(store: Store) -> None:
    pull(store, message(1, b"one"))
    pull(store, message(2, b"two"))
    pull(store, message(1, b"one"))
    assert [repeated for _, repeated in unread(store)] == [False, False, False]


def test_an_empty_pull_changes_nothing_of_that(store: Store) -> None:
    pull(store, message(1, b"one"))
    pull(store)
    pull(store, message(1, b"one"))
    assert [repeated for _, repeated in unread(store)] == [False, True]


def test_the_unreadable_come_back_with_a_key(store: Store) -> None:
    pull(store, message(1, b"one"), message(2, b"two"), message(3, b"other", sender=B))
    for _ in range(3):
        row = store.inbox.next_unread(0)
        assert row is not None
        store.inbox.begin_showing(row.number, None)
        store.inbox.was_shown(row.number, readable=False)
    assert store.inbox.next_unread(0) is None
    store.keys.add_received(A, K1, NOW, message=9)
    first = store.inbox.next_unread(0)
    assert first is not None
    assert (first.content, first.late, first.repeated) == (b"one", True, False)
    assert len(unread(store)) == 2


def test_states_are_those_of_the_queries() -> None:
    # The queries and partial indexes have these numbers written out.
    assert [state.value for state in MessageState] == [0, 1, 2, 3]


def test_what_came_of_an_earlier_generation_acknowledges_nothing_of_the_next(store: Store) -> None:
    """Another process has met the next one while this one took in the rest of an answer."""
    store.server.remember(b"s" * 16, 1, NOW)
    store.server.remember(b"s" * 16, 2, NOW)
    store.inbox.add_fetched([message(9)._replace(token=bytes([9]) * 16)], NOW, 1)
    assert store.inbox.next_unread(0) is not None
    server = store.server.known()
    assert server is not None
    assert (server.generation, server.ack) == (2, 0)
    store.inbox.add_fetched([message(10)._replace(token=bytes([10]) * 16)], NOW, 2)
    server = store.server.known()
    assert server is not None
    assert server.ack == 10
