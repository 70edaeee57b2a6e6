"""What the audit log says of limits.

Owns: the line of a refused limit and its fields. Promises: no address; few lines a minute, the next
one counts those that were left out.
Exposure: strangers choose how often.

Source: docs/operations.md, "The audit log".
"""

import logging
from typing import Final, Literal

from common.rare_log import RareLog
from common.server_log import AUDIT, fields

rarely: Final = RareLog(AUDIT)


def limit_refused(limit: Literal["connections", "requests", "contents"], user: bytes | None, number: int) -> None:
    """So many were refused, of an address, or of the user who has signed in."""
    said: dict[str, str | int] = {"event": "limit_refused", "limit": limit, "number": number}
    if user is not None:
        said["user"] = user.hex()
    rarely.write(
        logging.INFO,
        "refused %d %s of %s: beyond a limit",
        number,
        limit,
        "an address" if user is None else f"user {user.hex()}",
        extra=fields(**said),
    )
