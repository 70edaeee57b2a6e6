"""The mail that is in the database: pages of neighbouring messages of one mailbox.

Owns: the table `mail_page`.
Promises: the pages of a mailbox do not overlap; a page is never empty; what is removed is the interval that was named.
Exposure: entries are opaque bytes of strangers behind heads that this program made.

A row holds up to 64 KiB of a mailbox's messages, one behind the other, so that a thousand messages cost a few
rows to write, to read and to delete. A message whose content is a file of its own has a row for itself.

All methods that change something run inside a transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from common.entries import ENTRY_HEAD, heads
from storage_worker.database import Database

PAGE_BYTES: Final = 64 * 1024
"""Bytes of entries after which a page is full; one message may exceed it by itself."""


class Load(NamedTuple):
    """How many messages a mailbox holds, and the bytes of their contents."""

    messages: int
    content_bytes: int


class PageRow(NamedTuple):
    """A page without its entries. `body`: the number of the file that has its one message's content, or None."""

    row: int
    first: int
    last: int
    messages: int
    content_bytes: int
    body: int | None


class InFile(NamedTuple):
    """A message of user row `recipient` whose content of `size` bytes is the file `body`."""

    recipient: int
    sequence: int
    size: int
    body: int


class NewPage(NamedTuple):
    """A page that is to be written."""

    recipient: int
    first: int
    last: int
    messages: int
    content_bytes: int
    body: int | None
    entries: bytes


def make_pages(
    recipient: int, sequences: Sequence[int], entries: Sequence[bytes], bodies: dict[int, int]
) -> Iterator[NewPage]:
    """Messages of one mailbox, in order, as pages. `bodies`: sequence -> file, of those whose entry is a head alone."""
    if not bodies and entries:
        page = _page(recipient, sequences, entries, 0, len(entries))
        if len(page.entries) <= PAGE_BYTES:
            # Nearly always. To look at the sizes before would take as long as to put them together.
            yield page
            return
    start = 0
    size = 0
    for index, entry in enumerate(entries):
        alone = bool(bodies) and sequences[index] in bodies
        if index > start and (alone or size + len(entry) > PAGE_BYTES):
            yield _page(recipient, sequences, entries, start, index)
            start, size = index, 0
        size += len(entry)
        if alone:
            content_bytes = ENTRY_HEAD.unpack_from(entry)[6]
            sequence = sequences[index]
            yield NewPage(recipient, sequence, sequence, 1, content_bytes, bodies[sequence], entry)
            start, size = index + 1, 0
    if start < len(entries):
        yield _page(recipient, sequences, entries, start, len(entries))


def _page(recipient: int, sequences: Sequence[int], entries: Sequence[bytes], start: int, end: int) -> NewPage:
    together = b"".join(entries[start:end])
    messages = end - start
    content_bytes = len(together) - messages * ENTRY_HEAD.size
    return NewPage(recipient, sequences[start], sequences[end - 1], messages, content_bytes, None, together)


class MailPages:
    """All mailboxes' pages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def weigh(self, recipient: int) -> Load:
        """What the pages of a mailbox hold."""
        return Load(
            *self._database.row(
                "SELECT coalesce(sum(messages), 0), coalesce(sum(content_bytes), 0) FROM mail_page WHERE recipient = ?",
                (recipient,),
            )
        )

    def loads(self) -> dict[int, Load]:
        """What the pages of every mailbox that has any hold."""
        rows = self._database.execute(
            "SELECT recipient, sum(messages), sum(content_bytes) FROM mail_page GROUP BY recipient"
        )
        return {recipient: Load(messages, content_bytes) for recipient, messages, content_bytes in rows}

    def overlapping(self, recipient: int, first: int, last: int) -> Iterator[PageRow]:
        """The pages that have something from `first` to `last`, in order; their edges may lie outside."""
        rows = self._database.execute(
            "SELECT row, first, last, messages, content_bytes, body FROM mail_page WHERE recipient = ?1 "
            "AND first BETWEEN coalesce((SELECT max(first) FROM mail_page WHERE recipient = ?1 AND first <= ?2), 0) "
            "AND ?3 AND last >= ?2 ORDER BY first",
            (recipient, first, last),
        )
        return (PageRow(*row) for row in rows)

    def entries(self, row: int) -> bytes:
        """The entries of a page."""
        entries: bytes = self._database.row("SELECT entries FROM mail_page WHERE row = ?", (row,))[0]
        return entries

    def in_files(self) -> Iterator[InFile]:
        """The messages whose content is a file."""
        rows = self._database.execute(
            "SELECT recipient, first, content_bytes, body FROM mail_page WHERE body IS NOT NULL"
        )
        return (InFile(*row) for row in rows)

    def insert(self, pages: Iterable[NewPage]) -> None:
        """Write pages."""
        self._database.execute_many(
            "INSERT INTO mail_page (recipient, first, last, messages, content_bytes, body, entries) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            pages,
        )

    def remove(self, recipient: int, first: int, last: int) -> list[int]:
        """Delete the messages `first` to `last`; the numbers of the files that hold contents of theirs."""
        bodies: list[int] = []
        for page in list(self.overlapping(recipient, first, last)):
            if page.body is not None:
                bodies.append(page.body)
            elif page.first < first or page.last > last:
                self._cut(recipient, page, first, last)
                continue
            self._database.execute("DELETE FROM mail_page WHERE row = ?", (page.row,))
        return bodies

    def _cut(self, recipient: int, page: PageRow, first: int, last: int) -> None:
        """Write what a page keeps: what lies before `first`, what lies behind `last`, or both in two pages."""
        entries = self.entries(page.row)
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
