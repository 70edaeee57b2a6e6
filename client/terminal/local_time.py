"""A moment as a person reads it, whatever number it came as.

Owns: how a time is shown. Promises: one that no calendar has is shown as unknown, and breaks
nothing: a server, or whoever altered a store, may name any number.
Exposure: shows numbers that strangers chose.
"""

from datetime import datetime
from typing import Final

UNKNOWN: Final = "unknown time"


def local(milliseconds: int) -> datetime | None:
    """Return the local time of Unix milliseconds; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def shown(milliseconds: int) -> str:
    """Return date and minute of Unix milliseconds."""
    when = local(milliseconds)
    return UNKNOWN if when is None else f"{when:%Y-%m-%d %H:%M}"
