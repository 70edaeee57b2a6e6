"""Steps that take as long as many messages: a handshake's, the check of a signature.

Owns: those that wait.
Promises: one turn of the loop takes a bounded number of them, first come, first served; while any
wait, the loop does not sleep. A step that raises ends its owner's connection and nothing else.
Exposure: strangers choose how many wait, by their connections, each of which waits for one.
"""

from collections import deque
from collections.abc import Callable

from gateway.connection.containment import Breakable, contain
from gateway.event_loop import EventLoop


class SlowSteps:
    """Of one kind, `most` in a turn."""

    def __init__(self, loop: EventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._waiting: deque[tuple[Breakable, Callable[[], None]]] = deque()
        loop.at_turn_end(self._serve)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, owner: Breakable, step: Callable[[], None]) -> None:
        """Call `step` at the end of this turn, or of a later one. It has to find out whether it is
        still wanted.
        """
        self._waiting.append((owner, step))

    def _serve(self) -> None:
        waiting = self._waiting
        for _ in range(min(len(waiting), self._most)):
            owner, step = waiting.popleft()
            try:
                step()
            except Exception as error:
                contain(owner, error)
        if waiting:
            self._loop.call_at(self._loop.now, _next_turn)


def _next_turn() -> None:
    """The loop turns."""
