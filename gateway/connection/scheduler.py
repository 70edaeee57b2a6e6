"""Scheduling: connections with more work than one turn allows take turns.

Owns: the queue of connections that wait for their turn, and when the worker can take more.
Promises: connections are served one after the other, a bounded amount of work each time, and only
while the worker has less than `Settings.work_in_flight` queued; so a client that asks for one thing
at a time never waits for more than that. A connection with nothing unanswered does not queue for
its first piece of work.
Exposure: strangers choose how many of them wait.
"""

from collections import OrderedDict
from typing import Final

from gateway.connection.base import Connection
from gateway.connection.containment import contain
from gateway.event_loop import EventLoop
from gateway.settings import Settings
from gateway.storage.link import StorageLink
from gateway.storage.page_budget import PageBudget, ShardPages
from gateway.storage.shard_links import ShardLinks

_SERVED_AT_ONCE: Final = 16
"""Connections of the queue that one turn of the loop serves, before it looks at the
sockets again.
"""
_MOST_WORKERS: Final = 8
"""How many workers may each have `Settings.work_in_flight`; more of them share so much."""
_CROWDED: Final = 512
"""Waiting connections from which on less is read of each socket: what was read and not
taken up is kept in memory.
"""


class Scheduler:
    """One for the gateway."""

    def __init__(
        self, loop: EventLoop, link: StorageLink | ShardLinks, pages: PageBudget | ShardPages, settings: Settings
    ) -> None:
        self._loop = loop
        self._link = link
        self._pages = pages
        self._most = settings.work_in_flight * min(link.shards, _MOST_WORKERS)
        self._most_bytes = settings.total_in_flight // 2
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        """The queue."""
        self.refused: OrderedDict[Connection, None] = OrderedDict()
        """Those that join it when it is served next."""

    @property
    def has_capacity(self) -> bool:
        """Whether the worker may get more work from connections that already wait for answers."""
        return self._link.bytes_in_flight - self._pages.in_flight < self._most

    def may_read(self, inflight: int) -> bool:
        """Whether a connection with this many bytes in flight is read now.

        One with none is read, unless the worker already has half of all that may be in flight.
        """
        in_flight = self._link.bytes_in_flight
        return in_flight < self._most or (self.has_capacity if inflight else in_flight < self._most_bytes)

    @property
    def crowded(self) -> bool:
        """Whether many wait."""
        return len(self.waiting) >= _CROWDED

    def wait(self, connection: Connection) -> None:
        """Append `connection` to the queue, unless it is in it."""
        self.waiting[connection] = None

    def wait_refused(self, connection: Connection) -> None:
        """The same after something was refused. It is not served twice in one turn, also where
        nobody else waits.
        """
        self.refused[connection] = None

    def leave(self, connection: Connection) -> None:
        """Remove it from the queue."""
        self.waiting.pop(connection, None)
        self.refused.pop(connection, None)

    def serve(self) -> None:
        """Serve the first in the queue. Called at the end of each turn of the loop."""
        if self.refused:
            self.waiting.update(self.refused)
            self.refused.clear()
        served = 0
        while self.waiting and served < _SERVED_AT_ONCE and self.has_capacity:
            connection, _ = self.waiting.popitem(last=False)
            try:
                connection.take_turn()
            except Exception as error:
                contain(connection, error)
            served += 1

    def stay_awake(self) -> None:
        """Keep the loop from sleeping if the next in the queue can be served. The last step of each
        turn of the loop.
        """
        if self.refused or (self.waiting and self.has_capacity):
            self._loop.call_at(self._loop.now, _next_turn)


def _next_turn() -> None:
    """Serve the queue in this turn."""
