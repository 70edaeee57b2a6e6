"""Counts of what the gateway has done.

Owns: the counts that belong to no other part. Promises: the loop only adds.
Exposure: strangers choose what is counted; the keys are from tables.
"""

from typing import Final

from common.client_protocol.requests import FIXED, LargeSendRequest, Request, RequestCode, SendRequest
from common.values import RefusalReason

_CODES: Final = {row.request: code for code, row in FIXED.items()}
"""Of the requests that have one; a send's depends on its token."""


class Counts:
    """The counts of one gateway since its start."""

    __slots__ = ("accepted", "authenticated", "bytes_in", "bytes_out", "limited", "no_place", "refusals", "requests")

    def __init__(self) -> None:
        self.accepted = 0
        """Connections."""
        self.limited = 0
        """Connections that were closed at once, for the limits of their addresses."""
        self.no_place = 0
        """How often accepting had to pause."""
        self.authenticated = 0
        """Connections that are, now."""
        self.bytes_in = 0
        self.bytes_out = 0
        """Inside of TLS."""
        self.requests: dict[int, int] = dict.fromkeys(RequestCode, 0)
        """But for the 603s and 642s of runs, which the link counts."""
        self.refusals: dict[int, int] = dict.fromkeys(RefusalReason, 0)

    def request(self, request: Request) -> None:
        """A request was taken up."""
        if isinstance(request, SendRequest | LargeSendRequest):
            self.requests[RequestCode.SEND if request.token is None else RequestCode.SEND_ONCE] += 1
        else:
            self.requests[_CODES[type(request)]] += 1
