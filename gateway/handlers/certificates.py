"""649: which certificates are the server's, now and after the next change.

Owns: one 2149. Promises: the first digest is that of the certificate shown on this connection, so a
client that came with a pin may take the other one as the next pin.
Exposure: anybody who has greeted may ask.

Source: docs/client-protocol.md, "649, certificates".
"""

from common.client_protocol.requests import CertificatesRequest
from common.client_protocol.responses import encode_certificates
from common.values import RefusalReason
from gateway.connection.transport import NO_BINDING
from gateway.handlers.base import HandlerContext

_MOST: int = 2


class CertificatesHandler:
    """A `RequestHandler`."""

    __slots__ = ("_connection", "_over")

    def __init__(self, connection: HandlerContext, request: CertificatesRequest) -> None:
        self._connection = connection
        self._over = False
        # The caller first has to learn that this is going on: answer at the end of the turn.
        context = connection.context
        context.call_at(context.loop.now, self._answer, connection)

    def _answer(self) -> None:
        connection = self._connection
        if self._over:
            return
        shown = connection.binding
        if not connection.greeted:
            connection.refuse(RefusalReason.PROOF_NEEDED)
        elif shown == NO_BINDING:
            connection.refuse(RefusalReason.MALFORMED)
        else:
            others = [digest for digest in connection.context.certificates() if digest != shown]
            connection.write(encode_certificates([shown, *others][:_MOST]))
        connection.done()

    def resume_output(self) -> None:
        """There is no output to resume."""

    def input_came(self) -> None:
        """Later requests wait."""

    input_ended = input_came

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._over = True
