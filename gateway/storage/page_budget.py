"""How many bytes of mailbox and list pages are in flight from the worker at once.

Owns: the operations that fetch a page, while there is no room for their pages.
Promises: no more than `Settings.pages_in_flight` bytes of pages are in flight at a time, in the
order in which they were asked for, so that a turn of the worker stays short however many clients
fetch; for a client that has gone, no page is asked for and nothing is kept.
Exposure: none of its own; clients choose how many of them fetch.
"""

from collections import OrderedDict

from common.storage_protocol.operations import Operation
from gateway.settings import Settings
from gateway.storage.link import StorageLink, Waiter


class PageBudget:
    """One for the gateway."""

    def __init__(self, link: StorageLink, settings: Settings) -> None:
        self._link = link
        self._most = settings.pages_in_flight
        self.in_flight = 0
        self._waiting: OrderedDict[Waiter, tuple[Operation, int]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many pages are not asked for yet."""
        return len(self._waiting)

    def ask(self, operation: Operation, reader: Waiter, size: int) -> None:
        """Submit `operation`, which fetches up to `size` bytes for `reader`, now or when there is
        room.

        `reader` waits for one page at a time. It then calls `came`, with the same size, or
        `forget`.
        """
        self._waiting[reader] = (operation, size)
        self._fill()

    def came(self, size: int) -> None:
        """A page that was asked for has come, or never will."""
        self.in_flight -= size
        self._fill()

    def forget(self, reader: Waiter) -> None:
        """Its page is no longer wanted. One that was submitted already still comes."""
        self._waiting.pop(reader, None)

    def _fill(self) -> None:
        while self._waiting:
            reader, (operation, size) = next(iter(self._waiting.items()))
            if self.in_flight and self.in_flight + size > self._most:
                return
            del self._waiting[reader]
            self.in_flight += size
            self._link.submit(operation, reader, size)
