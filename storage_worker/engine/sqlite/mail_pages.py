"""The mail that is in the database: pages of neighbouring messages of one mailbox.

Owns: the table `mail_page`.
Promises: the pages of a mailbox do not overlap; a page is never empty; what is removed is the
interval that was named. A page that is not as it was written is never handed out: `entries` raises
`StoreDamaged`, which names it.
Exposure: entries are opaque bytes of strangers behind heads that this program made.

A row holds up to 64 KiB of a mailbox's messages, one behind the other, so that a thousand messages
cost a few rows to write, to read and to delete. A message whose content is a file of its own has a
row for itself.

All methods that change something run inside a transaction.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from common.errors import FrameUndecodable
from common.storage_protocol.message_format import ENTRY_HEAD, heads
from storage_worker.engine.errors import StoreDamaged
from storage_worker.engine.paged.page import InBlob, NewPage, PageRow, checksum_of
from storage_worker.engine.paged.page_directory import Load, PageDirectory, overlapping
from storage_worker.engine.paged.ports import Marks
from storage_worker.engine.sqlite.database import Database, Row
from storage_worker.engine.sqlite.sqlite_errors import damage_message, is_damage
from storage_worker.engine.values import MailboxStats

log = logging.getLogger("storage_worker")

PAGE_BYTES: Final = 64 * 1024
"""Bytes of entries after which a page is full; one message may exceed it by itself."""
_LAST_SEQUENCE: Final = 2**63 - 1
_PAGE: Final = (
    "SELECT recipient, first, last, messages, content_bytes, body, entries, checksum FROM mail_page WHERE row = ?"
)
_PAGES_OF_MAILBOX: Final = (
    "SELECT row, recipient, first, last, messages, content_bytes, body, entries, checksum FROM mail_page "
    "WHERE recipient = ? ORDER BY first LIMIT ?"
)
MOST_READ: Final = 20_000
"""Pages of which is remembered that they were read and not altered: about 4 MB."""


def _makes_sense(page: NewPage) -> bool:
    """Whether the entries of a page are what its columns say: for pages of an earlier version,
    which have no checksum.
    """
    if page.blob_id is not None:
        return len(page.entries) == ENTRY_HEAD.size
    try:
        found = heads(page.entries)
    except FrameUndecodable:
        return False
    content_bytes = len(page.entries) - len(found) * ENTRY_HEAD.size
    columns = page.first, page.last, page.messages, page.content_bytes
    return bool(found) and columns == (found[0].sequence, found[-1].sequence, len(found), content_bytes)


class MailPages:
    """All mailboxes' pages."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.page_bytes = PAGE_BYTES
        self._directory = PageDirectory()
        self._ahead: dict[int, Row] = {}
        """Rows of pages that were read with the directory of the mailbox that was looked up last,
        as `entries` reads them; at most `PAGE_BYTES` of entries.
        """
        self._read_whole: set[PageRow] = set()
        """Pages that were read since the last `look_through`, and are not altered."""
        self.damaged: set[int] = set()
        """Rows of pages that were found altered."""

    def forget(self) -> None:
        """Know nothing but what the database has: after a start, and after a transaction that
        was undone.
        """
        self._directory.forget_all()
        self._ahead.clear()
        self._read_whole.clear()

    def forget_mailbox(self, recipient: int) -> None:
        """Others changed the pages of this mailbox."""
        self._directory.forget(recipient)
        self._ahead.clear()

    def _known(self, recipient: int, load: Load) -> list[PageRow] | None:
        return self._directory.pages(recipient, load, learn=not self._database.in_transaction)

    def _first_pages(self, recipient: int, most: int) -> list[PageRow]:
        return self.oldest(recipient, -1, _LAST_SEQUENCE, most)

    def _first_pages_with_entries(self, recipient: int, most: int) -> list[PageRow]:
        """The same. Where all of them together are no larger than one page may be, their entries
        are read by the same statement, for most who look up a mailbox read it next.
        """
        self._ahead.clear()
        size = 0
        try:
            for row in self._database.execute(_PAGES_OF_MAILBOX, (recipient, most)):
                size += len(row[7])
                if size > PAGE_BYTES:
                    break
                self._ahead[row[0]] = row[1:]
            else:
                return [PageRow(row, *columns[1:6]) for row, columns in self._ahead.items()]
        except Exception as error:
            if not is_damage(error):
                raise
            # Which page it is will be seen when it is read by itself.
        self._ahead.clear()
        return self._first_pages(recipient, most)

    def marks(self) -> Marks:
        """As of the last `write_marks`."""
        sequence, blob_id = self._database.row("SELECT sequence, body FROM store")
        tally = self._database.find("SELECT accepted FROM tally")
        return Marks(sequence, blob_id, tally[0] if tally is not None else 0)

    def write_marks(self, marks: Marks) -> None:
        """These are the store's from now on."""
        self._database.execute("UPDATE store SET sequence = ?, body = ?", marks[:2])
        self._database.execute("UPDATE tally SET accepted = ?, counted_to = ?", (marks.accepted, marks.sequence))

    def stats(self, recipient: int) -> MailboxStats:
        """What the pages of a mailbox hold."""
        known = self._known(recipient, self._first_pages)
        if known is not None:
            return MailboxStats(sum([page.messages for page in known]), sum([page.content_bytes for page in known]))
        return MailboxStats(
            *self._database.row(
                "SELECT coalesce(sum(messages), 0), coalesce(sum(content_bytes), 0) FROM mail_page WHERE recipient = ?",
                (recipient,),
            )
        )

    def loads(self) -> dict[int, MailboxStats]:
        """What the pages of every mailbox that has any hold."""
        rows = self._database.execute(
            "SELECT recipient, sum(messages), sum(content_bytes) FROM mail_page GROUP BY recipient"
        )
        return {recipient: MailboxStats(messages, content_bytes) for recipient, messages, content_bytes in rows}

    def load(self) -> tuple[int, int, int]:
        """What all pages hold: of how many mailboxes, messages, and bytes of contents."""
        mailboxes, messages, content_bytes = self._database.row(
            "SELECT count(DISTINCT recipient), coalesce(sum(messages), 0), coalesce(sum(content_bytes), 0) "
            "FROM mail_page"
        )
        return mailboxes, messages, content_bytes

    def oldest(self, recipient: int, behind: int, last: int, most: int) -> list[PageRow]:
        """At most so many pages of a mailbox that begin behind one sequence, and not above
        another, in order.
        """
        rows = self._database.execute(
            "SELECT row, first, last, messages, content_bytes, body FROM mail_page "
            "WHERE recipient = ? AND first > ? AND first <= ? ORDER BY first LIMIT ?",
            (recipient, behind, last, most),
        )
        return [PageRow(*row) for row in rows]

    def next_mailbox(self, recipient: int) -> int | None:
        """The next recipient above this one who has pages."""
        found: int | None = self._database.row(
            "SELECT min(recipient) FROM mail_page WHERE recipient > ?", (recipient,)
        )[0]
        return found

    def note_day(self, day: int, sequence: int) -> None:
        """Inside a transaction: up to this sequence all was accepted before the day began, if the
        day was not noted before.
        """
        self._database.execute("INSERT OR IGNORE INTO day VALUES (?, ?)", (day, sequence))

    def accepted_before(self, day: int, latest: int) -> int:
        """The highest sequence that was noted for this day, or the next one that was noted;
        `latest` for none. 0 where days were noted only later.
        """
        first = self._database.row("SELECT min(day) FROM day")[0]
        if first is None or first > day:
            return 0
        found = self._database.find("SELECT sequence FROM day WHERE day >= ? ORDER BY day LIMIT 1", (day,))
        return latest if found is None else int(found[0])

    def overlapping(self, recipient: int, first: int, last: int) -> Iterable[PageRow]:
        """The pages that have something from `first` to `last`, in order; their edges may
        lie outside.
        """
        known = self._known(recipient, self._first_pages_with_entries)
        if known is not None:
            return overlapping(known, first, last)
        rows = self._database.execute(
            "SELECT row, first, last, messages, content_bytes, body FROM mail_page WHERE recipient = ?1 "
            "AND first BETWEEN coalesce((SELECT max(first) FROM mail_page WHERE recipient = ?1 AND first <= ?2), 0) "
            "AND ?3 AND last >= ?2 ORDER BY first",
            (recipient, first, last),
        )
        return (PageRow(*row) for row in rows)

    def entries(self, recipient: int, page: PageRow) -> bytes:
        """The entries of a page. Raises `StoreDamaged` where they, or what is known of
        them, are altered.
        """
        if page.row in self.damaged:
            raise StoreDamaged(self._named(recipient, page))
        found = self._ahead.pop(page.row, None)
        if found is None:
            try:
                found = self._database.find(_PAGE, (page.row,))
            except Exception as error:
                if not is_damage(error):
                    raise
                self._database.refuse_undone(error)
        if found is not None:
            stored, checksum = NewPage._make(found[:-1]), found[-1]
            if stored[:6] == (recipient, *page[1:]) and (
                _makes_sense(stored) if checksum is None else checksum == checksum_of(stored)
            ):
                self._note_read(page)
                return stored.entries
        self.damaged.add(page.row)
        raise StoreDamaged(self._named(recipient, page))

    def _note_read(self, page: PageRow) -> None:
        if len(self._read_whole) >= MOST_READ:
            self._read_whole.clear()
        self._read_whole.add(page)

    def _named(self, recipient: int, page: PageRow) -> str:
        return (
            f"page {page.row} of the mailbox of {self.owner(recipient)} is altered: {page.messages} messages, "
            f"{page.first} to {page.last}, are not handed out"
        )

    def owner(self, recipient: int) -> str:
        """Name and id of the user of this row, for the log."""
        try:
            found = self._database.find("SELECT name, hex(client_id) FROM user WHERE row = ?", (recipient,))
        except Exception as error:
            if not is_damage(error):
                raise
            self._database.refuse_undone(error)
            found = None
        name, client_id = found or ("?", "?")
        return f"{name!r} ({client_id})"

    def pages_of_all(self) -> list[tuple[int, PageRow]]:
        """Every page there is, with its recipient's user row."""
        rows = self._database.execute(
            "SELECT recipient, row, first, last, messages, content_bytes, body FROM mail_page ORDER BY recipient, first"
        )
        return [(recipient, PageRow(*page)) for recipient, *page in rows]

    def whole(self, rows: Iterable[int]) -> dict[int, NewPage]:
        """Those of these rows that their own checksums say to be whole, whatever the
        file's pages say of them.
        """
        found: dict[int, NewPage] = {}
        for row in rows:
            stored = self._database.find(_PAGE, (row,))
            if stored is not None and stored[-1] == checksum_of(page := NewPage(*stored[:-1])):
                found[row] = page
        return found

    def drop_blob(self, blob_id: int) -> None:
        """Delete the message whose content is this file."""
        self._database.execute("DELETE FROM mail_page WHERE body = ?", (blob_id,))

    def drop(self, row: int) -> None:
        """Delete a page by its row, whatever is in it."""
        self._database.execute("DELETE FROM mail_page WHERE row = ?", (row,))

    def some(self, recipient: int, most: int) -> list[PageRow]:
        """So many pages of a mailbox at most, in no order."""
        rows = self._database.execute(
            "SELECT row, first, last, messages, content_bytes, body FROM mail_page WHERE recipient = ? LIMIT ?",
            (recipient, most),
        )
        return [PageRow(*row) for row in rows]

    def in_blobs(self) -> Iterator[InBlob]:
        """The messages whose content is a file."""
        rows = self._database.execute(
            "SELECT recipient, first, content_bytes, body FROM mail_page WHERE body IS NOT NULL"
        )
        return (InBlob(*row) for row in rows)

    def insert(self, pages: Iterable[NewPage]) -> None:
        """Write pages."""
        self._ahead.clear()
        rows = [(*page, checksum_of(page)) for page in pages]
        for row in rows:
            self._directory.forget(row[0])
        self._database.execute_many(
            "INSERT INTO mail_page (recipient, first, last, messages, content_bytes, body, entries, checksum) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def look_through(self, recipient: int, first: int, last: int) -> None:
        """Outside of a transaction, before `remove`: see which pages are altered, so that it leaves
        them alone.

        SQLite undoes the whole transaction in which it finds a page altered. Pages that were just
        handed out need no second look, unless `remove` fails and this is called again.
        """
        for page in list(self.overlapping(recipient, first, last)):
            if page in self._read_whole:
                self._read_whole.remove(page)
                continue
            try:
                self.entries(recipient, page)
            except StoreDamaged as error:
                log.error("%s", error)

    def remove_all(self, intervals: Sequence[tuple[int, int, int]]) -> list[int]:
        """Delete the messages of intervals (recipient, first, last); the numbers of the files that
        hold contents of theirs.

        Altered pages that `look_through` found stay as they are, for whoever looks into them.
        """
        self._ahead.clear()
        blobs: list[int] = []
        gone: list[tuple[int]] = []
        for recipient, first, last in intervals:
            pages = list(self.overlapping(recipient, first, last))
            self._directory.forget(recipient)
            for page in pages:
                if page.row in self.damaged:
                    continue
                if page.blob_id is not None:
                    blobs.append(page.blob_id)
                elif page.first < first or page.last > last:
                    self._cut(recipient, page, first, last)
                    continue
                gone.append((page.row,))
        # One statement for all of them, in the order of the table.
        self._database.execute_many("DELETE FROM mail_page WHERE row = ?", sorted(gone))
        return blobs

    def damage(self, error: Exception) -> str | None:
        """What is altered, where an exception says that something which was read is; None for any
        other. Raises `TablesDamaged` where such damage undid the turn.
        """
        if not is_damage(error):
            return None
        self._database.refuse_undone(error)
        return damage_message(error)

    def _cut(self, recipient: int, page: PageRow, first: int, last: int) -> None:
        """Write what a page keeps: what precedes `first`, what follows `last`, or
        both in two pages.
        """
        try:
            entries = self.entries(recipient, page)
        except StoreDamaged as error:
            # It stays as it is, for whoever looks into it; nothing of it is handed out.
            log.error("%s", error)
            return
        before, behind = [], []
        for head in heads(entries):
            if head.sequence < first:
                before.append(head)
            elif head.sequence > last:
                behind.append(head)
        self._database.execute("DELETE FROM mail_page WHERE row = ?", (page.row,))
        for kept in (before, behind):
            if kept:
                start, end = kept[0].start, kept[-1].end
                content_bytes = end - start - len(kept) * ENTRY_HEAD.size
                self.insert(
                    [
                        NewPage(
                            recipient, kept[0].sequence, kept[-1].sequence, len(kept), content_bytes, None,
                            entries[start:end],
                        )
                    ]
                )  # fmt: skip
