"""Crowds: many connections from one process that all do the same to a server. Owns: their sockets,
what each of them writes and reads, and how often they are refused as too fast. Promises: a
connection that the server ends is opened again, at a bounded rate; only the server is waited for.
Exposure: 127.0.0.1 only.
"""

import contextlib
import multiprocessing
import os
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from common.client_protocol.client_connection import ClientConnection
from common.client_protocol.responses import ErrorResponse
from common.values import RefusalReason

_WRITE_SIZE: Final = 256 * 1024
_READ_SIZE: Final = 256 * 1024
_OPEN_AT_ONCE: Final = 32
_NICENESS: Final = 10
_PAUSE: Final = 0.001
"""Seconds between two rounds of opening connections that were ended."""
_LONGEST_REST: Final = 0.1
_BIND_ADDRESS_NO_PORT: Final = 24
"""IP_BIND_ADDRESS_NO_PORT of Linux: the port is chosen for the pair of addresses, so that they do
not run out.
"""

Pieces = Callable[[int], Iterator[bytes]]
"""What connection number n writes, piece by piece; if it ends, the connection stays open and says
nothing more.
"""


def from_here(_number: int) -> str:
    """The address that a connection comes from if nothing else is said."""
    return "127.0.0.1"


class Refusals:
    """The refusals that a crowd got, in memory that its process shares with others. `too_fast`:
    reason 7 with a time to wait.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._too_fast = context.Value("q", 0, lock=False)
        self._timeless = context.Value("q", 0, lock=False)
        self._closed = context.Value("q", 0, lock=False)

    def heard(self, answer: ErrorResponse) -> None:
        """One refusal."""
        if answer.reason == RefusalReason.TOO_FAST:
            (self._too_fast if answer.retry_after else self._timeless).value += 1

    def ended(self) -> None:
        """The server ended a connection."""
        self._closed.value += 1

    @property
    def too_fast(self) -> int:
        """With a time to wait."""
        return int(self._too_fast.value)

    @property
    def timeless(self) -> int:
        """Too fast, without a time."""
        return int(self._timeless.value)

    @property
    def closed(self) -> int:
        """Connections that the server ended, or never took."""
        return int(self._closed.value)


class Habits(NamedTuple):
    """What every connection of a crowd does. `reads`: whether it takes its answers; `comes_back`:
    once it was ended. `source`: the address that connection number n comes from. `every`: seconds
    between two pieces. `refusals`: counts their refusals; `understands`: the answers are of the
    protocol. `hangs_up_after`: bytes of answers after which it closes, without reading the rest; 0
    for never. `niceness`: of its process; `gives_way`: which runs only while nobody else wants the
    processor.
    """

    connections: int
    pieces: Pieces
    reads: bool = True
    comes_back: bool = True
    source: Callable[[int], str] = from_here
    every: float = 0.0
    refusals: Refusals | None = None
    understands: bool = True
    hangs_up_after: int = 0
    niceness: int = _NICENESS
    gives_way: bool = False


def raise_descriptors() -> None:
    """Raise this process's limit of open files as far as the system allows."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _HangsUp(OSError):
    """A connection has read as much as it wants."""


class _Member:
    """One connection of a crowd."""

    def __init__(self, port: int, number: int, habits: Habits, epoll: select.epoll) -> None:
        self._habits = habits
        self._epoll = epoll
        self._pieces = habits.pieces(number)
        self._rest = memoryview(b"")
        self._read = 0
        self._answers = ClientConnection() if habits.refusals is not None and habits.understands else None
        self._sock = socket.socket()
        self._sock.settimeout(0)
        if not habits.reads:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        try:
            self._sock.bind((habits.source(number), 0))
            with contextlib.suppress(BlockingIOError):
                self._sock.connect(("127.0.0.1", port))
        except OSError:
            self._sock.close()
            raise
        self.descriptor = self._sock.fileno()
        epoll.register(self.descriptor, self._reading | select.EPOLLOUT)

    @property
    def _reading(self) -> int:
        return select.EPOLLIN if self._habits.reads else 0

    def advance(self, events: int) -> bool:
        """Write and read what can be written and read; return whether it pauses now. Raises
        `OSError` if the connection has ended; `_HangsUp` if it is its own will.
        """
        if events & (select.EPOLLERR | select.EPOLLHUP):
            raise ConnectionResetError
        if events & select.EPOLLIN:
            data = self._sock.recv(_READ_SIZE)
            if not data:
                raise ConnectionResetError
            self._hear(data)
            self._read += len(data)
            if 0 < self._habits.hangs_up_after <= self._read:
                raise _HangsUp
        return bool(events & select.EPOLLOUT) and self._write()

    def _write(self) -> bool:
        if not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                self._epoll.modify(self.descriptor, self._reading)
                return False
            self._rest = memoryview(piece)
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[self._sock.send(self._rest[:_WRITE_SIZE]) :]
        pauses = bool(self._habits.every) and not self._rest
        if pauses:
            self._epoll.modify(self.descriptor, self._reading)
        return pauses

    def go_on(self) -> None:
        """The pause is over."""
        self._epoll.modify(self.descriptor, self._reading | select.EPOLLOUT)

    def _hear(self, data: bytes) -> None:
        if self._answers is None or self._habits.refusals is None:
            return
        self._answers.receive_data(data)
        while (event := self._answers.next_event()) is not None:
            if isinstance(event, ErrorResponse):
                self._habits.refusals.heard(event)

    def close(self) -> None:
        self._sock.close()


def crowd(port: int, habits: Habits) -> None:
    """Do it until this process is ended."""
    raise_descriptors()
    # It stands for other machines, which would not take the server's processor time.
    if habits.gives_way:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(habits.niceness)
    epoll = select.epoll()
    members: dict[int, _Member] = {}
    resting: deque[tuple[float, _Member]] = deque()
    free = deque(range(habits.connections))
    """Numbers of the connections to be opened: each keeps its own."""
    numbers: dict[int, int] = {}
    while True:
        for _ in range(min(len(free), _OPEN_AT_ONCE)):
            try:
                member = _Member(port, free[0], habits, epoll)
            except OSError:
                # No local port or descriptor at the moment.
                break
            members[member.descriptor] = member
            numbers[member.descriptor] = free.popleft()
        if free:
            time.sleep(_PAUSE)
        while resting and resting[0][0] <= time.monotonic():
            _when, member = resting.popleft()
            if members.get(member.descriptor) is member:
                member.go_on()
        for descriptor, events in epoll.poll(_PAUSE if free else _LONGEST_REST):
            member = members[descriptor]
            try:
                if member.advance(events):
                    resting.append((time.monotonic() + habits.every, member))
            except OSError as error:
                del members[descriptor]
                member.close()
                if habits.refusals is not None and not isinstance(error, _HangsUp):
                    habits.refusals.ended()
                if habits.comes_back:
                    free.append(numbers[descriptor])
