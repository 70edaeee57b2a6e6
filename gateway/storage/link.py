"""The gateway's door to the storage worker.

Owns: the ZeroMQ socket; which batch leaves when.
Promises: operations leave in the order of `submit`, at most two batches on their way at a time;
every waiter hears exactly once: an outcome, or that it is unknown. The worker may come, go and come
back: nothing has to be told.
Exposure: the worker is the other half of this server; frames that do not decode are logged and
dropped.

A batch that leaves carries all that was submitted since the last one left: under load batches grow
by themselves. Sends of all connections that come behind each other are one operation of it
(`gateway.storage.send_batcher`).

Source: docs/storage-protocol.md.
"""

import logging
import os
from collections.abc import Callable
from typing import Final, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from common import fail_points
from common.client_protocol.server_connection import PipelinedSends
from common.errors import FrameUndecodable
from common.fail_points import FailPoint
from common.rare_log import RareLog
from common.storage_protocol.batch_sender import (
    Answered,
    BatchSender,
    Deadly,
    Event,
    GivenUp,
    Greeted,
    Half,
    WorkerChanged,
)
from common.storage_protocol.frames import MailArrived, StoreFacts, decode_to_gateway
from common.storage_protocol.operations import Operation, Outcome, Refused, StoreMessages
from common.values import RefusalReason
from gateway.connection.containment import report
from gateway.event_loop import READABLE, EventLoop, Timer
from gateway.storage.send_batcher import SendBatcher, Sender

log = logging.getLogger("gateway.link")
_rarely: Final = RareLog(log)

_SMALL_FRAME: Final = 65536
_RETRY_SEND: Final = 0.05
_EVENTS: Final = zmq.EVENTS
_POLLIN: Final = int(zmq.POLLIN)
_NOT_DONE: Final = Refused(RefusalReason.MALFORMED)


def _number(sock: zmq.Socket[bytes], option: zmq.SocketOption) -> int:
    """A socket option that is a number."""
    value = sock.getsockopt(option)
    assert isinstance(value, int)
    return value


class Waiter(Protocol):
    """Who hears what became of an operation."""

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """The worker decided and committed."""

    def unknown(self, operation: Operation) -> None:
        """Whether it was done is not known, and never will be here."""


def _halve(operation: StoreMessages, waiter: Waiter) -> tuple[Half[Waiter], Half[Waiter]]:
    assert isinstance(waiter, SendBatcher), "runs come from `submit_sends` alone"
    first, second = waiter.halve(operation)
    return Half(*first), Half(*second)


class Nobody:
    """The waiter of operations whose outcome changes nothing for anyone."""

    def answered(self, operation: Operation, outcome: Outcome) -> None:
        """Settled or released: so be it."""

    def unknown(self, operation: Operation) -> None:
        """The next greeting ends all leases; mail that was not settled comes again."""


NOBODY: Final = Nobody()


