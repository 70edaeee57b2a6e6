"""A connection, as the parts of the gateway that all connections share see it.

Owns: one protocol. Promises: what divides a resource among connections (places, memory, turns,
deadlines, the turn's writes) needs only this of them.
Exposure: none of its own.
"""

from typing import Protocol

from gateway.connection.timeouts import Timed


class Connection(Timed, Protocol):
    """A session. `authenticated_as`: its authenticated user, if any."""

    authenticated_as: bytes | None

    @property
    def idle_since(self) -> float | None:
        """When it last sent or received something, in monotonic seconds; None while it is
        authenticated or waits for the server.
        """

    @property
    def parked_since(self) -> float | None:
        """The same for an authenticated connection that does nothing, or only waits for mail; None
        for any other.
        """

    @property
    def closed(self) -> bool:
        """Whether it is gone."""

    def flush(self) -> None:
        """Write what was answered in this turn."""

    def take_turn(self) -> None:
        """Do a bounded amount of work. If there is more, wait for another turn."""

    def stop(self) -> None:
        """Answer open requests, read nothing more, then close."""
