"""Log lines that others can cause as often as they like.

Owns: how many of them are written. Promises: at most `LINES_A_MINUTE` of one kind in a minute; the
first line after others were left out says how many.
Exposure: strangers choose how often.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

LINES_A_MINUTE: Final = 10
_MINUTE: Final = 60.0


def _fields_of(extra: Mapping[str, object] | None) -> Mapping[str, object]:
    found = (extra or {}).get("fields", {})
    assert isinstance(found, Mapping)
    return found


class RareLog:
    """A limiter for one kind of line. `clock` gives monotonic seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._minute_began: float | None = None
        self._written = 0
        self._left_out = 0

    def write(self, level: int, message: str, *values: object, extra: Mapping[str, object] | None = None) -> None:
        """Log `message` with `values` at a level of `logging`, or count that it was left out.
        `extra`: see `common.server_log.fields`.
        """
        now = self._clock()
        if self._minute_began is None or now - self._minute_began >= _MINUTE:
            self._minute_began, self._written = now, 0
        if self._written >= LINES_A_MINUTE:
            self._left_out += 1
            return
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        if left_out:
            message, values = f"{message} (%d more lines like this were left out)", (*values, left_out)
            extra = {"fields": {**_fields_of(extra), "left_out": left_out}}
        self._log.log(level, message, *values, extra=extra)
