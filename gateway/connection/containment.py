"""What a bug does that one connection's bytes found: it ends that connection, and nobody else's.

Owns: the log line. Promises: whatever `Exception` came, the connection that it belongs to is closed
with a reset, the line names the kind and the place, and the caller continues.
Exposure: a stranger who found a bug can find it as often as they like, so the lines are rare.
"""

import logging
import traceback
from collections.abc import Callable
from typing import Final, Protocol

from common.rare_log import RareLog

_rarely: Final = RareLog(logging.getLogger("gateway.connection.containment"))


class Breakable(Protocol):
    """A connection."""

    def abort(self) -> None:
        """Close with a reset."""


def contain(connection: Breakable, error: Exception) -> None:
    """End `connection`, for what is done for it has failed in an unexpected way."""
    report(error)
    connection.abort()


def report(error: Exception) -> None:
    """Log a bug's kind and its place. Not its text: that may hold what a stranger chose."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    _rarely.write(
        logging.ERROR,
        "a bug ends one connection: %s in %s (%s, line %d)",
        type(error).__name__,
        frame.name,
        frame.filename,
        frame.lineno or 0,
    )


def contained(connection: Breakable, callback: Callable[[], None]) -> Callable[[], None]:
    """`callback`, made to end `connection` where it fails."""

    def call() -> None:
        try:
            callback()
        except Exception as error:
            contain(connection, error)

    return call
