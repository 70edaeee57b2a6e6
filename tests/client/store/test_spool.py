from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from client.errors import StoreUnusable
from client.store.home_store import Store
from tests.client.store.mail import MUCH_LATER, message, pull

if TYPE_CHECKING:
    from pathlib import Path


def test_large_contents(tmp_path: Path, store: Store) -> None:
    spool = store.spools.new()
    spool.write(b"ab")
    spool.write(b"cd")
    pull(store, message(1, b"abcd", spool=spool.keep())._replace(content=None))
    row = store.inbox.next_unread(0)
    assert row is not None
    assert row.spool is not None
    assert list(store.spools.read(row.spool, 3)) == [b"abc", b"d"]
    store.sweep(MUCH_LATER)
    assert (tmp_path / "store.spool" / row.spool).exists()
    store.inbox.begin_showing(row.number, tmp_path / "saved")
    store.inbox.was_shown(row.number, readable=True)
    assert list((tmp_path / "store.spool").iterdir()) == []


def test_the_spool_of_a_repeated_message_goes(tmp_path: Path, store: Store) -> None:
    for _ in range(2):
        spool = store.spools.new()
        spool.write(b"abcd")
        pull(store, message(1, b"abcd", spool=spool.keep()), complete=False)
    assert len(list((tmp_path / "store.spool").iterdir())) == 1


def test_what_a_crash_left_is_swept(tmp_path: Path, store: Store) -> None:
    store.sweep(MUCH_LATER)
    store.spools.new().keep()
    discarded = store.spools.new()
    discarded.discard()
    assert len(list((tmp_path / "store.spool").iterdir())) == 1
    store.sweep(MUCH_LATER)
    assert list((tmp_path / "store.spool").iterdir()) == []


def test_a_lost_large_content(store: Store) -> None:
    with pytest.raises(StoreUnusable):
        list(store.spools.read("nothing", 10))
