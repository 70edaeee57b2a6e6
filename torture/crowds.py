"""Crowds: many connections that all do the same to a server, from one process.

Owns: their sockets, and what each of them writes and reads.
Promises: a connection that the server ends is opened again, at a bounded pace; nothing is waited
for but the server.
Exposure: 127.0.0.1 only.
"""

import contextlib
import itertools
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_WRITE_SIZE: Final = 256 * 1024
_READ_SIZE: Final = 256 * 1024
_OPEN_AT_ONCE: Final = 32
_NICENESS: Final = 10
_PAUSE: Final = 0.001
"""Seconds between two rounds of opening connections that were ended."""

Pieces = Callable[[int], Iterator[bytes]]
"""What connection number n writes, piece by piece; where it ends, the connection stays
open and says nothing more.
"""


class Habits(NamedTuple):
    """What every connection of a crowd does. `reads`: whether it takes its answers;
    `comes_back`: once it was ended.
    """

    connections: int
    pieces: Pieces
    reads: bool = True
    comes_back: bool = True


def raise_descriptors() -> None:
    """As many open files as the system allows this process."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Member:
    """One connection of a crowd."""

    def __init__(self, port: int, number: int, habits: Habits, epoll: select.epoll) -> None:
        self._habits = habits
        self._epoll = epoll
        self._pieces = habits.pieces(number)
        self._rest = memoryview(b"")
        self._sock = socket.socket()
        self._sock.settimeout(0)
        if not habits.reads:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(BlockingIOError):
            self._sock.connect(("127.0.0.1", port))
        self.descriptor = self._sock.fileno()
        epoll.register(self.descriptor, select.EPOLLOUT | (select.EPOLLIN if habits.reads else 0))

    def advance(self, events: int) -> None:
        """Write and read what can be written and read. Raises `OSError` where the
        connection has ended.
        """
        if events & (select.EPOLLERR | select.EPOLLHUP):
            raise ConnectionResetError
        if events & select.EPOLLIN and not self._sock.recv(_READ_SIZE):
            raise ConnectionResetError
        if events & select.EPOLLOUT:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    self._epoll.modify(self.descriptor, select.EPOLLIN if self._habits.reads else 0)
                    return
                self._rest = memoryview(piece)
            with contextlib.suppress(BlockingIOError):
                self._rest = self._rest[self._sock.send(self._rest[:_WRITE_SIZE]) :]

    def close(self) -> None:
        self._sock.close()


def crowd(port: int, habits: Habits) -> None:
    """Do it until this process is ended."""
    raise_descriptors()
    # It stands for other machines: the server should not have to share its processors with it.
    os.nice(_NICENESS)
    epoll = select.epoll()
    members: dict[int, _Member] = {}
    numbers = itertools.count()
    missing = habits.connections
    while True:
        for _ in range(min(missing, _OPEN_AT_ONCE)):
            try:
                member = _Member(port, next(numbers), habits, epoll)
            except OSError:
                # No local port or descriptor at the moment.
                break
            members[member.descriptor] = member
            missing -= 1
        if missing:
            time.sleep(_PAUSE)
        for descriptor, events in epoll.poll(_PAUSE if missing else 1.0):
            member = members[descriptor]
            try:
                member.advance(events)
            except OSError:
                del members[descriptor]
                member.close()
                missing += habits.comes_back
