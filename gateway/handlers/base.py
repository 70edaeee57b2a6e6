"""The interface of request handlers, and what they may ask of their connection.

Owns: the two interfaces between a session and the handler of its current request (a list, a fetch,
an upload, a proof, a greeting).
Promises: handlers know no sockets, and the session does not know their steps.
Exposure: none of its own.
"""

from typing import Protocol

from common.client_protocol.server_connection import ContentData, ContentEnd
from gateway.authentication import Challenge
from gateway.connection.context import SessionContext
from gateway.delivery.evidence import Lease
from gateway.limits import Allowance


class RequestHandler(Protocol):
    """Has a connection for itself until it calls `done`."""

    def resume_output(self) -> None:
        """All output was taken, or there is room again: continue. May be called at any time."""

    def input_came(self) -> None:
        """Input came while the handler is active."""

    def input_ended(self) -> None:
        """The client has ended its side, or the gateway reads nothing more: only what
        came already is there.
        """

    def abandon(self) -> None:
        """The connection is gone."""


class HandlerContext(Protocol):
    """What a handler sees of its session. `allowance`: its limits; None if it has none."""

    context: SessionContext
    authenticated_as: bytes | None
    greeted: bool
    features: int
    allowance: Allowance | None

    @property
    def binding(self) -> bytes:
        """The channel binding of its transport."""

    @property
    def challenge(self) -> Challenge:
        """The connection's nonce and attempts."""

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn."""

    def refuse(self, reason: int, retry_after: int = 0, times: int = 1) -> None:
        """Answer that the request was not done, or so many equal ones."""

    def done(self) -> None:
        """The handler is done: continue with the next request."""

    def reserve_inflight(self, size: int) -> None:
        """`size` bytes (negative: fewer) of this client are in flight to the worker."""

    def resume(self) -> None:
        """Something it waited for is there: call `resume_output` at the end of this turn."""

    def wait_for_turn(self) -> None:
        """Call `resume_output` when others have had their turn and the worker has room."""

    def next_content(self) -> ContentData | ContentEnd | None:
        """The next part of an upload's content."""

    def lease_written(self, lease: Lease) -> None:
        """The whole response that carries `lease` was handed to the kernel."""

    def end_after_answers(self) -> None:
        """Take up nothing more; once all is written, half-close, drain, close."""

    def abort(self) -> None:
        """Close with a reset: the outcome is unknown, or a response can't be completed."""