class _Monitor:
    """A `Handler` of the socket's own news: whether it is connected. `changed` hears each
    change.
    """

    def __init__(self, loop: EventLoop, watched: zmq.Socket[bytes], changed: Callable[[bool], None]) -> None:
        self._loop = loop
        self._watched = watched
        self._changed = changed
        self._socket = watched.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        loop.register(_number(self._socket, zmq.FD), self, READABLE)
        # The first edge comes only after a first look.
        self.ready(READABLE)

    def ready(self, events: int) -> None:
        """The descriptor is edge-triggered: take in all that there is."""
        while _number(self._socket, _EVENTS) & _POLLIN:
            event = parse_monitor_message(self._socket.recv_multipart(zmq.NOBLOCK))["event"]
            self._changed(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def close(self) -> None:
        """Watch no more."""
        self._loop.unregister(_number(self._socket, zmq.FD))
        self._watched.disable_monitor()
        self._socket.close()


class StorageLink:
    """One DEALER socket, one slot. `arrived` hears hints, `worker_changed` that leases
    and watches are gone.
    """

    def __init__(
        self,
        loop: EventLoop,
        endpoint: str,
        slot: int,
        new_incarnation: Callable[[], bytes],
    ) -> None:
        self._loop = loop
        self._sender: BatchSender[Waiter] = BatchSender(slot, new_incarnation, _halve)
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._zmq.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Without a worker nothing is queued: the sender keeps the one frame and sends it when there
        # is a peer.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._monitor = _Monitor(loop, self._socket, self._connection_changed)
        self._socket.connect(endpoint)
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._run: SendBatcher | None = None
        self._connected = False
        self.facts: StoreFacts | None = None
        self.arrived: Callable[[int, list[bytes]], None] = lambda _sequence, _recipients: None
        self.worker_changed: Callable[[], None] = lambda: None
        self.store_changed: Callable[[], None] = lambda: None
        self.greeted: Callable[[], None] = lambda: None
        loop.register(_number(self._socket, zmq.FD), self, READABLE)
        loop.at_turn_end(self.resume_output)

    def submit(self, operation: Operation, waiter: Waiter, size: int = 0) -> None:
        """Send `operation` with the next batch. `size`: bytes it keeps in memory until it
        is answered.
        """
        if self._run is not None:
            self._close_run(self._run)
        self._sender.submit(operation, waiter, self._loop.now, size)

    def submit_sends(self, run: PipelinedSends, proven: bool, cost: int, sender: Sender) -> None:
        """Send these 603s with the next batch. `cost`: bytes they keep in memory until
        they are answered.
        """
        if self._run is not None:
            if self._run.add(run, proven, cost, sender):
                return
            self._close_run(self._run)
        self._run = SendBatcher(proven, self._loop.now)
        self._run.add(run, proven, cost, sender)

    def _close_run(self, run: SendBatcher) -> None:
        """What comes next comes behind it, so that the order of requests stays that of
        their operations.
        """
        self._run = None
        self._sender.submit(run.complete(), run, run.opened_at, run.cost)

    def _close_share(self, run: SendBatcher) -> None:
        """What of the run the next batch takes."""
        rest = run.split(self._sender.share(run.cost), self._loop.now)
        self._close_run(run)
        self._run = rest

    @property
    def bytes_under_way(self) -> int:
        """What waits for the worker's answer."""
        return self._sender.size + (self._run.cost if self._run is not None else 0)

    @property
    def collects(self) -> bool:
        """Whether something waits for the next batch."""
        return self._run is not None or self._sender.collected > 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self.collects and not self._sender.waiting

    def ready(self, events: int) -> None:
        """The socket has news; `resume_output` looks at it at the end of the turn."""

    def resume_output(self) -> None:
        """Take in all that came, hand out outcomes, send what has to leave; again until nothing
        more leaves.

        ZeroMQ's descriptor is edge-triggered, and what was taken off the socket or put into it may
        have swallowed an edge: so the socket is asked at the end of every turn, which costs a
        microsecond.
        """
        while True:
            events = self._receive()
            if self._run is not None and self._sender.has_place(self._run.cost):
                self._close_share(self._run)
            events += self._late_ones()
            # The worker need not wait while outcomes are handed out. What else may have come
            # changes what leaves.
            if not all(isinstance(event, Answered) for event in events):
                self._handle(events)
                events = []
            sent = self._send()
            self._handle(events)
            if not sent and not events:
                break
        self._set_timer()

    def _connection_changed(self, connected: bool) -> None:
        if connected:
            self._sender.reconnected()
        elif self._connected:
            log.warning("the storage worker is gone; requests wait for it")
        self._connected = connected

    def _receive(self) -> list[Event[Waiter]]:
        events: list[Event[Waiter]] = []
        while _number(self._socket, _EVENTS) & _POLLIN:
            parts = self._socket.recv_multipart(zmq.NOBLOCK)
            try:
                if len(parts) != 1:
                    raise FrameUndecodable(f"{len(parts)} parts instead of one")
                message = decode_to_gateway(parts[0])
            except FrameUndecodable as error:
                _rarely.write(logging.ERROR, "dropped a message of the storage worker: %s", error)
                continue
            if isinstance(message, MailArrived):
                self.arrived(message.sequence, message.recipients)
            else:
                events += self._sender.receive(message)
        return events

    def _late_ones(self) -> list[Event[Waiter]]:
        events = self._sender.expire(self._loop.now)
        if events:
            log.error("the storage worker did not answer in time; its requests end without a reply")
        return events

    def _handle(self, events: list[Event[Waiter]]) -> None:
        for event in events:
            match event:
                case Answered(operations, waiters, outcomes):
                    if outcomes is None:
                        _rarely.write(
                            logging.ERROR, "the storage worker refused a batch of %d operations", len(operations)
                        )
                        outcomes = [_NOT_DONE] * len(operations)
                    fail_points.reach(FailPoint.GATEWAY_ANSWERED, fail_points.names(operations))
                    for operation, waiter, outcome in zip(operations, waiters, outcomes, strict=True):
                        try:
                            waiter.answered(operation, outcome)
                        except Exception as error:
                            report(error)
                            waiter.unknown(operation)
                case GivenUp(operations, waiters):
                    for operation, waiter in zip(operations, waiters, strict=True):
                        try:
                            waiter.unknown(operation)
                        except Exception as error:
                            report(error)
                case Deadly(operation, waiter):
                    log.error(
                        "the storage worker ended each time it was given this %s; it is not sent again, and ends "
                        "without a reply",
                        type(operation).__name__,
                    )
                    try:
                        waiter.unknown(operation)
                    except Exception as error:
                        report(error)
                case Greeted(facts, _):
                    log.info("joined the storage worker, generation %d", facts.generation)
                    before, self.facts = self.facts, facts
                    facts_now = (facts.server_id, facts.generation)
                    if before is not None and (before.server_id, before.generation) != facts_now:
                        log.warning("the store is another one than before; all connections end")
                        if self._run is not None:
                            self._close_run(self._run)
                        self._handle(self._sender.give_up_collected())
                        self.store_changed()
                    self.worker_changed()
                    self.greeted()
                case WorkerChanged():
                    self.worker_changed()

    def _send(self) -> bool:
        if not self._connected:
            return False
        collected = self._sender.collected
        frame = self._sender.frame_to_send(self._loop.now)
        if frame is None:
            return False
        if self._sender.collected < collected:
            fail_points.reach(FailPoint.GATEWAY_RECEIVED, fail_points.names(self._sender.leaving))
        try:
            # Without a copy a frame that is sent again and again to a worker that sleeps costs its
            # memory once.
            self._socket.send(frame, zmq.NOBLOCK, copy=len(frame) < _SMALL_FRAME)
        except zmq.Again:
            self._sender.not_sent()
            return False
        # ZeroMQ's thread has to run before the worker hears of it. It often waits behind this one
        # for its processor, while others idle. See docs/decisions/0007-taking-turns.md.
        os.sched_yield()
        fail_points.reach(FailPoint.GATEWAY_SENT, fail_points.names(self._sender.leaving))
        return True

    def _set_timer(self) -> None:
        """Wake when something is due; an earlier timer is left to wake us early, which is
        cheaper than a new one.
        """
        when = self._sender.next_deadline(connected=self._connected)
        if when is None or (self._timer is not None and self._timer_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        # What the socket refused to take is due at once, and is tried again at this pace.
        self._timer_at = max(when, self._loop.now + _RETRY_SEND)
        self._timer = self._loop.call_at(self._timer_at, self._wake)

    def _wake(self) -> None:
        self._timer = None

    def close(self) -> None:
        """Leave without waiting."""
        self._loop.unregister(_number(self._socket, zmq.FD))
        self._monitor.close()
        self._socket.close()
        self._zmq.term()
