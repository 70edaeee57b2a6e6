"""What each event of a connection becomes: a refusal, an operation that leaves at once, or a
handler that takes the connection for itself.

Owns: what is answered to frames that are no request, and after how many of them the connection
ends. What each request becomes is `gateway.handlers.dispatch`'s, when an event is taken up
`gateway.connection.session`'s.
Promises: every event has an answer, or something that will give it. It says how much of a turn's
work that was.
Exposure: strangers choose every event.

Source: docs/client-protocol.md, "Framing".
"""

import logging
from typing import Final, Protocol

from common.client_protocol.requests import RequestCode
from common.client_protocol.server_connection import (
    BigEndian,
    ContentData,
    ContentEnd,
    Event,
    Malformed,
    Padded,
    PipelinedSends,
)
from common.client_protocol.versions import PADDED_BLOCK
from common.rare_log import RareLog
from common.storage_protocol.operations import Refused
from common.values import RefusalReason
from gateway.audit import limit_refused
from gateway.connection.output import Output
from gateway.handlers.base import HandlerContext, RequestHandler
from gateway.handlers.dispatch import FOREIGN, MALFORMED_COST, SEND_COST, Flowing, begin, cost_of
from gateway.limits import RefusedRequests

_rarely: Final = RareLog(logging.getLogger("gateway.connection.events"))


class EventContext(HandlerContext, Protocol):
    """A session, as what takes its events up sees it. `malformed`: how many such frames came."""

    malformed: int
    output: Output

    @property
    def began_as_tls(self) -> bool:
        """Whether its first request was refused, and looks like a handshake of TLS."""

    def submit(self, operation: Flowing, cost: int) -> None:
        """Send an operation that flows; its outcome is answered in its turn."""

    def hold(self, event: RefusedRequests) -> None:
        """Take `event` up next, once nothing before it waits for an answer."""

    def hand_over(self, handler: RequestHandler) -> None:
        """`handler` has the connection for itself now."""


def take_up(session: EventContext, event: Event | RefusedRequests) -> int:
    """Answer an event, or begin with what will; how much of a turn's work that is.

    Sends in the user's own name do not come here: the session gives these to the link itself. Those
    of them that are beyond a limit do.
    """
    match event:
        case Malformed(reason, fatal):
            session.refuse(reason)
            session.malformed += 1
            if session.malformed == 1 and session.began_as_tls:
                _rarely.write(logging.INFO, "TLS came to a plain port; --tls-listen is another one")
            if fatal or session.malformed >= session.context.settings.malformed_frames:
                session.end_after_answers()
        case Padded():
            session.write(bytes(-session.output.said % PADDED_BLOCK))
            session.end_after_answers()
        case BigEndian():
            session.output.turn_big_endian()
            return 0
        case ContentData() | ContentEnd():
            raise AssertionError("content outside an upload")
        case PipelinedSends():
            session.context.counts.requests[RequestCode.SEND] += len(event.recipients)
            for _ in event.recipients:
                session.refuse(FOREIGN.reason)
            return len(event.recipients) * SEND_COST
        case RefusedRequests(number, refused):
            if refused.reason == RefusalReason.TOO_FAST:
                limit_refused("requests", session.authenticated_as, number)
            for _ in range(number):
                session.refuse(refused.reason, refused.retry_after)
            return number * SEND_COST
        case _:
            begun = begin(session, event)
            if isinstance(begun, Refused):
                session.hold(RefusedRequests(1, begun))
            elif isinstance(begun, Flowing):
                cost = cost_of(begun)
                session.submit(begun, cost)
                return cost
            else:
                session.hand_over(begun)
    return MALFORMED_COST
