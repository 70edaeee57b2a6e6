"""Tracks what a connection's 604s handed out, until it is settled or released.

Owns: the observations of one connection's transport that `gateway.delivery.evidence` judges, how
often they are made, and the report to the worker.
Promises: every lease that is noted here ends as `Settle` or `Release`, exactly once, while the
gateway lives.
Exposure: the client decides what there is to see.

Source: docs/guarantees.md, "What counts as evidence".
"""

from collections.abc import Callable, Sequence
from typing import Final

from common import fail_points
from common.fail_points import FailPoint
from common.storage_protocol.operations import Release, Settle
from gateway.connection.containment import Breakable
from gateway.connection.context import SessionContext
from gateway.connection.transport import Transport
from gateway.delivery.evidence import Evidence, Lease
from gateway.storage.link import NOBODY

_SHORTEST_DELAY: Final = 0.002
_LONGEST_DELAY: Final = 0.25


class Delivery:
    """Made with a connection's first lease. `nothing_held`: whether every byte that was
    read belongs to a request.
    """

    __slots__ = ("_connection", "_context", "_delay", "_evidence", "_nothing_held", "_requesters", "_transport")

    def __init__(
        self, transport: Transport, context: SessionContext, connection: Breakable, nothing_held: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._context = context
        self._connection = connection
        self._nothing_held = nothing_held
        self._evidence = Evidence()
        self._delay = 0.0
        self._requesters: dict[int, bytes] = {}
        """Of leases: their shards have to hear how they end."""

    @property
    def open(self) -> bool:
        """Whether any lease is unsettled."""
        return self._evidence.open

    @property
    def wanted(self) -> bool:
        """Whether a response was not yet seen acknowledged with no input after it."""
        return self._evidence.wanted

    def written(self, lease: Lease) -> None:
        """The whole response that carries `lease` was handed to the kernel."""
        self._evidence.written(lease)
        self._requesters[lease.number] = lease.requester
        fail_points.reach(FailPoint.GATEWAY_AFTER_WAITING)

    def probe(self) -> None:
        """Check whether the last response was acknowledged; if not, check again a little later."""
        wanted = self._evidence.wanted
        if not wanted:
            return
        self._evidence.probe(
            unacknowledged=self._transport.unacknowledged(),
            input_empty=self._nothing_held() and not self._transport.input_waiting(),
            segments=self._transport.segments_in(),
        )
        if self._evidence.wanted and not self._delay:
            self._look_after(_SHORTEST_DELAY)

    def _look_after(self, delay: float) -> None:
        self._delay = delay
        self._context.call_at(self._context.loop.now + delay, self._look_again, self._connection)

    def _look_again(self) -> None:
        delay, self._delay = self._delay, 0.0
        if self._evidence.wanted:
            self._look_after(min(delay * 2, _LONGEST_DELAY))
            self.probe()

    def before_read(self) -> None:
        """There is input: note the state of the connection before it is read."""
        if self._evidence.wanted:
            self._evidence.first_input(
                unacknowledged=self._transport.unacknowledged(), segments=self._transport.segments_in()
            )

    def request_came(self) -> None:
        """A byte of a request came: settle what that is evidence for."""
        self._tell(self._evidence.request_came())

    def release(self) -> None:
        """No more evidence can come: release what is unsettled."""
        self._tell(self._evidence.broken())

    def watch_for_reset(self, settled: Callable[[], None], broken: Callable[[], None]) -> None:
        """The client has ended its side: settle once all is acknowledged for `reset_watch` seconds
        without a reset.

        Then `settled` is called; otherwise `broken`, which has to release.
        """
        self._watch_on(self._context.loop.now, None, settled, broken)

    def _watch_on(
        self, since: float, clean_since: float | None, settled: Callable[[], None], broken: Callable[[], None]
    ) -> None:
        if not self._evidence.open:
            return
        now = self._context.loop.now
        settings = self._context.settings
        if clean_since is None and self._transport.unacknowledged() == 0:
            clean_since = now
        if self._transport.error() or (clean_since is None and now - since >= settings.response_silence):
            broken()
        elif clean_since is not None and now - clean_since >= settings.reset_watch:
            self._tell(self._evidence.ended())
            settled()
        else:
            next_look = now + _LONGEST_DELAY if clean_since is None else clean_since + settings.reset_watch
            self._context.call_at(
                next_look, lambda: self._watch_on(since, clean_since, settled, broken), self._connection
            )

    def _tell(self, operations: Sequence[Settle | Release]) -> None:
        fail_points.reach(FailPoint.GATEWAY_BEFORE_SETTLE, fail_points.names(operations))
        link = self._context.link
        for operation in operations:
            link.of(self._requesters.pop(operation.lease)).submit(operation, NOBODY)
