"""A connection, as the parts of the gateway that all connections share see it.

Owns: one protocol. Promises: who shares something out among connections (places, memory, turns,
deadlines, the turn's writes) knows this of them and nothing else.
Exposure: none of its own.
"""

from typing import Protocol

from gateway.connection.timeouts import Timed


class Connection(Timed, Protocol):
    """A session. `authenticated_as`: the user it is authenticated as, if any."""

    authenticated_as: bytes | None

    @property
    def idle_since(self) -> float | None:
        """When it last said or took something, in monotonic seconds; None where it is
        authenticated or waits for us.
        """

    @property
    def parked_since(self) -> float | None:
        """The same of one that is authenticated and at most waits for mail; None for any other."""

    @property
    def closed(self) -> bool:
        """Whether it is gone."""

    def flush(self) -> None:
        """Write what was answered in this turn."""

    def take_turn(self) -> None:
        """Do a bounded amount of work; wait again where there is more."""

    def stop(self) -> None:
        """Answer what was asked, read nothing more, then close."""
