"""What carries a connection's bytes: a plain socket, or TLS over it (`client.connection.tls`).
Owns: the interface that the link uses, and the plain transport. Promises: nothing here blocks.
Bytes counted as written are with the kernel; bytes that a transport has accepted and not yet handed
on are `unsent`.
Exposure: passes on what the other side sends.

Source: docs/client-protocol.md; docs/decisions/0015-a-pinned-certificate.md.
"""

import socket
from typing import Final, NamedTuple, Protocol

READ_SIZE: Final = 256 * 1024
NO_BINDING: Final = bytes(32)
"""The channel binding on plain TCP, in place of the server's certificate."""


class Received(NamedTuple):
    """The result of one `receive`."""

    data: bytes
    passed: int
    """Bytes that came over the wire; over TLS possibly without complete content yet."""
    ended: bool
    """Whether the other side has ended the connection in order: nothing follows `data`."""


class Transport(Protocol):
    """One transport. Used from one thread, except for `interrupt`."""

    protected: bool
    """Whether a middleman can neither read nor alter it, nor end it unnoticed."""
    binding: bytes
    """What the proof binds to: the SHA-256 of the server's certificate, zeros on plain TCP."""
    written: int
    """Bytes that the kernel has accepted since the beginning."""

    @property
    def unsent(self) -> bool:
        """Whether bytes that `send` accepted are still to be handed to the kernel."""

    @property
    def midway(self) -> bool:
        """Whether an incomplete record has arrived."""

    @property
    def ready(self) -> bool:
        """Whether `receive` has something to return that the kernel does not report."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""

    def send(self, data: memoryview) -> int:
        """Accept as many bytes as possible now and return their number, possibly 0; hand on earlier
        ones.

        Raises `OSError`.
        """

    def receive(self) -> Received:
        """Return what has arrived. Raises `OSError` if the connection broke."""

    def interrupt(self) -> None:
        """End it from another thread. Raises `OSError`."""

    def close(self, *, orderly: bool) -> None:
        """Close it; `orderly`: every answer was read completely."""


class PlainTransport:
    """Plain TCP. The socket must not block."""

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
