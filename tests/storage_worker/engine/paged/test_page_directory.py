"""What is remembered of the pages of mailboxes: bounded, forgotten on request, and never from an
open transaction.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.storage_protocol.message_format import Entry, pack_entry
from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.paged.page import PageRow, make_pages
from storage_worker.engine.paged.page_directory import PageDirectory, overlapping
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.sqlite.mail_pages import PAGE_BYTES, MailPages
from storage_worker.engine.values import MailboxStats


def page(first: int, last: int) -> PageRow:
    return PageRow(first, first, last, last - first + 1, 0, None)


class Loader:
    """Mailboxes with so many pages of one message each; notes who was asked for."""

    def __init__(self, **pages: int) -> None:
        self._pages = {int(user[1:]): number for user, number in pages.items()}
        self.asked: list[int] = []

    def __call__(self, user: int, most: int) -> list[PageRow]:
        self.asked.append(user)
        return [page(number, number) for number in range(1, self._pages[user] + 1)][:most]


@given(st.lists(st.integers(1, 60), unique=True, max_size=20), st.integers(0, 61), st.integers(0, 61))
def test_overlapping_pages_are_those_with_something_of_the_interval(edges: list[int], first: int, last: int) -> None:
    pages = [page(low, high - 1) for low, high in pairwise(sorted(edges))][::2]
    assert overlapping(pages, first, last) == [one for one in pages if one.last >= first and one.first <= last]


def test_a_mailbox_is_loaded_once_until_it_is_forgotten() -> None:
    loader = Loader(u1=3, u2=0)
    directory = PageDirectory()
    for _ in range(2):
        assert directory.pages(1, loader, learn=True) == [page(1, 1), page(2, 2), page(3, 3)]
        assert directory.pages(2, loader, learn=True) == []
    assert loader.asked == [1, 2]
    directory.forget(1)
    directory.forget(7)
    assert directory.pages(1, loader, learn=False) is None
    assert directory.pages(1, loader, learn=True) == [page(1, 1), page(2, 2), page(3, 3)]
    assert loader.asked == [1, 2, 1]
    directory.forget_all()
    assert directory.pages(2, loader, learn=False) is None


def test_a_mailbox_with_too_many_pages_is_known_as_that() -> None:
    loader = Loader(u1=5, u2=4)
    directory = PageDirectory(most_pages=4)
    assert directory.pages(1, loader, learn=True) is None
    assert directory.pages(1, loader, learn=True) is None
    assert directory.pages(2, loader, learn=True) == [page(number, number) for number in range(1, 5)]
    assert loader.asked == [1, 2]


def test_the_mailbox_that_was_learned_first_makes_room() -> None:
    loader = Loader(u1=3, u2=3, u3=1, u4=20)
    directory = PageDirectory(pages_kept=10)
    for user in (1, 2, 3):
        directory.pages(user, loader, learn=True)
    assert [directory.pages(user, loader, learn=False) is not None for user in (1, 2, 3)] == [True, True, True], (
        "4 + 4 + 2"
    )
    directory.forget(3)
    directory.pages(3, loader, learn=True)
    directory.pages(4, loader, learn=True)
    known = [directory.pages(user, loader, learn=False) is not None for user in (1, 2, 3, 4)]
    assert known == [False, False, False, True], "one mailbox is kept, however large"


# --- in the table of pages


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "mail.db")
    yield database
    database.abandon()


def entry(number: int, size: int = 10) -> bytes:
    return pack_entry(Entry(b"s" * 16, b"t" * 16, number, 7, 0, 3, size, bytes(size)))


def large(number: int) -> bytes:
    return entry(number, PAGE_BYTES * 2 // 3)


def fill(pages: MailPages, recipient: int, *numbers: int) -> None:
    for number in numbers:
        pages.insert(make_pages(recipient, [number], [entry(number)], {}, PAGE_BYTES))


def test_what_was_undone_was_never_learned(database: Database) -> None:
    pages = MailPages(database)
    with database.transaction():
        fill(pages, 1, 1, 2, 3)
    assert pages.stats(1) == MailboxStats(3, 30)
    with pytest.raises(ZeroDivisionError), database.transaction():
        pages.remove_all([(1, 1, 2)])
        fill(pages, 1, 4)
        assert [one.first for one in pages.overlapping(1, 0, 9)] == [3, 4]
        assert pages.stats(1) == MailboxStats(2, 20)
        raise ZeroDivisionError
    assert [one.first for one in pages.overlapping(1, 0, 9)] == [1, 2, 3]
    assert pages.stats(1) == MailboxStats(3, 30)


def test_fetching_and_deleting_a_mailbox_looks_its_pages_up_once(database: Database) -> None:
    pages = MailPages(database)
    with database.transaction():
        fill(pages, 1, *range(1, 6))
        fill(pages, 2, 9)
    statements: list[str] = []
    database.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    assert pages.stats(1).messages == 5
    for one in pages.overlapping(1, 1, 5):
        pages.entries(1, one)
    pages.look_through(1, 1, 5)
    looks = [sql for sql in statements if "entries" not in sql]
    assert len(looks) == 1
    assert len(statements) == 1 + 5, "whoever asks for sums need not read, so each page is read by itself, once"
    statements.clear()
    with database.transaction():
        assert pages.remove_all([(1, 1, 5)]) == []
    assert [sql.split()[0] for sql in statements] == ["BEGIN", *["DELETE"] * 5, "COMMIT"]
    assert [one.first for one in pages.overlapping(2, 1, 9)] == [9]


def test_small_pages_are_read_with_the_look_that_finds_them(database: Database) -> None:
    pages = MailPages(database)
    with database.transaction():
        fill(pages, 1, *range(1, 6))
        pages.insert(make_pages(2, [9, 10], [large(9), large(10)], {}, PAGE_BYTES))
    statements: list[str] = []
    database.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    for one in pages.overlapping(1, 1, 5):
        assert pages.entries(1, one) == entry(one.first)
    assert len(statements) == 1
    # A second time each is read by itself: nothing is kept of what was handed out.
    for one in pages.overlapping(1, 1, 2):
        pages.entries(1, one)
    assert len(statements) == 1 + 2
    statements.clear()
    assert [pages.entries(2, one) for one in pages.overlapping(2, 9, 10)] == [large(9), large(10)]
    assert len(statements) == 1 + 1 + 2, "more than one page may have is read page by page"


def test_what_was_read_with_the_look_is_forgotten_when_pages_change(database: Database) -> None:
    pages = MailPages(database)
    with database.transaction():
        fill(pages, 1, 1, 2, 3)
    one, two, _ = pages.overlapping(1, 1, 3)
    with database.transaction():
        assert pages.remove_all([(1, 2, 3)]) == []
        fill(pages, 1, 4)
    four = list(pages.overlapping(1, 1, 9))[-1]
    assert (four.row, four.first) == (two.row, 4), "SQLite gives numbers of rows again"
    assert pages.entries(1, four) == entry(4)
    assert pages.entries(1, one) == entry(1)


@pytest.mark.parametrize("kept", ["entries", "checksum"])
def test_an_altered_page_that_was_read_with_the_look_is_not_handed_out(database: Database, kept: str) -> None:
    pages = MailPages(database)
    with database.transaction():
        fill(pages, 1, 1, 2, 3)
        change = "checksum = checksum + 1" if kept == "entries" else "entries = zeroblob(length(entries))"
        database.execute(f"UPDATE mail_page SET {change} WHERE first = 2")  # one of two texts above
    one, two, three = pages.overlapping(1, 1, 3)
    assert pages.entries(1, one) == entry(1)
    with pytest.raises(StoreDamaged, match="1 messages, 2 to 2"):
        pages.entries(1, two)
    assert pages.entries(1, three) == entry(3)
    assert pages.damaged == {two.row}


def test_a_page_that_was_handed_out_is_looked_at_again_when_deleting_it_failed(database: Database) -> None:
    pages = MailPages(database)
    with database.transaction():
        fill(pages, 1, 1)
    (one,) = pages.overlapping(1, 1, 1)
    pages.entries(1, one)
    pages.look_through(1, 1, 1)
    with database.transaction():
        database.execute("UPDATE mail_page SET checksum = checksum + 1")
    assert not pages.damaged
    pages.look_through(1, 1, 1)
    assert pages.damaged == {one.row}
    with pytest.raises(StoreDamaged):
        pages.entries(1, one)
