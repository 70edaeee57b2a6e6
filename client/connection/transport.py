"""What carries a connection's bytes: a socket as it is, or TLS over it (`client.connection.tls`).

Owns: what the link asks of a carrier, and the plain one.
Promises: nothing here waits. What is counted as written is in the kernel's hands; what a carrier
has taken and not yet handed on is `unsent`.
Exposure: passes on what the other side sends.

Source: docs/client-protocol.md; docs/decisions/0015-a-pinned-certificate.md.
"""

import socket
from typing import Final, NamedTuple, Protocol

READ_SIZE: Final = 256 * 1024
NO_BINDING: Final = bytes(32)
"""What takes the place of the server's certificate on plain TCP."""


class Received(NamedTuple):
    """What one look brought."""

    data: bytes
    passed: int
    """Bytes that came over the wire for it; on TLS also where no content is whole yet."""
    ended: bool
    """Whether the other side has ended the connection in order: nothing comes behind `data`."""


class Transport(Protocol):
    """One carrier. Used from one thread, but for `interrupt`."""

    protected: bool
    """Whether a middleman can neither read nor alter nor end it unseen."""
    binding: bytes
    """What the proof binds to: the SHA-256 of the server's certificate, zeros on plain TCP."""
    written: int
    """Bytes that the kernel has taken since the beginning."""

    @property
    def unsent(self) -> bool:
        """Whether bytes that `send` took are not with the kernel yet."""

    @property
    def midway(self) -> bool:
        """Whether a part of something has come that is not whole yet."""

    @property
    def ready(self) -> bool:
        """Whether `receive` has something to give that the kernel knows nothing of."""

    def fileno(self) -> int:
        """Give the descriptor to wait on."""

    def send(self, data: memoryview) -> int:
        """Take what may be taken now, 0 where nothing may; hand on what was taken before.

        Raises `OSError`.
        """

    def receive(self) -> Received:
        """Give what is there. Raises `OSError` where the connection broke."""

    def interrupt(self) -> None:
        """End it from another thread. Raises `OSError`."""

    def close(self, *, orderly: bool) -> None:
        """Close it; `orderly`: every answer was taken whole."""


class PlainTransport:
    """TCP as it is. The socket must not block."""

    protected = False
    binding = NO_BINDING
    unsent = False
    midway = False
    ready = False

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.written = 0

    def fileno(self) -> int:
        """See `Transport`."""
        return self._socket.fileno()

    def send(self, data: memoryview) -> int:
        """See `Transport`."""
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            return 0
        self.written += count
        return count

    def receive(self) -> Received:
        """See `Transport`."""
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return Received(b"", 0, ended=False)
        return Received(data, len(data), ended=not data)

    def interrupt(self) -> None:
        """See `Transport`."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self, *, orderly: bool) -> None:
        """See `Transport`."""
        self._socket.close()
