"""One client: frames in, operations out, answers back in order, and back-pressure.

Owns: the order of one client's requests and answers, and how much of them is in flight.
`gateway.connection.events` owns what an event leads to, `gateway.connection.output` the outgoing
bytes, `gateway.connection.lifecycle` how the connection ends, and `gateway.connection.timeouts` its
deadlines.
Promises: answers leave in the order of the requests; a refusal says "not done"; if the outcome is
unknown, the connection ends without a reply; a client's unanswered requests are bounded, and so is
the work done for it in one turn of the loop.
Exposure: strangers choose every byte and every moment.

Sends, registrations and key requests are pipelined: many may be with the worker at once. Anything
else is taken up only when everything before it is answered, and nothing after it is taken up until
it is done.

One turn takes up requests worth `Settings.work_a_turn` from one client. For the rest the client
waits behind others (`gateway.connection.scheduler`); so does a client with unanswered requests
while the worker has enough to do. A connection that waits is not read.

The common case has a short path: one read, whose sends go to the link as a run, and one write with
their answers. A session is `_steady` while only that happens: it is open, all input was taken up,
the client waits for nothing else, and the transport watches the right events. Anything else clears
the flag, and `advance` then checks everything.

Source: docs/client-protocol.md, "Connections"; docs/guarantees.md.
"""

import logging
from collections.abc import Mapping
from typing import Final

from common.client_protocol.requests import SendRequest
from common.client_protocol.responses import ERROR, encode_reason, encode_stored, encode_stored_run
from common.client_protocol.server_connection import (
    ContentData,
    ContentEnd,
    Event,
    Phase,
    PipelinedSends,
    ServerConnection,
)
from common.client_protocol.versions import Feature
from common.storage_protocol.operations import (
    Operation,
    Outcome,
    Refused,
    Stored,
    StoreMessage,
)
from gateway.authentication import Challenge
from gateway.connection import lifecycle
from gateway.connection.context import SessionContext
from gateway.connection.events import take_up
from gateway.connection.lifecycle import State
from gateway.connection.output import Output
from gateway.connection.timeouts import Awaited, Deadline
from gateway.connection.transport import Transport
from gateway.delivery.evidence import Lease
from gateway.delivery.tracker import Delivery
from gateway.handlers.base import RequestHandler
from gateway.handlers.dispatch import SEND_COST, Flowing, cost_of, flows, response_to
from gateway.handlers.mail import FetchHandler
from gateway.handlers.upload import UploadHandler
from gateway.limits import Allowance, RefusedRequests

log = logging.getLogger("gateway.connection.session")

_READ_SIZE: Final = 65536
_UPLOAD_READ_SIZE: Final = 262144
_CROWDED_READ_SIZE: Final = 4096
"""While many connections wait for their turn with what was read of them."""
_READ_AHEAD: Final = 4096
"""Bytes behind a request that is being answered; past them the socket waits. They are put
together anew each time.
"""


_READING: Final = (State.OPEN, State.DRAINING)
_OPEN: Final = State.OPEN
_BETWEEN: Final = Phase.BETWEEN
"""Looked up once: the path of every read and write asks for them."""


def _content_size(event: Event | RefusedRequests | None) -> int:
    """Bytes of the contents in an event."""
    match event:
        case PipelinedSends():
            return len(event.frames)
        case SendRequest():
            return len(event.content)
        case _:
            return 0


