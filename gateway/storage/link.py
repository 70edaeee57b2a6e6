"""The gateway's adapter to the storage worker.

Owns: the ZeroMQ socket. `BatchSender` decides which batch leaves when.
Promises: operations leave in the order of `submit`, at most two batches in flight at a time; every
waiter gets exactly one call: an outcome, or that it is unknown. The worker may stop and start
again: callers need not do anything.
Exposure: the worker is the other half of this server; frames that can't be decoded are logged and
dropped. One on another machine is known by its key.

A batch carries everything submitted since the last one left, so batches grow under load.
Consecutive sends of all connections are one operation of it (`common.storage_protocol.send_run`).

Source: docs/storage-protocol.md.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, assert_never

import zmq
from zmq.utils.monitor import parse_monitor_message

from common import fail_points
from common.client_protocol.server_connection import PipelinedSends
from common.errors import FrameUndecodable
from common.fail_points import FailPoint
from common.link_address import key_text
from common.link_keys import LinkKeys
from common.rare_log import RareLog
from common.server_log import fields
from common.storage_protocol.batch_sender import (
    Answered,
    BatchSender,
    Deadly,
    Divided,
    Event,
    GivenUp,
    Greeted,
    Incoming,
    LinkChange,
    Outgoing,
    SlotLost,
    Unsent,
    WorkerChanged,
)
from common.storage_protocol.frames import Drain, LogLevel, MailArrived, Order, StoreFacts, decode_to_gateway
from common.storage_protocol.operations import Operation, Outcome, Refused
from common.storage_protocol.send_run import SendRun
from common.values import RefusalReason
from common.zmq_calls import ZmqCalls
from gateway.connection.containment import report
from gateway.errors import GatewaySuperseded, WrongWorker
from gateway.event_loop import READABLE, EventLoop, Timer
from gateway.storage.send_answers import Sender, answer, leave_unknown

log = logging.getLogger("gateway.storage.link")
_rarely: Final = RareLog(log)
_refusals: Final = RareLog(log)

_OVER_TCP: Final = {
    # A machine that is cut off says nothing.
    zmq.HEARTBEAT_IVL: 3_000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
    zmq.CONNECT_TIMEOUT: 3_000,
    # Names may have both kinds of address.
    zmq.IPV6: 1,
}
_HANDSHAKES_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)
_CONNECT_AGAIN: Final = 1.0
"""Seconds: ZeroMQ itself gives a worker up that has refused a key."""
_RETRY_SEND: Final = 0.05
_LINKS_PER_THREAD: Final = 16
_MOST_THREADS: Final = 4
_ROUNDS: Final = 2
"""How often one turn of the loop takes in answers. Each of them may let the next page of a long
response be asked for, whose answer may be there before the turn ends: sockets would wait for the
end of all responses."""
_EVENTS: Final = zmq.EVENTS
_POLLIN: Final = int(zmq.POLLIN)
_NOT_DONE: Final = Refused(RefusalReason.MALFORMED)
_UNAVAILABLE: Final = Refused(RefusalReason.UNAVAILABLE, 2)
"""For what was not sent. A worker that was killed is back after some seconds."""


def _leave_unknown(waiter: "Waiter | SendRun[Sender]", operation: Operation) -> None:
    if isinstance(waiter, SendRun):
        leave_unknown(waiter)
    else:
        waiter.unknown(operation)


def _number(sock: zmq.Socket[bytes], option: zmq.SocketOption) -> int:
    """A numeric socket option."""
    value = sock.getsockopt(option)
    assert isinstance(value, int)
    return value


class Waiter(Protocol):
    """Gets the outcome of an operation."""

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """The worker decided and committed."""

    def unknown(self, operation: Operation) -> None:
        """Whether it was done is unknown, and will stay so."""


class LinkListener(Protocol):
    """Gets what the worker reports about itself and about mailboxes without being asked."""

    def greeted(self) -> None:
        """The worker's facts are known."""

    def worker_changed(self) -> None:
        """Leases and subscriptions are gone."""

    def store_changed(self) -> None:
        """Sequences now refer to other messages: nothing from before may be settled or
        acknowledged.
        """

    def mail_arrived(self, sequence: int, recipients: list[bytes]) -> None:
        """Mail up to `sequence` was committed for these. Advisory."""


class Nobody:
    """The waiter for operations whose outcome does not matter."""

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """Ignore the outcome of settling or releasing."""

    def unknown(self, operation: Operation) -> None:
        """The next greeting ends all leases; mail that was not settled comes again."""


NOBODY: Final = Nobody()


