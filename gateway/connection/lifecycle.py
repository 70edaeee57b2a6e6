"""How a connection ends, and what happens to the mail that was sent on it.

Owns: the states of a session, the end of its transport, and the evidence that its mail arrived.
Promises: a connection ends once. Each of its leases is settled or released before it is closed; a
client without evidence of delivery gets its mail again. If the outcome of a request is unknown, the
connection ends with a reset and without a reply.
Exposure: strangers choose the moment.

    state      reads         writes              leaves when
    ────────   ───────────   ─────────────────   ──────────────────────────────────────────────────────────
    OPEN       requests      answers             the client ends its side → ENDING; a fatal frame or the
                                                 padded dialect → DRAINING once all is written
    ENDING     nothing       answers             all is answered and written → WATCHING, or closed
    DRAINING   and drops     nothing (FIN sent)  the client ends its side → WATCHING, or closed; time is up
    WATCHING   nothing       nothing             no reset came for a while → mail settled, closed
    STOPPING   nothing       answers             all is answered and written → mail released, closed
    any                                          reset, write error, time-out → mail released, closed

Source: docs/client-protocol.md, "Connections"; docs/guarantees.md.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Protocol

from gateway.connection.base import Connection
from gateway.connection.context import SessionContext
from gateway.connection.timeouts import Awaited
from gateway.connection.transport import Transport
from gateway.delivery.tracker import Delivery


class State(Enum):
    """See the module's table."""

    OPEN = auto()
    ENDING = auto()
    DRAINING = auto()
    WATCHING = auto()
    STOPPING = auto()
    CLOSED = auto()


class Ending(Connection, Protocol):
    """What this module needs of a session. `state` and `delivery` are set here only.

    `delivery` is set from the first lease on. `final_response_queued`: nothing more is taken up,
    and this side ends once everything is written.
    """

    context: SessionContext
    transport: Transport
    state: State
    delivery: Delivery | None
    final_response_queued: bool

    def discard_input(self) -> None:
        """Discard input that was not taken up, and all further input."""

    def let_go(self) -> None:
        """The transport is closed: drop all references and waits."""


def follow(session: Ending, nothing_held: Callable[[], bool]) -> Delivery:
    """Start to track evidence: the first lease was written. See `Delivery`."""
    session.delivery = Delivery(session.transport, session.context, session, nothing_held)
    return session.delivery


def input_ended(session: Ending) -> None:
    """The client has ended its side of an open connection."""
    session.state = State.ENDING
    session.context.timeouts.clear(session)


def stop(session: Ending) -> bool:
    """Close once everything is written. False if the connection is ending already."""
    if session.state is not State.OPEN:
        return False
    session.state = State.STOPPING
    return True


def all_written(session: Ending, *, pending: bool) -> None:
    """Every answer so far is with the kernel. `pending`: some requests are not answered."""
    delivery = session.delivery
    if delivery is not None and session.state is State.OPEN:
        delivery.probe()
    if pending:
        return
    if session.state is State.ENDING:
        on_peer_eof(session)
    elif session.state is State.STOPPING:
        if delivery is not None:
            delivery.release()
        _close(session)
    elif session.state is State.OPEN and session.final_response_queued:
        _half_close(session)


def _half_close(session: Ending) -> None:
    try:
        session.transport.shut_down()
    except OSError:
        abort(session)
        return
    session.state = State.DRAINING
    session.discard_input()
    session.context.timeouts.start(session, Awaited.DRAIN)


def on_peer_eof(session: Ending) -> None:
    """The client has ended its side and was answered in full."""
    delivery = session.delivery
    if delivery is None or not delivery.open:
        _close(session)
        return
    session.state = State.WATCHING
    session.context.timeouts.clear(session)
    session.transport.watch_for_reset()
    delivery.watch_for_reset(partial(_close, session), session.abort)


def abort(session: Ending) -> None:
    """Close with a reset; mail without evidence is pending again."""
    if session.state is not State.CLOSED:
        if session.delivery is not None:
            session.delivery.release()
        session.transport.reset()
        _leave(session)


def _close(session: Ending) -> None:
    session.transport.close()
    _leave(session)


def _leave(session: Ending) -> None:
    session.state = State.CLOSED
    context = session.context
    context.timeouts.clear(session)
    context.sessions.discard(session)
    session.let_go()
    context.place_free()
