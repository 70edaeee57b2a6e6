"""The load generator in Python, for machines without a C compiler: `python -m bench.slow_generator
PLAN-FILE [CONNECTIONS-FILE]`.

Owns: the same loads, checks and report as `loadgen/`, for MessageU alone.
Promises: the same counts; several times the processor time a message, so that it may well be the
bottleneck. Reports of its figures say so. Bounded like the other, and it ends by itself.
Exposure: started by `bench/generator.py` alone, which writes the plan.
"""

import dataclasses
import json
import os
import random
import resource
import select
import socket
import ssl
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.histogram import bucket_of
from bench.plan import TOKEN_SIZE, Mode, Plan, Report
from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.responses import FETCHED_HEAD, STORED, WAITING_HEAD, ResponseCode

_READ_SIZE: Final = 1 << 18
_LARGEST_SKIP: Final = 1 << 20
_CONNECT_SECONDS: Final = 10.0
_GO_SECONDS: Final = 120.0
_TICK_SECONDS: Final = 0.02
_LATER: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_BROKEN: Final = select.EPOLLERR | select.EPOLLHUP


class _Lost(Exception):
    """The connection has ended, or is of no more use."""


class _Connection:
    """One connection: what is in flight on it, and where the stream of its answers stands."""

    __slots__ = (
        "flights",
        "held",
        "last_id",
        "number",
        "outgoing",
        "payload_left",
        "skip",
        "skipping",
        "socket",
        "watched",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.socket: socket.socket | None = None
        self.flights: deque[tuple[int, int]] = deque()
        """(nanosecond it was sent at, target), oldest first"""
        self.last_id = 0
        self.forget()

    def forget(self) -> None:
        """The next connection begins anew."""
        self.flights.clear()
        self.held = b""
        self.outgoing = b""
        self.payload_left = 0
        self.skip = 0
        """Bytes of a content, or of an unexpected payload, that are still to come."""
        self.skipping = False
        self.watched = select.EPOLLIN


class SlowGenerator:
    """One run of a plan."""

    def __init__(self, plan: Plan, inherited: Sequence[int] = ()) -> None:
        """`inherited`: descriptors of connections that are open already."""
        self.report = Report(per_target=[0] * len(plan.heads))
        self._plan = plan
        self._inherited = inherited
        self._mail_code = ResponseCode.FETCHED if plan.extension else ResponseCode.WAITING
        self._entry_head = FETCHED_HEAD if plan.extension else WAITING_HEAD
        self._own_mailboxes = plan.extension and plan.mode is Mode.DRAIN
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, _Connection] = {}
        self._random = random.Random(plan.seed)
        self._prefixes = plan.prefixes or [b""] * plan.connections
        self._requests = [head + plan.body for head in plan.heads]
        self._connections = [_Connection(number) for number in range(plan.connections)]
        self._in_flight = 0
        self._next_target = 0
        self._started = 0
        self._begin = 0
        self._last_answer = 0
        self._deadline = 0
        self._stopped = False
        self._tls: ssl.SSLContext | None = None
        if plan.tls:
            # The server is one that was started for this.
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    def open(self) -> None:
        """Open all connections. Raises `OSError`."""
        for connection in self._connections:
            self._open(connection)

    def run(self) -> Report:
        """Do the work."""
        plan = self._plan
        report = self.report
        report.opened = len(self._by_descriptor)
        cpu = time.process_time()
        self._begin = self._last_answer = time.monotonic_ns()
        self._deadline = self._begin + round(plan.run_time * 1e9)
        if plan.mode is not Mode.IDLE or plan.heads:
            self._turn_until_done()
        report.unanswered += self._in_flight
        report.seconds = (self._last_answer - self._begin) / 1e9
        report.cpu_seconds = time.process_time() - cpu
        return report

    def _turn_until_done(self) -> None:
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        limit = self._begin + round(self._plan.limit_time * 1e9)
        for connection in self._connections:
            self._work(connection, connection_answered=False)
        self._start_connections()
        while not self._done(now := time.monotonic_ns()):
            if now >= limit:
                self.report.cut_short = True
                return
            for descriptor, events in self._epoll.poll(_TICK_SECONDS):
                if descriptor == sys.stdin.fileno():
                    if not os.read(descriptor, 1):
                        raise SystemExit(3)  # The one who started this has gone.
                    self._stopped = True
                    continue
                ready = self._by_descriptor.get(descriptor)
                if ready is not None:
                    self._work(ready, connection_answered=bool(events & (select.EPOLLIN | _BROKEN)))
            self._start_connections()

    def _done(self, now: int) -> bool:
        if not self._by_descriptor:
            return True
        if self._in_flight:
            return False
        match self._plan.mode:
            case Mode.SEND:
                return not self._more_to_send(now)
            case Mode.DRAIN if not self._own_mailboxes:
                return self._next_target >= len(self._requests)
            case Mode.DRAIN | Mode.IDLE:
                return self._started >= len(self._connections)

    # --- connections
    # ------------------------------------------------------------------------------------------

    def _open(self, connection: _Connection) -> None:
        opened = self._opened(connection.number)
        opened.setblocking(False)  # noqa: FBT003
        connection.forget()
        connection.socket = opened
        self._by_descriptor[opened.fileno()] = connection
        self._epoll.register(opened.fileno(), select.EPOLLIN)

    def _opened(self, number: int) -> socket.socket:
        if self._inherited:
            return socket.socket(fileno=self._inherited[number])
        source = f"127.0.0.{1 + number % self._plan.sources}"
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.settimeout(_CONNECT_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._plan.sources > 1:
            opened.bind((source, 0))
        opened.connect(("127.0.0.1", self._plan.port))
        if self._tls is not None:
            return self._tls.wrap_socket(opened)
        return opened

    def _close(self, connection: _Connection) -> None:
        if connection.socket is not None:
            del self._by_descriptor[connection.socket.fileno()]
            connection.socket.close()
            connection.socket = None
        self._in_flight -= len(connection.flights)
        self.report.unanswered += len(connection.flights)
        connection.forget()

    def _work(self, connection: _Connection, *, connection_answered: bool) -> None:
        """Read where there is something, ask for more, write."""
        try:
            if connection_answered:
                self._read(connection)
            if connection.socket is not None:
                self._refill(connection)
                self._write(connection)
        except (_Lost, OSError):
            self.report.closed_early += 1
            self._close(connection)

    # --- requests
    # ---------------------------------------------------------------------------------------------

    def _more_to_send(self, now: int) -> bool:
        plan = self._plan
        if self._stopped:
            return False
        return (not plan.messages or self.report.sent < plan.messages) and (not plan.run_time or now < self._deadline)

    def _refill(self, connection: _Connection) -> None:
        now = time.monotonic_ns()
        match self._plan.mode:
            case Mode.SEND:
                while len(connection.flights) < self._plan.window and self._more_to_send(now):
                    self._ask(connection, self._random.randrange(len(self._requests)), now)
            case Mode.DRAIN if not self._own_mailboxes:
                if not connection.flights and self._next_target < len(self._requests):
                    connection.last_id = 0
                    self._ask(connection, self._next_target, now)
                    self._next_target += 1
            case Mode.DRAIN | Mode.IDLE:
                pass

    def _start_connections(self) -> None:
        if (self._plan.mode is Mode.IDLE or self._own_mailboxes) and self._requests:
            while self._started < len(self._connections) and self._in_flight < self._plan.window:
                connection = self._connections[self._started]
                self._started += 1
                if connection.socket is not None:
                    self._ask(connection, connection.number % len(self._requests), time.monotonic_ns())
                    self._work(connection, connection_answered=False)

    def _ask(self, connection: _Connection, target: int, now: int) -> None:
        connection.outgoing += self._prefixes[connection.number] + self._stamp(connection) + self._requests[target]
        connection.flights.append((now, target))
        self._in_flight += 1
        self.report.sent += 1

    def _stamp(self, connection: _Connection) -> bytes:
        """What stands between prefix and head."""
        if not self._plan.extension:
            return b""
        return os.urandom(TOKEN_SIZE) if self._plan.mode is Mode.SEND else struct.pack("<Q", connection.last_id)

    def _write(self, connection: _Connection) -> None:
        assert connection.socket is not None
        if connection.outgoing:
            try:
                taken = connection.socket.send(connection.outgoing)
            except _LATER:
                taken = 0
            connection.outgoing = connection.outgoing[taken:]
        watched = select.EPOLLIN | (select.EPOLLOUT if connection.outgoing else 0)
        if watched != connection.watched:
            self._epoll.modify(connection.socket.fileno(), watched)
            connection.watched = watched

    # --- answers
    # ----------------------------------------------------------------------------------------------

    def _read(self, connection: _Connection) -> None:
        while self._read_once(connection) and self._tls is not None:
            # OpenSSL may have records that the kernel has no more.
            pass

    def _read_once(self, connection: _Connection) -> bool:
        """Whether there may be more."""
        if connection.socket is None:
            return False
        try:
            data = connection.socket.recv(_READ_SIZE)
        except _LATER:
            return False
        if not data:
            raise _Lost
        now = time.monotonic_ns()
        opened = connection.socket
        data = connection.held + data
        connection.held = b""
        at = 0
        while connection.socket is opened:
            step = self._step(connection, data, at, now)
            if step == 0:
                connection.held = data[at:]
                return True
            at += step
        return False

    def _step(self, connection: _Connection, data: bytes, at: int, now: int) -> int:
        """Take the next piece of `data` from `at` on; the number of bytes it had, 0 where
        more of them are needed.
        """
        left = len(data) - at
        if connection.skip:
            step = min(connection.skip, left)
            connection.skip -= step
            connection.payload_left -= step
        elif connection.payload_left:
            if connection.payload_left < self._entry_head.size:
                self.report.unexpected += 1
                raise _Lost
            step = self._entry_head.size
            if left < step:
                return 0
            self._take_message(connection, data, at)
        else:
            step = RESPONSE_HEADER.size
            if left < step:
                return 0
            _version, code, size = RESPONSE_HEADER.unpack_from(data, at)
            if code == ResponseCode.STORED and size == STORED.size and self._plan.mode is Mode.SEND:
                step += size
                if left < step:
                    return 0
            recipient = data[at + RESPONSE_HEADER.size : at + RESPONSE_HEADER.size + 16]
            self._take_head(connection, code, size, recipient, now)
            return step
        if step and not connection.payload_left and not connection.skipping:
            self._pulled(connection, now)
        return step

    def _answered(self, connection: _Connection, now: int) -> tuple[int, int]:
        self._in_flight -= 1
        self._last_answer = now
        return connection.flights.popleft()

    def _record(self, latency: int) -> None:
        bucket = bucket_of(latency)
        self.report.latencies[bucket] = self.report.latencies.get(bucket, 0) + 1
        self.report.slowest = max(self.report.slowest, latency)

    def _take_head(self, connection: _Connection, code: int, size: int, recipient: bytes, now: int) -> None:
        report = self.report
        if not connection.flights:
            report.unexpected += 1
            raise _Lost
        connection.skipping = False
        if code == ResponseCode.STORED and size == STORED.size and self._plan.mode is Mode.SEND:
            sent_at, target = self._answered(connection, now)
            if recipient == self._plan.keys[target]:
                report.acknowledged += 1
                report.per_target[target] += 1
                self._record(now - sent_at)
            else:
                report.wrong += 1
        elif code == self._mail_code and self._plan.mode is not Mode.SEND:
            connection.payload_left = size
            if not size:
                self._pulled(connection, now, empty=True)
        else:
            self._answered(connection, now)
            if code == ResponseCode.ERROR and not size:
                report.refused += 1
                return
            report.unexpected += 1
            if size > _LARGEST_SKIP:
                raise _Lost
            connection.payload_left = connection.skip = size
            connection.skipping = True

    def _take_message(self, connection: _Connection, data: bytes, at: int) -> None:
        report = self.report
        fields = self._entry_head.unpack_from(data, at)
        message_id, size = fields[2 if self._plan.extension else 1], fields[-1]
        connection.payload_left -= self._entry_head.size
        if size > connection.payload_left:
            report.unexpected += 1
            raise _Lost
        report.messages += 1
        report.content_bytes += size
        report.per_target[connection.flights[0][1]] += 1
        report.wrong_size += self._plan.content_size not in {0, size}
        report.disordered += message_id <= connection.last_id
        connection.last_id = message_id
        connection.skip = size

    def _pulled(self, connection: _Connection, now: int, *, empty: bool = False) -> None:
        """The end of a 2104."""
        sent_at, target = self._answered(connection, now)
        self.report.responses += 1
        self._record(now - sent_at)
        if self._plan.mode is Mode.IDLE:
            return
        self.report.finished_targets += empty
        if self._plan.close_each:
            self._close(connection)
            if not empty or self._next_target < len(self._requests):
                self._open(connection)
        if not empty:
            self._ask(connection, target, now)


def _stdin_speaks(seconds: float) -> bool:
    """Wait until stdin brings a byte (true), or ends or stays silent for `seconds` (false)."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and bool(os.read(sys.stdin.fileno(), 1))


def main() -> None:
    """Open the connections, say "ready", wait for a byte, work, report, hold until stdin ends."""
    plan = Plan.decode(Path(sys.argv[1]).read_bytes())
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    inherited = array("I", Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else b"")
    generator = SlowGenerator(plan, inherited)
    try:
        generator.open()
    except OSError as error:
        raise SystemExit(f"a connection can't be opened: {error.strerror}") from error
    print("ready", flush=True)
    if _stdin_speaks(_GO_SECONDS):
        report = generator.run()
        print(json.dumps(dataclasses.asdict(report)), flush=True)
        _stdin_speaks(plan.hold_time)


if __name__ == "__main__":
    main()
