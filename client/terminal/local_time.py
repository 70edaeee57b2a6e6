"""Times as a person reads them, whatever number they came as. Owns: how a time is shown. Promises:
a time outside the calendar is shown as unknown: a server, or whoever altered a store, may name any
number.
Exposure: shows numbers that strangers chose.
"""

from datetime import datetime
from typing import Final

UNKNOWN: Final = "unknown time"


def local(milliseconds: int) -> datetime | None:
    """Return the local time of Unix milliseconds; None for a time outside the calendar."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def shown(milliseconds: int) -> str:
    """Return date and minute of Unix milliseconds."""
    when = local(milliseconds)
    return UNKNOWN if when is None else f"{when:%Y-%m-%d %H:%M}"
