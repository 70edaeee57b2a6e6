"""What Linux tells about a TCP connection.

Owns: the ioctls and the one struct that the evidence for delivery rests on (tcp(7), linux/tcp.h).
Promises: plain numbers; nothing but `reset_on_close` changes anything.
Exposure: numbers that the peer's TCP influences.
"""

import fcntl
import socket
import termios
from struct import Struct
from typing import Final, NamedTuple

Socket = socket.socket

_INT: Final = Struct("i")
_ABORT: Final = Struct("ii").pack(1, 0)
"""SO_LINGER: on, zero seconds."""
_TCP_INFO_SIZE: Final = 160
_SEGMENTS_IN: Final = Struct("140xI8xI")
"""tcpi_segs_in and tcpi_data_segs_in within struct tcp_info."""


class SegmentsIn(NamedTuple):
    """How many segments the peer has sent so far: all of them, and those that carried data."""

    all: int
    with_data: int


def unacknowledged(sock: Socket) -> int:
    """Bytes that were written and not yet acknowledged by the peer's TCP (SIOCOUTQ)."""
    return int(_INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0])


def input_waits(sock: Socket) -> bool:
    """Whether bytes are there to be read (SIOCINQ)."""
    return fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(_INT.size)) != bytes(_INT.size)


def segments_in(sock: Socket) -> SegmentsIn:
    """The connection's counters (TCP_INFO)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    return SegmentsIn(*_SEGMENTS_IN.unpack_from(info))


def error(sock: Socket) -> int:
    """The pending error, an errno, which is thereby taken; 0 for none."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def reset_on_close(sock: Socket) -> None:
    """Make `close` send a reset instead of an orderly end. Raises `OSError` where the
    socket is gone.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
