"""How much memory connections use, and which are closed when it is too much.

Owns: the total that connections hold: incomplete frames and contents, requests that wait for their
turn, answers that were not sent. Together with what is in flight to the worker this is all that is
in flight.
Promises: at the end of each turn of the loop it is at most `Settings.total_in_flight`. To reach
that, connections that hold something are closed, the longest without progress first, and
unauthenticated ones before others.
Exposure: strangers choose what they hold and for how long.
"""

import logging
from collections import OrderedDict
from typing import Final, Protocol

from gateway.connection.containment import Breakable
from gateway.event_loop import EventLoop
from gateway.settings import Settings
from gateway.storage.link import StorageLink
from gateway.storage.shard_links import ShardLinks

log = logging.getLogger("gateway.connection.memory_budget")

_SAY_AGAIN_AFTER: Final = 60.0


class Holder(Breakable, Protocol):
    """A connection. `authenticated_as`: the user it acts for, if any."""

    @property
    def authenticated_as(self) -> bytes | None:
        """The authenticated user. Unauthenticated connections are closed first."""


class MemoryBudget:
    """One for the gateway. Sizes in bytes."""

    def __init__(self, loop: EventLoop, link: StorageLink | ShardLinks, settings: Settings) -> None:
        self._loop = loop
        self._link = link
        self._most = settings.total_in_flight
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        self._say_again_at = 0.0
        self._closed = 0
        self.size = 0

    @property
    def plenty(self) -> bool:
        """Whether at least half of the budget is free."""
        return self.size * 2 < self._most

    def changed(self, holder: Holder, before: int, now: int) -> None:
        """`holder` holds `now` bytes and held `before`."""
        self.size += now - before
        if not now:
            self._holders.pop(holder, None)
        else:
            self._holders[holder] = None
            if now < before:
                self._holders.move_to_end(holder)

    def went_on(self, holder: Holder) -> None:
        """It made progress, or had to wait for the server."""
        if holder in self._holders:
            self._holders.move_to_end(holder)

    def keep_to_budget(self) -> None:
        """Close connections until the budget is met. Called at the end of each turn of the loop."""
        if self.size + self._link.bytes_in_flight <= self._most or not self._holders:
            return
        in_order = [holder for holder in self._holders if holder.authenticated_as is None]
        in_order += [holder for holder in self._holders if holder.authenticated_as is not None]
        for holder in in_order:
            if self.size + self._link.bytes_in_flight <= self._most:
                break
            holder.abort()
            self._closed += 1
        self._say()

    def _say(self) -> None:
        now = self._loop.now
        if now >= self._say_again_at:
            self._say_again_at = now + _SAY_AGAIN_AFTER
            log.warning(
                "more than %d MiB in flight: the slowest connections are closed, %d so far",
                self._most >> 20,
                self._closed,
            )
