"""What Linux reports about a TCP connection.

Owns: the ioctls and the struct that the evidence of delivery is based on (tcp(7), linux/tcp.h).
Promises: plain numbers; nothing but `reset_on_close` changes anything.
Exposure: numbers that the peer's TCP influences.
"""

import fcntl
import socket
import termios
from struct import Struct
from typing import Final

from gateway.delivery.evidence import SegmentsIn

_INT: Final = Struct("i")
_NO_BYTES: Final = bytes(_INT.size)
_ABORT: Final = Struct("ii").pack(1, 0)
"""SO_LINGER: on, zero seconds."""
_TCP_INFO_SIZE: Final = 160
_SEGMENTS_IN: Final = Struct("140xI8xI")
"""tcpi_segs_in and tcpi_data_segs_in within struct tcp_info."""


class TcpSocket(socket.socket):
    """A TCP socket, and what can be seen of its connection: the base of a transport over TCP."""

    __slots__ = ()

    def unacknowledged(self) -> int:
        """Bytes that were written and not yet acknowledged by the peer's TCP (SIOCOUTQ)."""
        return int(_INT.unpack(fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, _NO_BYTES))[0])

    def input_waiting(self) -> bool:
        """Whether bytes are there to be read (SIOCINQ)."""
        return fcntl.ioctl(self.fileno(), termios.FIONREAD, _NO_BYTES) != _NO_BYTES

    def segments_in(self) -> SegmentsIn:
        """The connection's counters (TCP_INFO)."""
        info = self.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        return SegmentsIn(*_SEGMENTS_IN.unpack_from(info))

    def error(self) -> int:
        """The pending error, an errno, which is thereby taken; 0 for none."""
        return self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def reset_on_close(self) -> None:
        """Make `close` send a reset instead of an orderly end.

        Raises `OSError` where the socket is gone.
        """
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
