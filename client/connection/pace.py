"""How slow the other side may be: silence has its own limit, and this is that of a trickle.

Owns: the least that has to pass in a time of waiting.
Promises: whoever sends, or takes, a byte now and then is given up after a bounded time; whoever
keeps to the least never is. Only time that was spent waiting counts: not what a person takes over a
message, nor the sleep of a laptop. The window begins anew whenever the least has passed, so a burst
pays for no more than the window that it is in.
Exposure: counts what a server does that need not be honest.
"""

from typing import Final

LEAST: Final = 4096
"""Bytes that have to pass within `WITHIN`; a modem of the 1970s is faster."""
WITHIN: Final = 60.0
"""Seconds of waiting."""


class Pace:
    """Counts the bytes that pass, and the seconds that are waited for them."""

    def __init__(self) -> None:
        self._passed = 0
        self._waited = 0.0

    def begin(self) -> None:
        """Begin again: what comes now has all the time."""
        self._passed = 0
        self._waited = 0.0

    def passed(self, count: int) -> None:
        """Count bytes that went through, in either direction."""
        self._passed += count
        if self._passed >= LEAST:
            self.begin()

    def waited(self, seconds: float) -> None:
        """Count time that was spent waiting for more of them."""
        self._waited += seconds

    @property
    def left(self) -> float:
        """Give the seconds that may be waited yet; 0 where it is over."""
        return max(0.0, WITHIN - self._waited)