class Session:
    """The owner of a transport, a `Waiter` of the link, and a `Connection` for the parts that all
    connections share. `allowance`: its limits; None if it has none.
    """

    __slots__ = (
        "_challenge",
        "_connection",
        "_handler",
        "_heard_at",
        "_held",
        "_holds",
        "_inflight",
        "_paused",
        "_reads",
        "_scheduled",
        "_steady",
        "_unanswered",
        "_unread",
        "_waits",
        "_writes",
        "allowance",
        "authenticated_as",
        "context",
        "deadline",
        "delivery",
        "features",
        "final_response_queued",
        "malformed",
        "output",
        "state",
        "transport",
    )  # fmt: skip

    def __init__(self, transport: Transport, context: SessionContext, allowance: Allowance | None = None) -> None:
        self.transport = transport
        self.context = context
        self.state = State.OPEN
        self.delivery: Delivery | None = None
        self.final_response_queued = False
        self._connection = ServerConnection(context.limits)
        self._reads = True
        self._writes = False
        self.output = Output(transport, context.counts)
        self._scheduled = False
        self._holds = 0
        self._waits = False
        self._unread = False
        self.malformed = 0
        self._heard_at = context.loop.now
        self._unanswered = 0
        self._inflight = 0
        self._held: Event | RefusedRequests | None = None
        self._handler: RequestHandler | None = None
        self._paused = False
        self._steady = False
        self._challenge: Challenge | None = None
        self.features = 0
        self.authenticated_as: bytes | None = None
        self.allowance = allowance
        self.deadline: Deadline | None = None
        context.sessions.add(self)
        transport.attach(self)

    # --- what the link and the shared lists call

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """The outcome of a send, a registration or a key request."""
        if self.state is State.CLOSED:
            return
        self._unanswered -= 1
        self._inflight -= cost_of(operation)
        if type(operation) is StoreMessage and type(outcome) is Stored:
            self.write(encode_stored(operation.recipient, outcome.sequence))
            return
        if isinstance(outcome, Refused):
            self.refuse(outcome.reason, outcome.retry_after)
            return
        response = response_to(operation, outcome)
        if response is None:
            log.error("%s was answered with %s", type(operation).__name__, type(outcome).__name__)
            self.abort()
        else:
            self.write(response)

    def sends_answered(
        self, recipients: list[bytes], cost: int, first: int, others: Mapping[int, Refused | Stored]
    ) -> None:
        """The outcomes of a run of sends; see `gateway.storage.send_answers`."""
        if self.state is State.CLOSED:
            return
        self._unanswered -= 1
        self._inflight -= cost
        if not others:
            self.write(encode_stored_run(recipients, first))
            return
        for index, recipient in enumerate(recipients):
            other = others.get(index)
            if other is None:
                self.write(encode_stored(recipient, first))
                first += 1
            elif isinstance(other, Stored):
                self.write(encode_stored(recipient, other.sequence))
            else:
                self.refuse(other.reason, other.retry_after)

    def sends_divided(self) -> None:
        """What it submitted in one call will be answered in two."""
        self._unanswered += 1

    def unknown(self, operation: Operation) -> None:
        """Whether it was done is unknown: the connection ends without a reply."""
        self.abort()

    def flush(self) -> None:
        """The turn's one write, then whatever waited for it."""
        if self.state is State.CLOSED:
            return
        self._scheduled = False
        try:
            stays = self.output.write()
        except OSError:
            self.abort()
            return
        if stays:
            self._steady = False
            self.context.timeouts.start(self, Awaited.RESPONSE)
        if not self._steady or self.delivery is not None:
            self.advance()

    def advance(self) -> None:
        """Take up what can be taken up; after the last answer, check for the end."""
        if self.state is State.CLOSED:
            return
        self._paused = False
        if self.output.unsent is None and self._handler is not None:
            self._handler.resume_output()
        if not self._waits:
            self._take_events()
        if self.output.unsent is None and not self._scheduled and not self.closed:
            waiting = self._handler is not None or self._held is not None or self._waits
            lifecycle.all_written(self, pending=waiting or self._unanswered > 0)
        self._watch()

    def take_turn(self) -> None:
        """Its turn has come: read what was not read, or take up more input."""
        self._waits = False
        self.context.holdings.went_on(self)
        unread, self._unread = self._unread, False
        if unread and self.state in _READING:
            self._receive()
            self._watch()
        else:
            self.advance()

    def timed_out(self, awaited: Awaited) -> None:
        """A deadline has passed."""
        if awaited is Awaited.SUSPICION:
            self._held = self._connection.event_on_silence()
            self.advance()
        else:
            log.debug("a connection ends: time-out (%s)", awaited.name.lower())
            self.abort()

    def stop(self) -> None:
        """The gateway stops: answer open requests, read nothing more, then close."""
        if lifecycle.stop(self):
            self._steady = False
            if self._handler is not None:
                self._handler.input_ended()
            self._schedule()

    def abort(self) -> None:
        """Close with a reset; mail without evidence is pending again."""
        lifecycle.abort(self)

    @property
    def closed(self) -> bool:
        """Whether the transport is gone."""
        return self.state is State.CLOSED

    @property
    def idle_since(self) -> float | None:
        """When it last sent or received something, in monotonic seconds; None while it is
        authenticated or waits for the server.
        """
        waits_for_us = (
            self._waits or self._unanswered or (self._handler is not None and type(self._handler) is not UploadHandler)
        )
        if self.authenticated_as is not None or (waits_for_us and self.output.unsent is None):
            return None
        return self._heard_at

    @property
    def parked_since(self) -> float | None:
        """The same for an authenticated connection that does nothing, or only waits for mail; None
        for any other.
        """
        is_busy = (
            self._waits or self._unanswered or (self._handler is not None and type(self._handler) is not FetchHandler)
        )
        return None if self.authenticated_as is None or is_busy else self._heard_at

    # --- what request handlers call

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn."""
        self.output.say(data)
        if not self._scheduled:
            self._scheduled = True
            self.context.to_flush.append(self)

    def refuse(self, reason: int, retry_after: int = 0, times: int = 1) -> None:
        """Send 9000, or 9001 if the client asked for reasons. `retry_after` in seconds."""
        self.write(self.refusal(reason, retry_after, times))

    def refusal(self, reason: int, retry_after: int = 0, times: int = 1) -> bytes:
        """The bytes of `refuse`, which are counted."""
        refusals = self.context.counts.refusals
        refusals[reason] = refusals.get(reason, 0) + times
        return (encode_reason(reason, retry_after) if self.features & Feature.REASONS else ERROR) * times

    def done(self) -> None:
        """The handler has written its answer: continue with the next request."""
        self._handler = None
        self._schedule()

    def reserve_inflight(self, size: int) -> None:
        """`size` bytes (negative: fewer) of this client are in flight to the worker."""
        self._inflight += size

    def resume(self) -> None:
        """The handler can continue: call its `resume_output` at the end of this turn."""
        self._schedule()

    def wait_for_turn(self) -> None:
        """Continue when others have had their turn and the worker can take more."""
        self._waits = True
        self._steady = False
        self.context.turns.wait(self)

    def lease_written(self, lease: Lease) -> None:
        """The whole response that carries `lease` was handed to the kernel."""
        delivery = self.delivery
        if delivery is None:
            delivery = lifecycle.follow(self, self._nothing_held)
        delivery.written(lease)

    def end_after_answers(self) -> None:
        """Take up nothing more; once all is written, half-close, drain, close."""
        self.final_response_queued = True

    def next_content(self) -> ContentData | ContentEnd | None:
        """For an upload: the next part of its content; None where more bytes are needed."""
        event = self._connection.next_event()
        if event is None or isinstance(event, ContentData | ContentEnd):
            return event
        raise AssertionError(f"{type(event).__name__} inside an upload")

    @property
    def binding(self) -> bytes:
        """The channel binding of its transport."""
        return self.transport.binding

    @property
    def greeted(self) -> bool:
        """Whether 640 was answered."""
        return self._connection.greeted

    @greeted.setter
    def greeted(self, answered: bool) -> None:
        self._connection.greeted = answered

    @property
    def challenge(self) -> Challenge:
        """The connection's nonce and attempts."""
        if self._challenge is None:
            self._challenge = Challenge()
        return self._challenge

    # --- reading

    def on_readable(self) -> None:
        """Read, or wait for the turn to."""
        state = self.state
        may_read = self.context.turns.may_read(self._inflight) if state is _OPEN else state is not State.DRAINING
        if not may_read:
            # What is thrown away is in no hurry either.
            self._unread = True
            self.wait_for_turn()
            self._watch()
            return
        self._receive()

    def _receive(self) -> None:
        context = self.context
        delivery = self.delivery
        if delivery is not None:
            delivery.before_read()
        size = _READ_SIZE
        if context.turns.crowded:
            size = _CROWDED_READ_SIZE
        elif type(self._handler) is UploadHandler and context.holdings.plenty:
            size = _UPLOAD_READ_SIZE
        try:
            data = self.transport.receive(size)
        except BlockingIOError:
            if self.transport.held:
                self._heard_at = context.loop.now
                self._watch(came=1)
            return
        except OSError:
            self.abort()
            return
        self._heard_at = context.loop.now
        context.counts.bytes_in += len(data)
        if self.state is not _OPEN:
            if not data and self.state is State.DRAINING:
                lifecycle.on_peer_eof(self)
            return
        if not data:
            self._input_ended()
            return
        if delivery is not None and self._connection.begins_request(data):
            delivery.request_came()
        spent = 0
        if self._steady:
            run = self._connection.receive_run(data)
            allowance = self.allowance
            if (
                run is not None
                and self._is_own(run)
                and (allowance is None or allowance.send_all(self.authenticated_as, run, context.loop.now))
            ):
                spent = self._submit_run(run)
                if (
                    self._inflight < context.settings.connection_in_flight
                    and self._connection.drained
                    and not self.transport.held
                ):
                    return
            else:
                self._held = run
        else:
            self._connection.receive_data(data)
            if self._handler is not None:
                self._handler.input_came()
        self._take_events(spent)
        if not self._steady or self._holds or self.transport.held:
            self._watch(came=len(data))

    def _input_ended(self) -> None:
        lifecycle.input_ended(self)
        self._steady = False
        if self._handler is not None:
            self._handler.input_ended()
        elif self._held is None:
            self._held = self._connection.event_on_silence()
        self.advance()

    def _take_events(self, spent: int = 0) -> None:
        """Take up events until one has to wait, more bytes are needed, or the turn's work is used
        up.

        `spent`: how much of the turn's work is used already.
        """
        self._steady = False
        next_event = self._connection.next_event
        bound = self.context.settings.connection_in_flight
        left = self.context.settings.work_a_turn - spent
        refused = False
        # A client that does not read its answers is given no more of them.
        while self._handler is None and self.output.unsent is None and not self.final_response_queued:
            if self._inflight >= bound:
                self._pause()
                return
            event = self._held
            if event is None:
                if refused:
                    # What is refused never waits for the worker, which holds up everybody else.
                    self._waits = True
                    self.context.turns.wait_refused(self)
                    return
                if left <= 0 and self._connection.undigested:
                    self.wait_for_turn()
                    return
                event = next_event()
                if event is None:
                    self._steady = (
                        self.deadline is None
                        and self._reads
                        and not self._writes
                        and self.state is _OPEN
                        and self._connection.phase is _BETWEEN
                    )
                    return
                if self.deadline is not None and self.deadline.awaited is Awaited.HEADER:
                    self.context.timeouts.clear(self)
            else:
                self._held = None
            if type(event) is PipelinedSends and self._is_own(event):
                if self.allowance is not None:
                    # Those beyond the limit are answered behind the others.
                    event, self._held = self.allowance.divide(self.authenticated_as, event, self.context.loop.now)
                    if self._held is not None:
                        self.context.counts.requests[event.code] += self._held.number
                if event.recipients:
                    left -= self._submit_run(event)
            elif self._unanswered and not flows(self, event):
                self._held = event
                return
            elif type(event) is RefusedRequests:
                # One refusal is a turn's work: it costs the others as little as it costs to ask.
                refused = True
                take_up(self, event)
            else:
                left -= take_up(self, event)

    def _is_own(self, run: PipelinedSends) -> bool:
        return self.authenticated_as is None or run.requester == self.authenticated_as

    def _submit_run(self, run: PipelinedSends) -> int:
        cost = len(run.frames) + SEND_COST * len(run.recipients)
        self._inflight += cost
        self._unanswered += 1
        self.context.worker.submit_sends(run, self.authenticated_as is not None, cost, self)
        return cost

    @property
    def began_as_tls(self) -> bool:
        """Whether its first request was refused and looks like a TLS handshake."""
        return self._connection.began_as_tls

    def submit(self, operation: Flowing, cost: int) -> None:
        """Submit a pipelined operation."""
        self._unanswered += 1
        self._inflight += cost
        self.context.worker.submit(operation, self, cost)

    def hold(self, event: RefusedRequests) -> None:
        """Take up `event` next, once everything before it is answered."""
        self._held = event

    def hand_over(self, handler: RequestHandler) -> None:
        """Let `handler` have the connection until it calls `done`."""
        self._handler = handler
        if self.state is not State.OPEN:
            handler.input_ended()
        elif self._connection.undigested:
            handler.input_came()

    # --- writing

    def on_writable(self) -> None:
        """Write more of what was not taken before."""
        output = self.output
        try:
            if not output.write_more():
                return
        except OSError:
            self.abort()
            return
        self._heard_at = self.context.loop.now
        self.context.holdings.went_on(self)
        if output.unsent is not None:
            self.context.timeouts.start(self, Awaited.RESPONSE)
        else:
            self.context.timeouts.clear(self)
            self._schedule()

    def _schedule(self) -> None:
        """Ask for a flush at the end of this turn."""
        if not self._scheduled and self.state is not State.CLOSED:
            self._scheduled = True
            self.context.to_flush.append(self)

    # --- what its lifecycle calls

    def discard_input(self) -> None:
        """Discard input that was not taken up, and all further input."""
        self._connection.ignore()

    def let_go(self) -> None:
        """The transport is closed: drop all references and waits."""
        self.context.turns.leave(self)
        if self.authenticated_as is not None:
            self.context.counts.authenticated -= 1
        self.context.holdings.changed(self, self._holds, 0)
        self._held = None
        self.output.drop()
        self._holds = 0
        self._connection.ignore()
        if self.allowance is not None:
            self.allowance.ended()
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.abandon()

    # --- attention

    def _nothing_held(self) -> bool:
        return not self._connection.undigested and self._held is None

    def _pause(self) -> None:
        """Read nothing until answers have come."""
        self._paused = True
        self._steady = False
        self._watch()

    def _note_holdings(self) -> None:
        """Report how much memory this connection uses."""
        holds = self._connection.memory + self.output.unsent_size + self.transport.held
        if self._held is not None:
            holds += _content_size(self._held)
        if type(self._handler) is UploadHandler:
            holds += self._handler.collected
        if holds != self._holds:
            before, self._holds = self._holds, holds
            self.context.holdings.changed(self, before, holds)

    def _watch(self, *, came: int = 0) -> None:
        """Watch the transport for what can be handled now, and set the deadline. `came`: bytes read
        just now.
        """
        state = self.state
        if state is State.CLOSED or state is State.WATCHING:
            return
        self._note_holdings()
        reads = False
        writes = self.output.unsent is not None
        if state is _OPEN and not (self._paused or self._waits or self.final_response_queued):
            busy = self._handler is not None or self._held is not None or self.output.unsent is not None
            if not busy or self._connection.undigested < _READ_AHEAD:
                reads = True
        elif state is State.DRAINING and not self._waits:
            reads = True
        if reads is not self._reads or writes is not self._writes:
            self._reads, self._writes = reads, writes
            self.transport.watch(reads=reads, writes=writes)
        if self.output.unsent is None and state is _OPEN:
            handler = self._handler
            is_upload = type(handler) is UploadHandler
            if reads and (handler is None or is_upload) and self._held is None:
                context = self.context
                in_record = self.transport.held > 0
                context.timeouts.await_input(self, self._connection, came, is_upload=is_upload, in_record=in_record)
            else:
                self.context.timeouts.clear(self)
