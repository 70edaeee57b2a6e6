"""Which pages the mailboxes that were looked at last have in the database.

Owns: in memory, the rows of `mail_page` without their entries, of a bounded number of mailboxes.
Promises: what it says of a mailbox is what the database committed; whoever changes the pages of one
calls `forget`. It learns nothing inside a transaction, which may be undone.
Exposure: none.

To fetch and delete a mailbox asks four times which pages it has. A statement each time costs more
than reading the pages.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from storage_worker.engine.paged.page import PageRow

PAGES_KEPT: Final = 20_000
"""Of all mailboxes together: about 4 MB."""
MOST_PAGES: Final = 1_000
"""A mailbox that has more is looked up in the database each time."""


Load = Callable[[int, int], list[PageRow]]
_first_of: Final = attrgetter("first")
_last_of: Final = attrgetter("last")


class PageDirectory:
    """The pages of mailboxes, by user row."""

    def __init__(self, *, pages_kept: int = PAGES_KEPT, most_pages: int = MOST_PAGES) -> None:
        self._pages_kept = pages_kept
        self._most_pages = most_pages
        self._known: dict[int, list[PageRow] | None] = {}
        """None: more than `most_pages`. The mailbox that was learned last is last."""
        self._size = 0

    def pages(self, user: int, load: Load, *, learn: bool) -> list[PageRow] | None:
        """All pages of a mailbox, in order; not to be changed. None where they are not known: there
        are too many, or it may not `learn`. `load` gives at most so many pages of a mailbox, from
        the first on, in order.
        """
        if user in self._known:
            return self._known[user]
        if not learn:
            return None
        found: list[PageRow] | None = load(user, self._most_pages + 1)
        if found is not None and len(found) > self._most_pages:
            found = None
        self._known[user] = found
        self._size += _size_of(found)
        while self._size > self._pages_kept and len(self._known) > 1:
            self.forget(next(iter(self._known)))
        return found

    def forget(self, user: int) -> None:
        """The pages of this mailbox change."""
        if user in self._known:
            self._size -= _size_of(self._known.pop(user))

    def forget_all(self) -> None:
        """Any may have changed."""
        self._known.clear()
        self._size = 0


def overlapping(pages: list[PageRow], first: int, last: int) -> list[PageRow]:
    """Those of a mailbox's pages that have something from `first` to `last`; both in order."""
    low = bisect_left(pages, first, key=_last_of)
    return pages[low : bisect_right(pages, last, lo=low, key=_first_of)]


def _size_of(pages: list[PageRow] | None) -> int:
    return 1 + len(pages or ())
