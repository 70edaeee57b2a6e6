"""Who has shown keys of cipher suite 1, as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.store.home_store import Store
from client.suite1.values import Identity
from tests.client.store.mail import NOW, A, B, message, pull

if TYPE_CHECKING:
    from pathlib import Path

ONE = Identity(b"1" * 32, b"2" * 32)
OTHER = Identity(b"3" * 32, b"4" * 32)


def test_the_first_identity_stays(store: Store) -> None:
    pull(store, message(1), message(2))
    assert not store.peers.is_known(A)
    with store.database.transaction():
        assert store.peers.add(A, ONE, NOW)
        assert not store.peers.add(A, OTHER, NOW + 1)
        store.peers.put_state(A, b"state")
    row = store.peers.of_id(A)
    assert row is not None
    assert (row.identity, row.since, row.after, row.state, row.verified_at, row.offered) == (
        ONE, NOW, 2, b"state", None, None,
    )  # fmt: skip
    assert store.peers.is_known(A)
    assert [one.client_id for one in store.peers.all()] == [A]


def test_another_identity_is_noted_and_accepted_by_the_user_alone(store: Store) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW)
        store.peers.put_state(A, b"state")
    assert store.peers.verify(A, ONE, NOW + 1)
    with store.database.transaction():
        store.peers.offer(A, OTHER, NOW + 2)
        store.peers.offer(A, OTHER, NOW + 3)
    row = store.peers.of_id(A)
    assert row is not None
    assert (row.identity, row.offered, row.offered_since, row.verified_at) == (ONE, OTHER, NOW + 2, NOW + 1)
    assert store.peers.changed() == [A]
    with store.database.transaction():
        assert store.peers.accept(A, NOW + 4)
        assert not store.peers.accept(A, NOW + 5)
    row = store.peers.of_id(A)
    assert row is not None
    assert (row.identity, row.offered, row.since, row.verified_at, row.state) == (OTHER, None, NOW + 4, None, None)
    assert not store.peers.verify(A, ONE, NOW)
    assert store.peers.changed() == []


def test_until_the_user_decides_about_the_first_identity_its_sessions_wait(store: Store) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW)
        store.peers.offer(A, ONE, NOW)
        store.peers.put_state(A, b"state")
    row = store.peers.of_id(A)
    assert row is not None
    assert row.is_undecided
    assert store.peers.changed() == [A]
    with store.database.transaction():
        assert store.peers.accept(A, NOW + 1)
    row = store.peers.of_id(A)
    assert row is not None
    assert (row.is_undecided, row.identity, row.state, row.verified_at) == (False, ONE, b"state", None)


def test_it_goes_back_where_the_known_one_is_shown_again(store: Store) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW, verified=True)
        store.peers.offer(A, OTHER, NOW)
        store.peers.offer(A, None, None)
    row = store.peers.of_id(A)
    assert row is not None
    assert (row.offered, row.verified_at, row.told) == (None, NOW, True)


def test_a_new_id_has_the_identity_and_no_sessions(store: Store) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW, verified=True)
        store.peers.put_state(A, b"state")
    store.peers.move(A, B)
    row = store.peers.of_id(B)
    assert row is not None
    assert (row.identity, row.verified_at, row.state, row.offered) == (ONE, NOW, None, None)
    # What comes from the old one under the published suite is still not believed.
    former = store.peers.of_id(A)
    assert former is not None
    assert (former.identity, former.state) == (ONE, None)
    store.peers.was_told(B)
    # A second time, as after the program was killed in between, it changes nothing.
    store.peers.move(A, B)
    assert store.peers.of_id(B) == row


@pytest.mark.parametrize("is_verified", [False, True])
def test_a_new_id_that_has_shown_other_keys_has_the_known_identity(store: Store, is_verified: bool) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW, verified=is_verified)
        store.peers.add(B, OTHER, NOW + 1)
        store.peers.put_state(B, b"state")
    store.peers.move(A, B)
    row = store.peers.of_id(B)
    assert row is not None
    assert (row.identity, row.offered, row.offered_since, row.state) == (ONE, OTHER, NOW + 1, None)
    assert row.verified_at == (NOW if is_verified else None)
    assert not row.is_undecided


def test_a_new_id_that_has_shown_the_same_keys_keeps_its_sessions(store: Store) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW, verified=True)
        store.peers.add(B, ONE, NOW + 1)
        store.peers.put_state(B, b"state")
    store.peers.move(A, B)
    row = store.peers.of_id(B)
    assert row is not None
    assert (row.identity, row.offered, row.verified_at, row.state) == (ONE, None, NOW, b"state")


@pytest.mark.parametrize("present", [None, ONE, OTHER])
def test_what_is_undecided_stays_so_under_a_new_id(store: Store, present: Identity | None) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW)
        store.peers.offer(A, ONE, NOW)
        if present is not None:
            store.peers.add(B, present, NOW + 1)
    store.peers.move(A, B)
    row = store.peers.of_id(B)
    assert row is not None
    assert (row.is_undecided, row.identity) == (True, present or ONE)


def test_when_they_were_asked_last(store: Store) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW)
    assert [one.asked_at for one in store.peers.all()] == [None]
    with store.database.transaction():
        store.peers.was_asked(A, NOW)
    assert [one.asked_at for one in store.peers.all()] == [NOW]


def test_a_damaged_state_counts_as_none(store: Store, cheap: None) -> None:
    with store.database.transaction():
        store.peers.add(A, ONE, NOW)
        store.peers.put_state(A, b"state")
    store.sealing.seal_under("pass", {})
    assert store.database.value("SELECT state FROM peer") != b"state"
    with store.database.transaction():
        store.database.run("UPDATE peer SET state = x'00'")
    row = store.peers.of_id(A)
    assert row is not None
    assert row.state is None
    assert row.identity == ONE


def test_nothing_of_a_replaced_state_stays_in_the_files(store: Store, tmp_path: Path) -> None:
    def there() -> bool:
        return any(b"old state" in path.read_bytes() for path in tmp_path.iterdir())

    with store.database.transaction():
        store.peers.add(A, ONE, NOW)
        store.peers.put_state(A, b"old state " * 1_000)
    with store.database.transaction():
        store.peers.put_state(A, b"new")
    # The log of SQLite has every page as it was.
    assert there()
    reader = Store.open(tmp_path)
    reader.database.connection.execute("BEGIN")
    assert reader.peers.of_id(A) is not None
    # Somebody reads just now: that is no failure, and it is done the next time.
    store.database.erase_replaced()
    assert there()
    reader.close()
    store.database.erase_replaced()
    assert not there()
    row = store.peers.of_id(A)
    assert row is not None
    assert row.state == b"new"
