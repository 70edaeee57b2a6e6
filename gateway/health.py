"""Whether the gateway is alive, and whether it is ready for clients.

Owns: what `/live` and `/ready` say. Promises: the loop beats each second, and notes numbers; the
thread that answers only reads them.
Exposure: none of its own; see `common.status_server`.

Source: docs/operations.md, "Health".
"""

from collections.abc import Callable
from typing import Protocol

from common.status_server import BEAT, SILENT_AFTER, Pages, health_page, loop_problem
from gateway.event_loop import EventLoop


class WatchedLink(Protocol):
    """What health checks need of the link to the storage worker. Monotonic seconds."""

    @property
    def answered_at(self) -> float:
        """When it answered last."""

    @property
    def is_joined(self) -> bool:
        """Whether the worker is connected, and has greeted."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""


class Health:
    """The health of one gateway, from now on. `beat`: also called at each beat."""

    def __init__(self, loop: EventLoop, link: WatchedLink, beat: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._also = beat
        self._link = link
        self._turned_at = self._nothing_waited_at = loop.now
        loop.call_at(loop.now + BEAT, self._beat)

    def _beat(self) -> None:
        now = self._turned_at = self._loop.now
        if self._link.idle:
            self._nothing_waited_at = now
        if self._also is not None:
            self._also()
        self._loop.call_at(now + BEAT, self._beat)

    def live_problem(self) -> str | None:
        """Why the loop is stuck, or None. Any thread may call it."""
        return loop_problem(self._loop.clock(), self._turned_at)

    def ready_problem(self) -> str | None:
        """Why clients would not be served, or None. Any thread may call it."""
        problem = self.live_problem()
        if problem is not None:
            return problem
        if not self._link.is_joined:
            return "the storage worker is not there"
        waited = self._turned_at - max(self._nothing_waited_at, self._link.answered_at)
        return None if waited < SILENT_AFTER else f"the storage worker has not answered for {waited:.0f} s"

    def pages(self) -> Pages:
        """The pages, by path."""
        return {"/live": health_page(self.live_problem), "/ready": health_page(self.ready_problem)}
