"""A connection that does nothing but be there, for what connections share out among themselves."""

from gateway.connection.timeouts import Awaited, Deadline


class FakeConnection:
    """A `Connection`. A test's own class says what an end of it changes."""

    def __init__(self, *, authenticated_as: bytes | None = None, idle_since: float | None = None) -> None:
        self.authenticated_as = authenticated_as
        self.idle_since = idle_since
        self.parked_since: float | None = None
        self.closed = False
        self.deadline: Deadline | None = None
        self.missed: list[Awaited] = []

    def abort(self) -> None:
        self.closed = True

    def timed_out(self, awaited: Awaited) -> None:
        self.missed.append(awaited)

    def flush(self) -> None:
        raise AssertionError("it has nothing to write")

    take_turn = stop = flush
