"""A program of a test that kills itself at one of its steps, whichever it is told.

Imported by such programs, which run in processes of their own.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Life:
    """Ends with step number `last`, if there are so many; `steps` counts them."""

    def __init__(self, last: int) -> None:
        self.steps = 0
        self._last = last

    def step(self) -> None:
        self.steps += 1
        if self.steps == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: object, *names: str) -> None:
        """Make a step before and after each call of these functions."""
        for name in names:
            setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            self.step()
            done = function(*given, **named)
            self.step()
            return done

        return wrapped
