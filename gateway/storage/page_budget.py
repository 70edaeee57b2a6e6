"""How many bytes of mailbox and list pages are in flight from the worker at once.

Owns: the operations that fetch a page, while there is no room for their pages.
Promises: no more than `Settings.pages_in_flight` bytes of pages are in flight at a time, in the
order in which they were asked for, so that a turn of the worker stays short however many clients
fetch; for a client that has gone, no page is asked for and nothing is kept.
Exposure: none of its own; clients choose how many of them fetch.
"""

from collections import OrderedDict
from typing import Final

from common.shards import DIRECTORY
from common.storage_protocol.operations import Operation
from gateway.settings import Settings
from gateway.storage.link import StorageLink, Waiter
from gateway.storage.shard_links import ShardLinks

_LEAST: Final = 4 * 1024 * 1024


class PageBudget:
    """One for each worker, of which there are `workers`."""

    def __init__(self, link: StorageLink, settings: Settings, workers: int = 1) -> None:
        self._link = link
        most = settings.pages_in_flight
        self._most = max(most // workers, min(most, _LEAST))
        self.in_flight = 0
        self._waiting: OrderedDict[Waiter, tuple[Operation, int]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many pages are not asked for yet."""
        return len(self._waiting)

    def of(self, client_id: bytes) -> "PageBudget":
        """Where there is one worker, the pages of all users are its."""
        return self

    @property
    def directory(self) -> "PageBudget":
        """So is the list of users."""
        return self

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


class ShardPages:
    """A budget for each of several workers, so that one that does not answer holds up nobody else.

    What one has of `Settings.pages_in_flight` shrinks with their number, down to `_LEAST` bytes.
    """

    def __init__(self, links: ShardLinks, settings: Settings) -> None:
        self._links = links
        self._budgets = [PageBudget(link, settings, links.shards) for link in links.links]
        self.directory = self._budgets[DIRECTORY]

    def of(self, client_id: bytes) -> PageBudget:
        """The budget of a user's worker."""
        return self._budgets[self._links.by_first_byte[client_id[0]]]

    @property
    def in_flight(self) -> int:
        """Of all workers."""
        return sum([budget.in_flight for budget in self._budgets])

    @property
    def waiting(self) -> int:
        """How many pages are not asked for yet."""
        return sum([budget.waiting for budget in self._budgets])
