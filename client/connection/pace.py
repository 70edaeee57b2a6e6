"""How slow the other side may be. Silence has its own limit; this is the limit for a trickle.

Owns: the minimum number of bytes per time of waiting.
Promises: a peer that sends or accepts only a byte now and then is given up after a bounded time;
one that keeps to the minimum never is. Only time spent waiting counts, not the time that a user
takes to write, nor the sleep of a laptop. The window starts over whenever the minimum has passed,
so a burst counts only for its own window.
Exposure: measures a server that need not be honest.
"""

from typing import Final

LEAST: Final = 4096
"""Bytes that have to pass within `WITHIN`; a modem of the 1970s is faster."""
WITHIN: Final = 60.0
"""Seconds of waiting."""


class Pace:
    """Counts bytes, and the seconds spent waiting for them."""

    def __init__(self) -> None:
        self._passed = 0
        self._waited = 0.0

    def begin(self) -> None:
        """Start a new window."""
        self._passed = 0
        self._waited = 0.0

    def passed(self, count: int) -> None:
        """Count bytes, in either direction."""
        self._passed += count
        if self._passed >= LEAST:
            self.begin()

    def waited(self, seconds: float) -> None:
        """Count time spent waiting for more bytes."""
        self._waited += seconds

    @property
    def left(self) -> float:
        """The seconds left to wait; 0 if they are over."""
        return max(0.0, WITHIN - self._waited)
