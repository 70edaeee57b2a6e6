"""Waiting when the server refuses a request as too fast.

Owns: how long is waited where the server asks for it.
Promises: nothing waits longer than `LONGEST_PATIENCE` because a server says so.

Source: docs/client.md.
"""

from collections.abc import Callable
from typing import Final

from common.client_protocol.responses import ErrorResponse
from common.values import RefusalReason

LONGEST_PATIENCE: Final = 60
"""Total seconds that one action waits when the server asks for it."""


class Patience:
    """Waiting for one request that the server may refuse as too fast. `rest` as for `Retry`."""

    def __init__(self, rest: Callable[[float], None], tell: Callable[[str], None]) -> None:
        self._rest = rest
        self._tell = tell
        self._left = LONGEST_PATIENCE

    def suffices(self, answer: ErrorResponse) -> bool:
        """Whether it is such a refusal, with an acceptable time to wait."""
        return answer.reason == RefusalReason.TOO_FAST and 0 < answer.retry_after <= self._left

    def wait(self, answer: ErrorResponse) -> None:
        """Wait for the time that the server asks for, and say so once. Raises what `rest`
        raises.
        """
        seconds = answer.retry_after
        if self._left == LONGEST_PATIENCE:
            self._tell(f"The server was asked too much in a short time; this goes on by itself in {seconds} s.")
        self._left -= seconds
        self._rest(seconds)