class _Monitor:
    """A `Handler` of the socket's own events: whether it is connected. `changes` gets each
    change, `failed` the event of a handshake that failed, where it is over TCP. `changed` is called
    after a change.
    """

    def __init__(
        self,
        loop: EventLoop,
        watched: zmq.Socket[bytes],
        changes: list[Incoming],
        failed: Callable[[int], None] | None,
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._watched = watched
        self._changes = changes
        self._failed = failed
        self._changed = changed
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        for one in _HANDSHAKES_FAILED if failed is not None else ():
            events |= one
        self._socket = watched.get_monitor_socket(events)
        loop.register(_number(self._socket, zmq.FD), self, READABLE)
        # The first edge comes only after a first look.
        self.ready(READABLE)

    def ready(self, events: int) -> None:
        """The descriptor is edge-triggered: read everything there is."""
        while _number(self._socket, _EVENTS) & _POLLIN:
            event = parse_monitor_message(self._socket.recv_multipart(zmq.NOBLOCK))["event"]
            if event in _HANDSHAKES_FAILED and self._failed is not None:
                self._failed(event)
                continue
            self._changes.append(LinkChange.UP if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else LinkChange.DOWN)
            self._changed()

    def close(self) -> None:
        """Stop watching."""
        self._loop.unregister(_number(self._socket, zmq.FD))
        self._watched.disable_monitor()
        self._socket.close()


class SharedContext:
    """One context of ZeroMQ for so many links."""

    def __init__(self, links: int) -> None:
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context(min(_MOST_THREADS, -(-links // _LINKS_PER_THREAD)))
        # Besides its own, each has that which watches it.
        self.zmq.set(zmq.MAX_SOCKETS, 64 + 8 * links)

    def close(self) -> None:
        """After the links."""
        self.zmq.term()


class Place(NamedTuple):
    """Which shard a worker has to have, of how many."""

    number: int = 0
    shards: int = 1


_ALONE: Final = Place()


class StorageLink:
    """One DEALER socket, one slot. `keys`: those of a worker on another machine. `refuse_after`:
    seconds that the worker may be away before what was not sent is refused; None: it waits.
    `context`: where several links share one.
    """

    shards = 1

    def __init__(
        self,
        loop: EventLoop,
        endpoint: str,
        slot: int,
        new_incarnation: Callable[[], bytes],
        listener: LinkListener,
        keys: LinkKeys | None = None,
        *,
        place: Place = _ALONE,
        refuse_after: float | None = None,
        context: SharedContext | None = None,
    ) -> None:
        self._loop = loop
        self.endpoint = endpoint
        self.place = place
        self._keys = keys
        self._reconnect: Timer | None = None
        self._listener = listener
        self._sender: BatchSender[Waiter, Sender] = BatchSender(slot, new_incarnation, refuse_after=refuse_after)
        self._changes: list[Incoming] = []
        self._notices: list[MailArrived] = []
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context() if context is None else context.zmq
        self._ends_context = context is None
        self._socket = self._zmq.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Without a worker nothing is queued: the sender keeps the one frame and sends it when there
        # is a peer.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        over_tcp = endpoint.startswith("tcp://")
        for option, value in _OVER_TCP.items() if over_tcp else ():
            self._socket.setsockopt(option, value)
        if keys is not None:
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, keys.worker)
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
        self._calls = ZmqCalls(self._socket)
        self._monitor = _Monitor(
            loop, self._socket, self._changes, self._handshake_failed if over_tcp else None, self._note_news
        )
        self._socket.connect(endpoint)
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._is_due = False
        self._has_news = True
        """Whether messages may have come since the socket was asked last."""
        self._connected = False
        self._is_armed = fail_points.armed()
        self.bytes_in_flight = 0
        """Of all that the worker has not answered."""
        self.collects = False
        """Whether something waits to leave."""
        self.orders: list[Order] = []
        """What an operator has the worker pass on, for whoever obeys it."""
        self.facts: StoreFacts | None = None
        self.batches = 0
        """That were sent, without repetitions."""
        self.sends_answered = 0
        """603s of runs."""
        self.sends_once_answered = 0
        """642s of runs."""
        self.outcomes_unknown = 0
        self.unsent = 0
        """Operations that were refused because the worker was away."""
        self.answered_at = loop.now
        """When the worker answered last, in monotonic seconds."""
        loop.register(_number(self._socket, zmq.FD), self, READABLE)
        self._rounds_left = _ROUNDS
        self._follow_turns()

    def _follow_turns(self) -> None:
        self._loop.at_turn_end(self.end_turn)

    def _note_news(self) -> None:
        """Something came, or is due. The end of each turn looks."""

    # --- where there is one worker, everything is its
    # ------------------------------------------------------------------------------------------

    def of(self, client_id: bytes) -> "StorageLink":
        """The link to the shard of a user."""
        return self

    @property
    def directory(self) -> "StorageLink":
        """The link to the shard that has the list of users."""
        return self

    @property
    def others(self) -> "Sequence[StorageLink]":
        """The links to the other shards than the directory."""
        return ()

    def _handshake_failed(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and self._keys is not None:
            _refusals.write(
                logging.ERROR,
                "the storage worker at %s does not take this gateway's key: there, `messageu-admin link-key allow %s`",
                self.endpoint,
                key_text(self._keys.own.public),
            )
        else:
            _refusals.write(
                logging.ERROR,
                "no handshake with the storage worker at %s: it ended meanwhile, or has another key than --worker says",
                self.endpoint,
            )
        if self._reconnect is None:
            self._reconnect = self._loop.call_at(self._loop.now + _CONNECT_AGAIN, self._connect_again)

    def _connect_again(self) -> None:
        self._reconnect = None
        if self._connected:
            return
        with contextlib.suppress(zmq.ZMQError):
            # Where ZeroMQ still tries by itself.
            self._socket.disconnect(self.endpoint)
        self._socket.connect(self.endpoint)

    def submit(self, operation: Operation, waiter: Waiter, size: int = 0) -> None:
        """Send `operation` with the next batch. `size`: bytes it uses in memory until it is
        answered.
        """
        self._sender.submit(operation, waiter, self._loop.now, size)
        self.collects = True
        self.bytes_in_flight = self._sender.size

    def submit_sends(self, run: PipelinedSends, authenticated: bool, cost: int, sender: Sender) -> None:
        """Send these messages with the next batch. `cost`: bytes they use in memory until they are
        answered.
        """
        self._sender.submit_sends(run, sender, self._loop.now, cost, authenticated=authenticated)
        self.collects = True
        self.bytes_in_flight = self._sender.size

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return self._sender.is_idle

    @property
    def is_joined(self) -> bool:
        """Whether the worker is connected, and has greeted."""
        return self._connected and self.facts is not None

    def ready(self, events: int) -> None:
        """The socket has news; `resume_output` reads it at the end of the turn."""
        self._has_news = True
        self._note_news()

    @property
    def has_work(self) -> bool:
        """Whether the end of the next turn has something to do, even if nothing comes."""
        return bool(self.collects or self._has_news or self._is_due or self._changes)

    def end_turn(self) -> None:
        """Receive, hand out outcomes and send."""
        self._rounds_left = _ROUNDS
        self.resume_output()

    def resume_output(self) -> None:
        """Receive everything, hand out outcomes, and send what is due; repeat until nothing more is
        sent, `_ROUNDS` times a turn at most. Raises `GatewaySuperseded`.

        ZeroMQ's descriptor is edge-triggered, and sending may consume an edge, so the socket is
        polled again after each frame that was sent. Once it reports that there is nothing, the next
        edge is delivered.
        """
        while True:
            if not self._rounds_left:
                # Whatever is there is looked at in the next turn, which comes at once.
                if not self._is_due:
                    self._is_due = True
                    self._loop.call_at(self._loop.now, _next_turn)
                break
            incoming = self._received()
            # They follow the replies after which they were sent: a 643 waits once its reply is
            # handed out, and before that nobody would hear them.
            notices, self._notices = self._notices, []
            if not (incoming or notices or self.collects or self._is_due):
                break
            self._rounds_left -= 1
            self._is_due = False
            step = self._sender.step(incoming, self._loop.now)
            self.collects = step.waits
            self.bytes_in_flight = self._sender.size
            if step.next_timeout is not None:
                self._wake_at(step.next_timeout)
            # The worker need not wait while outcomes are handed out.
            sent = step.outgoing is not None and self._send(step.outgoing)
            self._handle(step.events)
            for notice in notices:
                self._listener.mail_arrived(notice.sequence, notice.recipients)
            if not sent and not ((step.events or notices) and self.collects):
                break

    def _received(self) -> list[Incoming]:
        """Everything received since the last call."""
        incoming = self._changes[:]
        self._changes.clear()
        for change in incoming:
            if change is LinkChange.FULL:
                continue
            if self._connected and change is LinkChange.DOWN:
                log.warning("the storage worker is gone; requests wait until it is back")
            self._connected = change is LinkChange.UP
        if not self._has_news:
            return incoming
        while self._calls.has_input():
            try:
                message = decode_to_gateway(self._calls.receive())
            except FrameUndecodable as error:
                _rarely.write(logging.ERROR, "dropped a message from the storage worker: %s", error)
                continue
            if isinstance(message, MailArrived):
                self._notices.append(message)
            elif isinstance(message, Drain | LogLevel):
                self.orders.append(message)
            else:
                incoming.append(message)
        self._has_news = False
        return incoming

    def _handle(self, events: list[Event[Waiter, Sender]]) -> None:
        for event in events:
            match event:
                case Answered(operations, waiters, outcomes):
                    self.answered_at = self._loop.now
                    if outcomes is None:
                        _rarely.write(
                            logging.ERROR, "the storage worker refused a batch of %d operations", len(operations)
                        )
                        outcomes = [_NOT_DONE] * len(operations)
                    if self._is_armed:
                        fail_points.reach(FailPoint.GATEWAY_ANSWERED, fail_points.names(operations))
                    for operation, waiter, outcome in zip(operations, waiters, outcomes, strict=True):
                        try:
                            if isinstance(waiter, SendRun):
                                count = answer(waiter, outcome)
                                if waiter.once:
                                    self.sends_once_answered += count
                                else:
                                    self.sends_answered += count
                            else:
                                waiter.answered(operation, outcome)
                        except Exception as error:
                            report(error)
                            _leave_unknown(waiter, operation)
                case GivenUp(operations, waiters, is_late):
                    if is_late:
                        log.error("the storage worker did not answer in time; its requests end without a reply")
                    for operation, waiter in zip(operations, waiters, strict=True):
                        self.outcomes_unknown += waiter.count if isinstance(waiter, SendRun) else 1
                        try:
                            _leave_unknown(waiter, operation)
                        except Exception as error:
                            report(error)
                case Unsent(operations, waiters):
                    self.unsent += len(operations)
                    for operation, waiter in zip(operations, waiters, strict=True):
                        try:
                            if isinstance(waiter, SendRun):
                                answer(waiter, _UNAVAILABLE)
                            else:
                                waiter.answered(operation, _UNAVAILABLE)
                        except Exception as error:
                            report(error)
                            _leave_unknown(waiter, operation)
                case Divided(sender):
                    sender.sends_divided()
                case Deadly(operation, waiter):
                    log.error(
                        "the storage worker ended each time it was given this %s; it is not sent again, and ends "
                        "without a reply",
                        type(operation).__name__,
                    )
                    self.outcomes_unknown += waiter.count if isinstance(waiter, SendRun) else 1
                    try:
                        _leave_unknown(waiter, operation)
                    except Exception as error:
                        report(error)
                case Greeted(facts, _, is_other_store):
                    self._check_place(facts)
                    log.info(
                        "connected to the storage worker, generation %d",
                        facts.generation,
                        extra=fields(generation=facts.generation),
                    )
                    self.facts = facts
                    if is_other_store:
                        log.warning("the store is not the one of before; all connections are closed")
                        self._listener.store_changed()
                    self._listener.worker_changed()
                    self._listener.greeted()
                case SlotLost(slot):
                    raise GatewaySuperseded(f"another gateway has taken slot {slot}")
                case WorkerChanged():
                    self._listener.worker_changed()
                case _:
                    assert_never(event)

    def _check_place(self, facts: StoreFacts) -> None:
        found = Place(facts.shard, facts.shards)
        if found != self.place:
            raise WrongWorker(
                f"the storage worker at {self.endpoint} has shard {found.number} of {found.shards}, and this gateway "
                f"takes it for shard {self.place.number} of {self.place.shards}: --worker names the workers of all "
                "shards, in their order"
            )

    def _send(self, outgoing: Outgoing) -> bool:
        frame, operations, is_new = outgoing
        if is_new and self._is_armed:
            fail_points.reach(FailPoint.GATEWAY_RECEIVED, fail_points.names(operations))
        self._has_news = True
        try:
            self._calls.send(frame)
        except zmq.Again:
            self._changes.append(LinkChange.FULL)
            self._wake_at(self._loop.now)
            return False
        # ZeroMQ's thread has to run before the worker gets it. It often waits behind this one
        # for its processor, while others idle. See docs/decisions/0007-taking-turns.md.
        os.sched_yield()
        self.batches += is_new
        if self._is_armed:
            fail_points.reach(FailPoint.GATEWAY_SENT, fail_points.names(operations))
        return True

    def _wake_at(self, when: float) -> None:
        """Wake up when something is due. An earlier timer is kept, because waking early is cheaper
        than a new timer.
        """
        if self._timer is not None and self._timer_at <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        # What the socket refused to take is due at once, and is tried again at this pace.
        self._timer_at = max(when, self._loop.now + _RETRY_SEND)
        self._timer = self._loop.call_at(self._timer_at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._is_due = True
        self._note_news()

    def close(self) -> None:
        """Leave without waiting."""
        self._loop.unregister(_number(self._socket, zmq.FD))
        self._monitor.close()
        self._socket.close()
        if self._ends_context:
            self._zmq.term()


def _next_turn() -> None:
    """The loop turns."""
