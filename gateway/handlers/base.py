"""What may take a connection for itself, and what it may ask of the connection.

Owns: the two faces between a session and the things it is busy with (a list, a fetch, an upload, a
proof, a greeting).
Promises: those modules know no sockets, and the session does not know their steps.
Exposure: none of its own.
"""

from typing import Protocol

from common.client_protocol.server_connection import ContentData, ContentEnd
from gateway.authentication import Challenge
from gateway.connection.context import SessionContext
from gateway.delivery.evidence import Lease
from gateway.limits import Allowance


class RequestHandler(Protocol):
    """Something that takes a connection for itself until it says `done`."""

    def resume_output(self) -> None:
        """The socket took all there was, or there is room again: continue. Called often;
        must not mind.
        """

    def input_came(self) -> None:
        """Bytes came while this is going on."""

    def input_ended(self) -> None:
        """The client has ended its side, or the gateway reads nothing more: only what
        came already is there.
        """

    def abandon(self) -> None:
        """The connection is gone."""


class HandlerContext(Protocol):
    """A session, as what it is doing sees it. `allowance`: None where no limits hold for it."""

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
        """Say `data` at the end of this turn."""

    def refuse(self, reason: int, retry_after: int = 0) -> None:
        """Say that it was not done."""

    def done(self) -> None:
        """Go on with the next request."""

    def reserve_inflight(self, size: int) -> None:
        """`size` bytes (negative: fewer) of this client are in flight to the worker."""

    def resume(self) -> None:
        """Something it waited for is there: `resume_output` at the end of this turn."""

    def wait_for_turn(self) -> None:
        """`resume_output` when others had their turn and the worker has room."""

    def next_content(self) -> ContentData | ContentEnd | None:
        """The next part of an upload's content."""

    def lease_written(self, lease: Lease) -> None:
        """The whole response that carries `lease` was handed to the kernel."""

    def end_after_answers(self) -> None:
        """Take up nothing more; once all is written, half-close, drain, close."""

    def abort(self) -> None:
        """Close with a reset: the outcome is unknown, or a response can't be completed."""
