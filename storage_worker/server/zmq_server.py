"""The worker's end of the storage link: a ROUTER socket and the loop around it.

Owns: the socket.
Promises: everything that gateways ask at a time is done in one transaction, and answered after the
commit. An operator's requests are answered between two of them, one at a time. An answer that can't
be delivered is dropped; the gateway asks again.
Exposure: whoever may enter the link's folder (mode 0700), and over TCP whoever has an allowed key
(`tcp_link`). Invalid frames are logged and dropped.

Source: docs/storage-protocol.md, "The link".
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq

from common import fail_points
from common.errors import FrameUndecodable, SettingRejected
from common.fail_points import FailPoint
from common.rare_log import RareLog
from common.status_server import BEAT
from common.storage_protocol.administration import NotDone, encode_answer, is_admin, number_of
from common.storage_protocol.frames import Drain, Hello, Order, decode_to_worker, encode_to_gateway
from common.zmq_calls import ZmqCalls, wait
from storage_worker.server.administration import Administration
from storage_worker.server.batch_processor import BatchProcessor, Inbound, Outbound, concerns
from storage_worker.server.measures import Measures
from storage_worker.server.tcp_link import TcpLink

log = logging.getLogger("storage_worker")
rarely: Final = RareLog(log)

MESSAGES_PER_DRAIN: Final = 64
BYTES_PER_DRAIN: Final = 64 * 1024 * 1024
TIDY_EVERY_MS: Final = 500
ADMIN_WAITING: Final = 64
"""Requests of operators that wait for their turn."""
_POLLIN: Final = int(zmq.POLLIN)
OpenTcp = Callable[["zmq.Context[zmq.Socket[bytes]]", "zmq.Socket[bytes]"], TcpLink]
DRAIN_WITHIN_MS: Final = 10_000
"""A gateway that was told to end does so within 5 seconds."""
TELL_EVERY_MS: Final = 50
BUSY_EVERY_MS: Final = 20
LOOK_EVERY_MS: Final = 60_000
LARGEST_FRAME: Final = 1024**3
"""A gateway bounds what it has in flight far below this."""


class ZmqServer:
    """Serves `processor` and `administration` at `endpoint` until `wake` becomes readable, and at
    what `open_tcp` binds of the socket besides.

    `wake` is a file descriptor, `unix_ms` the clock. Maintenance is done between two turns, and
    when nothing has arrived for `TIDY_EVERY_MS` while some is due. Raises `SettingRejected` if the
    endpoint can't be bound.
    """

    def __init__(
        self,
        processor: BatchProcessor,
        administration: Administration,
        endpoint: str,
        unix_ms: Callable[[], int],
        open_tcp: OpenTcp | None = None,
    ) -> None:
        self.processor = processor
        self._administration = administration
        self._drain_until: int | None = None
        """Unix milliseconds at which the gateways have to have ended, where they were told to."""
        self._told_at = 0
        self._asked: deque[tuple[bytes, bytes]] = deque()
        """Requests of operators: from whom, and the frame."""
        self._unix_ms = unix_ms
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.LINGER, 0)
        # An answer that finds no place would be lost on a connection that is open, and nobody would
        # ask again. A gateway has two batches to be answered, and notices come only for
        # subscriptions, which they use up.
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_FRAME)
        self._calls = ZmqCalls(self.socket)
        self._tcp: TcpLink | None = None
        try:
            self.socket.bind(endpoint)
            if open_tcp is not None:
                self._tcp = open_tcp(self._context, self.socket)
        except zmq.ZMQError as error:
            self.close()
            raise SettingRejected(f"{endpoint} can't be bound: {error}") from error
        except SettingRejected:
            self.close()
            raise

    def serve(self, wake: int, beat: Callable[[], None] | None = None, measures: Measures | None = None) -> None:
        """Serve until `wake` is readable, or an operator has drained the server. `beat` is called
        each turn, and at least every `BEAT` seconds. `measures`: where turns are counted and timed.
        Raises `StoreFailed`.
        """
        sources: list[zmq.Socket[bytes] | int] = [self.socket, wake]
        if self._tcp is not None:
            sources += self._tcp.sockets
        items = [(source, _POLLIN) for source in sources]
        idle_ms = None if beat is None else int(BEAT * 1000)
        while wake not in wait(items, self._patience_ms(idle_ms)):
            self.turn(measures)
            if self._drain_until is not None and self._is_drained(self._drain_until):
                return
            if beat is not None:
                beat()
            if measures is not None:
                measures.look()

    def _patience_ms(self, idle_ms: int | None) -> int | None:
        """How long to wait for input before there is something to do."""
        if self._asked:
            return 0
        if self._drain_until is not None:
            return TELL_EVERY_MS
        if self.processor.is_busy:
            return BUSY_EVERY_MS
        if self.processor.has_waiting:
            return TIDY_EVERY_MS
        return LOOK_EVERY_MS if idle_ms is None and self.processor.waits_for_a_time else idle_ms

    def turn(self, measures: Measures | None = None) -> None:
        """Answer what has arrived. Raises `StoreFailed`."""
        if self._tcp is not None:
            self._tcp.look()
        inbound = self._drain()
        began = 0.0 if measures is None else measures.clock()
        if inbound:
            fail_points.reach(FailPoint.WORKER_RECEIVED, concerns(inbound))
            answers = self.processor.handle(inbound, self._unix_ms())
            fail_points.reach(FailPoint.WORKER_AFTER_COMMIT, concerns(inbound))
            if measures is not None:
                measures.committed(began, [one.message for one in inbound], [one.message for one in answers])
                began = measures.clock()
            for outbound in answers:
                self._send(outbound)
            fail_points.reach(FailPoint.WORKER_REPLYING, concerns(inbound))
        if self._asked:
            peer, frame = self._asked.popleft()
            answer = self._administration.answer(frame, self._unix_ms())
            self._post(peer, encode_answer(number_of(frame), answer))
            self._pass_on(self._administration.take_orders())
        self.processor.maintain(self._unix_ms())
        for notice in self.processor.take_notices():
            self._send(notice)
        if measures is not None:
            measures.maintained(began)

    def _pass_on(self, orders: list[Order]) -> None:
        for order in orders:
            for peer in self.processor.peers:
                self._post(peer, encode_to_gateway(order))
            if isinstance(order, Drain) and self._drain_until is None:
                self._drain_until = self._unix_ms() + DRAIN_WITHIN_MS

    def _is_drained(self, until: int) -> bool:
        """Whether the gateways, which were told to end, have ended or taken longer than `until`.
        One that is still there is told again, which has no effect.
        """
        now = self._unix_ms()
        if 0 <= now - self._told_at < TELL_EVERY_MS:
            return False
        self._told_at = now
        there = [peer for peer in self.processor.peers if self._post(peer, encode_to_gateway(Drain()))]
        if there and now < until:
            return False
        if there:
            log.warning("gateways that did not end in time: %d", len(there))
        log.info("drained")
        return True

    def _drain(self) -> list[Inbound]:
        inbound: list[Inbound] = []
        size = 0
        for _ in range(MESSAGES_PER_DRAIN):
            if size >= BYTES_PER_DRAIN or not self._calls.has_input():
                break
            try:
                peer, frame = self._calls.receive_routed()
                size += len(frame)
                if is_admin(frame):
                    self._take_request(peer, frame)
                    continue
                message = decode_to_worker(frame)
                if self._drain_until is None or not isinstance(message, Hello):
                    # A gateway that comes now is for the next worker.
                    inbound.append(Inbound(peer, message))
            except FrameUndecodable as error:
                rarely.write(logging.WARNING, "dropped an invalid frame: %s", error)
        return inbound

    def _take_request(self, peer: bytes, frame: bytes) -> None:
        if len(self._asked) < ADMIN_WAITING:
            self._asked.append((peer, frame))
        else:
            self._post(peer, encode_answer(number_of(frame), NotDone("too many requests wait: try again later")))

    def _send(self, answer: Outbound) -> None:
        self._post(answer.peer, encode_to_gateway(answer.message))

    def _post(self, peer: bytes, frame: bytes) -> bool:
        """Send; returns whether there is a peer with that name."""
        try:
            self._calls.send_routed(peer, frame)
        except zmq.ZMQError as error:
            # Gone, or not listening: a gateway that wants the answer asks again.
            log.debug("an answer could not be delivered: %s", error)
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._tcp is not None:
            self._tcp.close()
        self.socket.close()
        self._context.term()
