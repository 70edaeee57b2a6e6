"""The mail that is in the tables: pages of neighbouring messages of one mailbox.

Owns: the table `mail_page`, and the marks of `store`.
Promises: as storage_worker.engine.paged.ports says. A page fits into a block of the server's, so
that nothing has to be put into rows beside the table. A page that is not as it was written is never
handed out.
Exposure: entries are opaque bytes of strangers behind heads that this program made.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from common.storage_protocol.message_format import ENTRY_HEAD, Head, heads
from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.paged.page import InBlob, NewPage, PageRow, checksum_of
from storage_worker.engine.paged.page_directory import PageDirectory, overlapping
from storage_worker.engine.paged.ports import Marks
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.connection import Row
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.values import MailboxStats

log = logging.getLogger("storage_worker")

PAGE_BYTES: Final = 7900
"""Of entries, after which a page is full: with its row's other columns it fits into a block of
8 KiB. One message may exceed it by itself."""
_AT_A_TIME: Final = 32
"""Pages of a mailbox with very many that are looked up with one statement: who reads mostly wants
the first ones."""
_LAST_SEQUENCE: Final = 2**63 - 1
_READ_AT_ONCE: Final = 1000
_READ_AHEAD: Final = 16
"""Pages, of which one is wanted."""


class MailPages:
    """All mailboxes' pages. A page's row is named by its first sequence, which no other has."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.page_bytes = PAGE_BYTES
        self.damaged: set[int] = set()
        self._directory = PageDirectory()
        self._expected: dict[int, MailboxStats] = {}
        self._read: dict[tuple[int, int], Row] = {}
        """Pages that were read last. Nobody else changes the table, so they are what it has until
        something is inserted or deleted. Whatever deletes is followed by `insert`, which reads
        nothing: what a transaction read that is undone is not kept.
        """

    def forget(self) -> None:
        """Know nothing but what the tables have."""
        self._directory.forget_all()
        self._expected = {}
        self._read = {}

    def forget_mailbox(self, recipient: int) -> None:
        """Others changed the pages of this mailbox, as a transaction on another connection does."""
        self._directory.forget(recipient)
        self._read = {}

    def _first_pages(self, recipient: int, most: int) -> list[PageRow]:
        # Who looks for them mostly reads them, and most mailboxes have few.
        rows = self._pages_from(recipient, 0, _READ_AHEAD + 1)
        if len(rows) <= _READ_AHEAD:
            return [_page_row(row[1:6]) for row in rows]
        return self.oldest(recipient, -1, _LAST_SEQUENCE, most)

    def _pages_from(self, recipient: int, first: int, most: int) -> list[Row]:
        rows = self._database.rows(statements.PAGES_FROM, recipient, first, most)
        self._read = {(row[0], row[1]): row for row in rows}
        return rows

    def marks(self) -> Marks:
        """As of the last `write_marks`."""
        return Marks(*self._database.row(statements.MARKS))

    def write_marks(self, marks: Marks) -> None:
        """These are the store's from now on."""
        self._database.change(statements.WRITE_MARKS, *marks)

    # --- what is there
    # ----------------------------------------------------------------------------------------------

    def expect(self, recipients: Sequence[int]) -> None:
        """`stats` will be asked for these: look all of them up at once. Until `expect` is called
        with none.
        """
        self._expected = {}
        if recipients:
            rows = self._database.rows(statements.STATS_OF_MANY, recipients)
            self._expected = dict.fromkeys(recipients, MailboxStats(0, 0))
            self._expected.update({recipient: MailboxStats(*sums) for recipient, *sums in rows})

    def stats(self, recipient: int) -> MailboxStats:
        """What the pages of a mailbox hold."""
        known = self._directory.pages(recipient, self._first_pages, learn=False)
        if known is not None:
            return MailboxStats(sum([page.messages for page in known]), sum([page.content_bytes for page in known]))
        expected = self._expected.get(recipient)
        return MailboxStats(*self._database.row(statements.STATS, recipient)) if expected is None else expected

    def load(self) -> tuple[int, int, int]:
        """What all pages hold: of how many mailboxes, messages, and bytes of contents."""
        mailboxes, messages, content_bytes = self._database.row(statements.LOAD)
        return mailboxes, messages, content_bytes

    def oldest(self, recipient: int, behind: int, last: int, most: int) -> list[PageRow]:
        """At most so many pages of a mailbox that begin behind one sequence, and not above
        another, in order.
        """
        return [_page_row(row) for row in self._database.rows(statements.OLDEST, recipient, behind, last, most)]

    def next_mailbox(self, recipient: int) -> int | None:
        """The next recipient above this one who has pages."""
        found: int | None = self._database.row(statements.NEXT_MAILBOX, recipient)[0]
        return found

    def note_day(self, day: int, sequence: int) -> None:
        """Up to this sequence all was accepted before the day began, if the day was not noted
        before.
        """
        self._database.change(statements.NOTE_DAY, day, sequence)

    def accepted_before(self, day: int, latest: int) -> int:
        """The highest sequence that was noted for this day, or the next one that was noted;
        `latest` for none. 0 where days were noted only later.
        """
        first = self._database.row(statements.FIRST_DAY)[0]
        if first is None or first > day:
            return 0
        found = self._database.find(statements.SEQUENCE_OF_DAY, day)
        return latest if found is None else int(found[0])

    def overlapping(self, recipient: int, first: int, last: int) -> Iterator[PageRow]:
        """The pages that have something from `first` to `last`, in order; their edges may lie
        outside.
        """
        known = self._directory.pages(recipient, self._first_pages, learn=True)
        if known is not None:
            yield from overlapping(known, first, last)
            return
        while True:
            rows = self._database.rows(statements.OVERLAPPING, recipient, first, last, _AT_A_TIME)
            yield from map(_page_row, rows)
            if len(rows) < _AT_A_TIME:
                return
            first = rows[-1][1] + 1
            if first > last:
                return

    def entries(self, recipient: int, page: PageRow) -> bytes:
        """The entries of a page. Raises `StoreDamaged` where they, or what is known of them, are
        altered.
        """
        if page.row not in self.damaged:
            found = self._row(recipient, page.first)
            if found is not None:
                stored = NewPage(*found[:-1])
                if stored[:6] == (recipient, *page[1:]) and found[-1] == checksum_of(stored):
                    return stored.entries
            self.damaged.add(page.row)
        raise StoreDamaged(
            f"a page of the mailbox of {self.owner(recipient)} is altered: {page.messages} messages, "
            f"{page.first} to {page.last}, are not handed out"
        )

    def _row(self, recipient: int, first: int) -> Row | None:
        """A page's row. Whoever reads one mostly reads those behind it, too: they come along."""
        if (recipient, first) not in self._read:
            self._pages_from(recipient, first, _READ_AHEAD)
        return self._read.get((recipient, first))

    def owner(self, recipient: int) -> str:
        """Name and id of the user of this row, for the log."""
        name, client_id = self._database.find(statements.OWNER_OF, recipient) or ("?", "?")
        return f"{name!r} ({client_id})"

    def in_blobs(self) -> Iterator[InBlob]:
        """The messages whose content is a blob."""
        return (InBlob(*row) for row in self._database.rows(statements.IN_BLOBS))

    def altered(self) -> Iterator[str]:
        """Read every page: a sentence for each that is not as it was written."""
        for page, checksum in self.all():
            if checksum != checksum_of(page):
                yield (
                    f"a page of the mailbox of {self.owner(page.recipient)} is altered: {page.messages} messages, "
                    f"{page.first} to {page.last}"
                )

    def all(self) -> Iterator[tuple[NewPage, int]]:
        """Every page with its checksum, by mailbox and in order."""
        place: tuple[int, int] = (0, 0)
        while rows := self._database.rows(statements.PAGES, *place, _READ_AT_ONCE):
            for *columns, checksum in rows:
                yield NewPage(*columns), checksum
            place = rows[-1][:2]

    # --- inside a transaction
    # ----------------------------------------------------------------------------------------------

    def insert(self, pages: Iterable[NewPage]) -> None:
        """Write pages, all of them with one statement."""
        self._read = {}
        rows = [(*page, checksum_of(page)) for page in pages]
        if rows:
            self._database.change(statements.INSERT_PAGES, *map(list, zip(*rows, strict=True)))

    def look_through(self, recipient: int, first: int, last: int) -> None:
        """Nothing: what is found altered within a transaction does not undo it here."""

    def remove_all(self, intervals: Sequence[tuple[int, int, int]]) -> list[int]:
        """Delete the messages of intervals (recipient, first, last); the numbers of the blobs that
        hold contents of theirs.

        An altered page of which a part is to go stays as it is.
        """
        if not intervals:
            return []
        self._read = {}
        columns = [list(column) for column in zip(*intervals, strict=True)]
        deleted = self._database.rows(statements.DELETE_WITHIN, *columns)
        cuts = self._database.rows(statements.CUT_BY, *columns)
        for (recipient, first), rows in groupby(cuts, lambda row: row[:2]):
            self._cut(recipient, first, [(low, high) for *_, low, high in rows])
        return [blob_id for (blob_id,) in deleted if blob_id is not None]

    def _cut(self, recipient: int, first: int, removed: Sequence[tuple[int, int]]) -> None:
        """Write what a page keeps: the messages between the removed intervals, in a page each."""
        [page] = self.oldest(recipient, first - 1, first, 1)
        try:
            entries = self.entries(recipient, page)
        except StoreDamaged as error:
            log.error("%s", error)
            return
        kept: list[list[Head]] = [[]]
        for head in heads(entries):
            if not any(low <= head.sequence <= high for low, high in removed):
                kept[-1].append(head)
            elif kept[-1]:
                kept.append([])
        self._database.change(statements.DELETE_PAGE, recipient, first)
        self._read = {}
        self.insert([_part(recipient, entries, together) for together in kept if together])

    def delete_some(self, recipient: int, most: int) -> list[int | None]:
        """Delete so many pages of a mailbox at most: of each the blob that had its content, or
        None.
        """
        self.forget_mailbox(recipient)
        return [blob_id for (blob_id,) in self._database.rows(statements.DELETE_SOME, recipient, most)]

    def damage(self, error: Exception) -> str | None:
        """What is altered, where an exception says that something which was read is."""
        return str(error) if isinstance(error, StoreDamaged) else None


def _page_row(row: Sequence[int]) -> PageRow:
    return PageRow(row[0], *row)


def _part(recipient: int, entries: bytes, together: list[Head]) -> NewPage:
    start, end = together[0].start, together[-1].end
    content_bytes = end - start - len(together) * ENTRY_HEAD.size
    first, last = together[0].sequence, together[-1].sequence
    return NewPage(recipient, first, last, len(together), content_bytes, None, entries[start:end])
