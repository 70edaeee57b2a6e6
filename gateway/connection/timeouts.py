"""Deadlines: what a connection has to do, and by when.

Owns: the connections that have a deadline, and when one has passed.
Promises: a connection has one deadline at most. It passes no sooner than it says and at most
`_SWEEP` seconds later. All are checked once in that time, however many there are; a connection
without one costs nothing.
Exposure: strangers choose how many connections have one.

Source: docs/client-protocol.md, "Limits and time-outs".
"""

from enum import Enum, auto
from functools import partial
from typing import Final, Protocol

from common.client_protocol.server_connection import Phase, ServerConnection
from gateway.connection.containment import Breakable, contained
from gateway.event_loop import EventLoop
from gateway.settings import Settings

_SWEEP: Final = 0.25


class Awaited(Enum):
    """What has to happen before the deadline."""

    HEADER = auto()
    """The rest of a header."""
    PAYLOAD = auto()
    """The next byte of a payload; of an upload, as many as it is slow."""
    SUSPICION = auto()
    """A byte that explains an impossible size."""
    RESPONSE = auto()
    """That the client takes more of an answer."""
    DRAIN = auto()
    """The end of the client's side, behind ours."""


class Deadline:
    """`at` in monotonic seconds."""

    __slots__ = ("at", "awaited")

    def __init__(self, awaited: Awaited, at: float) -> None:
        self.awaited = awaited
        self.at = at


class Timed(Breakable, Protocol):
    """A connection. `deadline` is set here alone."""

    deadline: Deadline | None

    def timed_out(self, awaited: Awaited) -> None:
        """The deadline has passed, and is cleared."""


class Timeouts:
    """One for the gateway."""

    def __init__(self, loop: EventLoop, settings: Settings) -> None:
        self._loop = loop
        self._seconds = {
            Awaited.HEADER: settings.header_time,
            Awaited.PAYLOAD: settings.payload_silence,
            Awaited.SUSPICION: settings.suspicion_silence,
            Awaited.RESPONSE: settings.response_silence,
            Awaited.DRAIN: settings.drain_time,
        }
        self._slowest_upload = settings.slowest_upload
        self._timed: set[Timed] = set()
        loop.call_at(loop.now + _SWEEP, self._sweep)

    def start(self, connection: Timed, awaited: Awaited) -> None:
        """Give `connection` the full time for this, replacing any other deadline."""
        connection.deadline = Deadline(awaited, self._loop.now + self._seconds[awaited])
        self._timed.add(connection)

    def clear(self, connection: Timed) -> None:
        """Clear the deadline."""
        if connection.deadline is not None:
            connection.deadline = None
            self._timed.discard(connection)

    def await_input(
        self, connection: Timed, core: ServerConnection, came: int, *, is_upload: bool, in_record: bool
    ) -> None:
        """The connection is read, and `core` has taken in all input, `came` bytes just now.
        `in_record`: the transport holds part of a record; its rest is awaited like that of a
        payload.
        """
        phase = core.phase
        if in_record and phase is Phase.BETWEEN:
            phase = Phase.PAYLOAD
        deadline = connection.deadline
        if phase is Phase.BETWEEN:
            self.clear(connection)
        elif phase is Phase.HEADER:
            if deadline is None or deadline.awaited is not Awaited.HEADER:
                self.start(connection, Awaited.HEADER)
        elif came or deadline is None or deadline.awaited not in (Awaited.PAYLOAD, Awaited.SUSPICION):
            if core.suspicious:
                self.start(connection, Awaited.SUSPICION)
            elif is_upload and deadline is not None and deadline.awaited is Awaited.PAYLOAD:
                # What came of it holds disk. Each byte gives the time that it may take, no more, or
                # a trickle would go on for ever. While we do not listen nothing runs out: who is
                # slow because of us loses nothing by it.
                latest = self._loop.now + self._seconds[Awaited.PAYLOAD]
                deadline.at = min(latest, deadline.at + came / self._slowest_upload)
            else:
                self.start(connection, Awaited.PAYLOAD)

    def _sweep(self) -> None:
        now = self._loop.now
        due = [(one, one.deadline) for one in self._timed if one.deadline is not None and one.deadline.at <= now]
        for connection, deadline in due:
            # One that went before it may have ended it.
            if connection.deadline is deadline:
                self.clear(connection)
                contained(connection, partial(connection.timed_out, deadline.awaited))()
        self._loop.call_at(now + _SWEEP, self._sweep)
