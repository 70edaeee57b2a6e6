"""What an engine that keeps mail in pages does for the mailboxes.

Owns: the ports. Promises: none of its own.
Exposure: none.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from storage_worker.engine.paged.page import InBlob, NewPage, PageRow
from storage_worker.engine.values import MailboxStats, User


class Marks(NamedTuple):
    """The highest sequence and the highest number of a blob that were ever given, and how many
    messages were accepted: fewer than sequences, which leave some out.
    """

    sequence: int
    blob_id: int
    accepted: int


class Pages(Protocol):
    """The pages that the tables hold. What changes something runs inside a transaction."""

    page_bytes: int
    """See `make_pages`."""
    damaged: set[int]
    """Rows of pages that were found altered."""

    def marks(self) -> Marks:
        """As of the last `write_marks`."""

    def write_marks(self, marks: Marks) -> None:
        """These are the store's from now on."""

    def forget(self) -> None:
        """Know nothing but what the tables have: after a start, and after a transaction that was
        undone.
        """

    def forget_mailbox(self, recipient: int) -> None:
        """Others changed the pages of this mailbox."""

    def stats(self, recipient: int) -> MailboxStats:
        """What the pages of a mailbox hold."""

    def load(self) -> tuple[int, int, int]:
        """What all pages hold: of how many mailboxes, messages, and bytes of contents."""

    def oldest(self, recipient: int, behind: int, last: int, most: int) -> list[PageRow]:
        """At most so many pages of a mailbox that begin behind one sequence, and not above
        another, in order.
        """

    def next_mailbox(self, recipient: int) -> int | None:
        """The next recipient above this one who has pages."""

    def note_day(self, day: int, sequence: int) -> None:
        """Up to this sequence all was accepted before the day began, if the day was not noted
        before.
        """

    def accepted_before(self, day: int, latest: int) -> int:
        """The highest sequence that was noted for this day, or the next one that was noted;
        `latest` for none. 0 where days were noted only later.
        """

    def overlapping(self, recipient: int, first: int, last: int) -> Iterable[PageRow]:
        """The pages that have something from `first` to `last`, in order; their edges may lie
        outside.
        """

    def entries(self, recipient: int, page: PageRow) -> bytes:
        """The entries of a page. Raises `StoreDamaged` where they, or what is known of them, are
        altered.
        """

    def owner(self, recipient: int) -> str:
        """Name and id of the user of this row, for the log."""

    def in_blobs(self) -> Iterator[InBlob]:
        """The messages whose content is a blob."""

    def insert(self, pages: Iterable[NewPage]) -> None:
        """Write pages."""

    def look_through(self, recipient: int, first: int, last: int) -> None:
        """Before the transaction of `remove_all`: see which pages are altered, so that it leaves
        them alone.
        """

    def remove_all(self, intervals: Sequence[tuple[int, int, int]]) -> list[int]:
        """Delete the messages of intervals (recipient, first, last); the numbers of the blobs that
        hold contents of theirs.
        """

    def damage(self, error: Exception) -> str | None:
        """What is altered, where an exception says that something which was read is; None for any
        other. Raises `TablesDamaged` where such damage undid the turn.
        """


class Contents(Protocol):
    """The blobs."""

    unread: set[int]
    """Those that could not be handed out when they were last read."""

    def read(self, blob_id: int, at: int, length: int, size: int) -> bytes:
        """Bytes of a content of `size` bytes. Raises `StoreDamaged`."""

    def remove(self, blob_id: int) -> None:
        """Delete it; one that is not there is none."""

    def set_aside(self, blob_id: int) -> str:
        """Its message is dropped for its damage: keep it, under the name that this gives; empty for
        none.
        """

    def sweep(self, needed: dict[int, int]) -> set[int]:
        """Delete those that no message needs. `needed`: number -> bytes. Gives those that are not
        there, or shorter.
        """


class Registry(Protocol):
    """The users, as far as mailboxes need them."""

    known: dict[bytes, User]
    """Users that were looked up, by client id; `find` looks further."""

    def find(self, client_id: bytes) -> User | None:
        """The user with this id, or None."""

    def row_of(self, client_id: bytes) -> int:
        """The row of a user who exists, or did when the log was written."""
