"""How much of mailboxes and lists is on its way from the worker at once.

Owns: the operations that bring a page, while there is no room for their pages.
Promises: no more than `Settings.pages_under_way` bytes of pages are on their way at a time, in the order in which they
were asked for, so that a turn of the worker stays short however many clients fetch; none is asked for a client that
has gone meanwhile.
Exposure: none of its own; clients choose how many of them fetch.
"""

from collections import deque
from typing import Protocol

from common.operations import Operation
from gateway.settings import Settings
from gateway.storage_link import StorageLink, Waiter


class Reader(Waiter, Protocol):
    """Who asks for pages."""

    @property
    def gone(self) -> bool:
        """Whether nobody wants the page any more."""


class PageBudget:
    """One for the gateway."""

    def __init__(self, link: StorageLink, settings: Settings) -> None:
        self._link = link
        self._most = settings.pages_under_way
        self._under_way = 0
        self._waiting: deque[tuple[Operation, Reader, int]] = deque()

    def ask(self, operation: Operation, reader: Reader, size: int) -> None:
        """Submit `operation`, which brings `reader` up to `size` bytes, now or when there is room.

        `reader` says `came`, with the same size.
        """
        self._waiting.append((operation, reader, size))
        self._fill()

    def came(self, size: int) -> None:
        """A page that was asked for came, or never will."""
        self._under_way -= size
        self._fill()

    def _fill(self) -> None:
        while self._waiting and (not self._under_way or self._under_way + self._waiting[0][2] <= self._most):
            operation, reader, size = self._waiting.popleft()
            if not reader.gone:
                self._under_way += size
                self._link.submit(operation, reader, size)
