"""Containment of bugs: one that is met while serving a connection ends that connection alone.

Owns: the log line. Promises: after any `Exception` the connection that it belongs to is closed with
a reset, the log line names its type and place, and the caller continues.
Exposure: a stranger who found a bug can trigger it as often as they like, so the log lines are
limited.
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
    """End `connection`, because serving it failed unexpectedly."""
    report(error)
    connection.abort()


def report(error: Exception) -> None:
    """Log a bug's type and place, but not its text, which may contain what a stranger chose."""
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
    """Wrap `callback` so that its failure ends `connection`."""

    def call() -> None:
        try:
            callback()
        except Exception as error:
            contain(connection, error)

    return call
