"""What each event of a connection leads to: a refusal, an operation that is submitted at once, or a
handler that takes over the connection.

Owns: the answer to frames that are not requests, and after how many of them the connection ends.
Requests are dispatched by `gateway.handlers.dispatch`; `gateway.connection.session` decides when an
event is taken up.
Promises: every event is answered, or handed to something that will answer it. The caller learns how
much of a turn's work it was.
Exposure: strangers choose every event.

Source: docs/client-protocol.md, "Framing".
"""

import logging
from typing import Final, Protocol

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
    """What this module needs of a session. `malformed`: how many malformed frames came."""

    malformed: int
    output: Output

    @property
    def began_as_tls(self) -> bool:
        """Whether its first request was refused and looks like a TLS handshake."""

    def submit(self, operation: Flowing, cost: int) -> None:
        """Submit a pipelined operation; its outcome is answered in order."""

    def hold(self, event: RefusedRequests) -> None:
        """Take up `event` next, once everything before it is answered."""

    def hand_over(self, handler: RequestHandler) -> None:
        """Let `handler` take over the connection."""


def take_up(session: EventContext, event: Event | RefusedRequests) -> int:
    """Answer an event, or start what will answer it. Returns how much of a turn's work it is.

    Sends in the user's own name do not come here, because the session gives them to the link
    itself; only those beyond a limit do.
    """
    match event:
        case Malformed(reason, fatal):
            session.refuse(reason)
            session.malformed += 1
            if session.malformed == 1 and session.began_as_tls:
                _rarely.write(
                    logging.INFO, "a TLS handshake arrived at a plain port; --tls-listen has a port of its own"
                )
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
            session.context.counts.requests[event.code] += len(event.recipients)
            session.refuse(FOREIGN.reason, times=len(event.recipients))
            return len(event.recipients) * SEND_COST
        case RefusedRequests(number, refused):
            if refused.reason == RefusalReason.TOO_FAST:
                limit_refused("requests", session.authenticated_as, number)
            session.refuse(refused.reason, refused.retry_after, number)
            return max(MALFORMED_COST, number * SEND_COST)
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
