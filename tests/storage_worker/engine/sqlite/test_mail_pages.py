"""Pages of a mailbox: how they are cut, found, and removed to the message."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.storage_protocol.message_format import Entry, pack_entry, walk
from storage_worker.engine.paged.page import make_pages
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.mail_pages import PAGE_BYTES, MailPages
from storage_worker.engine.values import MailboxStats


def entry(sequence: int, size: int = 10) -> bytes:
    return pack_entry(Entry(b"s" * 16, b"t" * 16, sequence, 7, 0, 3, size, bytes(size)))


def head(sequence: int, size: int) -> bytes:
    return entry(sequence, size)[:54]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "mail.db")
    yield database
    database.abandon()


@pytest.fixture
def pages(database: Database) -> MailPages:
    return MailPages(database)


def sequences(pages: MailPages, recipient: int, first: int = 0, last: int = 2**62) -> list[int]:
    found: list[int] = []
    for page in pages.overlapping(recipient, first, last):
        inside = [e.sequence for e in walk(pages.entries(recipient, page))] if page.blob_id is None else [page.first]
        assert (inside[0], inside[-1], len(inside)) == (page.first, page.last, page.messages)
        found += inside
    return found


@given(
    st.lists(st.sampled_from([0, 1, 1000, 30_000, PAGE_BYTES, PAGE_BYTES * 3]), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_pages_have_everything_in_order_and_are_not_too_large(sizes: list[int], as_files: set[int]) -> None:
    numbers = [10 + 2 * index for index in range(len(sizes))]
    blobs = {10 + 2 * index: 100 + index for index in as_files if index < len(sizes)}
    entries = [head(n, size) if n in blobs else entry(n, size) for n, size in zip(numbers, sizes, strict=True)]
    made = list(make_pages(5, numbers, entries, blobs, PAGE_BYTES))
    assert b"".join(page.entries for page in made) == b"".join(entries)
    assert sum(page.messages for page in made) == len(sizes)
    assert sum(page.content_bytes for page in made) == sum(sizes)
    assert all(one.last < other.first for one, other in pairwise(made))
    for page in made:
        assert page.recipient == 5
        assert len(page.entries) <= PAGE_BYTES or page.messages == 1
        assert (page.blob_id is not None) == (page.first in blobs)
        assert page.blob_id is None or (page.messages == 1 and page.blob_id == blobs[page.first])


def fill(pages: MailPages, recipient: int, numbers: list[int], per_page: int) -> None:
    for start in range(0, len(numbers), per_page):
        part = numbers[start : start + per_page]
        pages.insert(make_pages(recipient, part, [entry(n) for n in part], {}, PAGE_BYTES))


def test_overlapping_and_loads(database: Database, pages: MailPages) -> None:
    with database.transaction():
        fill(pages, 1, list(range(10, 30)), 4)
        fill(pages, 2, [3, 31], 1)
    assert sequences(pages, 1) == list(range(10, 30))
    assert sequences(pages, 1, 15, 18) == list(range(14, 22))
    assert sequences(pages, 1, 30, 99) == []
    assert sequences(pages, 3) == []
    assert pages.stats(1) == MailboxStats(20, 200)
    assert pages.stats(3) == MailboxStats(0, 0)
    assert pages.loads() == {1: MailboxStats(20, 200), 2: MailboxStats(2, 20)}


@settings(max_examples=60)
@given(
    numbers=st.sets(st.integers(1, 40)), per_page=st.integers(1, 6),
    cuts=st.lists(st.tuples(st.integers(0, 41), st.integers(0, 41)), max_size=4),
)  # fmt: skip
def test_what_is_removed_is_the_interval(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int], per_page: int, cuts: list[tuple[int, int]]
) -> None:
    database = Database(tmp_path_factory.mktemp("store") / "mail.db", synchronous="OFF")
    pages = MailPages(database)
    left = sorted(numbers)
    with database.transaction():
        fill(pages, 1, left, per_page)
        fill(pages, 2, left, per_page)
        for first, last in cuts:
            assert pages.remove_all([(1, first, last)]) == []
            left = [number for number in left if not first <= number <= last]
            assert sequences(pages, 1) == left
            assert pages.stats(1) == MailboxStats(len(left), 10 * len(left))
        assert sequences(pages, 2) == sorted(numbers)
    database.abandon()


def test_files_are_told_when_their_messages_go(database: Database, pages: MailPages) -> None:
    with database.transaction():
        made = make_pages(1, [1, 2, 3], [entry(1), head(2, 10**6), entry(3)], {2: 77}, PAGE_BYTES)
        pages.insert(made)
        assert list(pages.in_blobs()) == [(1, 2, 10**6, 77)]
        assert pages.stats(1) == MailboxStats(3, 10**6 + 20)
        assert pages.remove_all([(1, 3, 9)]) == []
        assert pages.remove_all([(1, 1, 2)]) == [77]
        assert list(pages.in_blobs()) == []
