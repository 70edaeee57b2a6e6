"""How a session reads, writes and ends a connection, whatever carries its bytes.

Owns: the socket of one connection, its place in the event loop, and the loop's masks.
Promises: a session sees none of the three. Reading and writing cost no call besides the socket's
own. An exception in an owner's callback ends this connection alone.
Exposure: peers choose every byte, and when the connection ends or breaks.

`Transport` is the interface that a session uses; `TcpTransport` is plain TCP. Any other transport
is a class of its own, made by the listener. One that puts bytes into records, as TLS does, differs
in four points, and a session relies only on these promises:

- Before its first byte: a session is attached at once, and what opens the connection (a handshake)
  is the transport's own business. `binding` names the server that the peer was shown.
- Input: bytes that were taken from the kernel and not yet given to the session are input that
  waits, part of a record too. What the session was not given is reported again though the kernel
  has nothing more. A connection that ends in the middle, or without the carrier's own end where it
  has one, is broken.
- Output: what `send` reports as taken is with the kernel. A record that the kernel took in part was
  not taken; its rest goes first in the next call, which begins with the same bytes. So at most a
  record each way is held here, and what is unsent shows in the session, with its deadline.
- The end: what the carrier says behind the last byte (close_notify) is said by `shut_down` and
  `close`, never sooner. Where the kernel has no room, the transport stays in the loop for it.

Source: docs/client-protocol.md, "Connections"; tcp(7), epoll_ctl(2).
"""

import logging
import socket
from typing import Final, Protocol

from gateway.connection.containment import Breakable, contain
from gateway.delivery.evidence import SegmentsIn
from gateway.delivery.tcp_info import TcpSocket
from gateway.event_loop import BROKEN, HUNG_UP, READABLE, WRITABLE, EventLoop

log = logging.getLogger("gateway.connection.transport")

UNREGISTERED: Final = -1
"""The mask of a transport that the loop does not watch."""
NO_BINDING: Final = bytes(32)
"""The channel binding of a connection that shows no certificate."""


class TransportOwner(Breakable, Protocol):
    """The session that a transport belongs to. `abort` is called when the connection is broken."""

    def on_readable(self) -> None:
        """Bytes, or the end of the peer's side, can be received."""

    def on_writable(self) -> None:
        """Bytes can be sent again."""


class Transport(Protocol):
    """One connection. It watches for input from `attach` on."""

    @property
    def held(self) -> int:
        """Bytes of input held here because the rest of their record has not come."""

    @property
    def binding(self) -> bytes:
        """32 bytes that the signature of 641 covers: the SHA-256 of the certificate that the peer
        was shown, or `NO_BINDING`.
        """

    def attach(self, owner: TransportOwner) -> None:
        """Report to `owner` from now on."""

    def receive(self, size: int, /) -> bytes:
        """Up to `size` bytes, or a whole record if that is more; empty at the end of the peer's
        side.

        Raises `BlockingIOError` if there is nothing yet, which may happen after `on_readable` too,
        when only part of a record came. Raises another `OSError` if the connection is broken.
        """

    def send(self, data: bytes | memoryview, /) -> int:
        """Send bytes; how many, from the beginning, the kernel has taken.

        The next call has to begin with what was not taken. Raises `BlockingIOError` if nothing can
        be taken now, another `OSError` if the connection is broken.
        """

    def watch(self, *, reads: bool, writes: bool) -> None:
        """Report when bytes can be received, or sent. A broken connection is reported, too, unless
        this side has ended and neither is wanted: then the next `receive` finds it out.
        """

    def watch_for_reset(self) -> None:
        """Receive and send nothing more, and report only a reset.

        If this side has ended too, a reset is not reported, but shows in `error`.
        """

    def shut_down(self) -> None:
        """End this side after everything that was sent. Raises `OSError` if the connection is
        broken.

        A protocol's own end marker is sent now, or as soon as there is room.
        """

    def close(self) -> None:
        """End both sides in order and report nothing more.

        To send a protocol's own end marker, a transport may stay for a bounded time, without an
        owner.
        """

    def reset(self) -> None:
        """Close so that the peer sees a reset, and report nothing more."""

    def unacknowledged(self) -> int:
        """Bytes of any kind that were sent and not yet acknowledged by the peer."""

    def input_waiting(self) -> bool:
        """Whether the peer has sent anything that was not received, part of a record too."""

    def segments_in(self) -> SegmentsIn:
        """What the peer has sent so far, in segments."""

    def error(self) -> int:
        """The connection's pending error, an errno, which is thereby taken; 0 for none."""


class _Nobody:
    """The owner of a closed transport. It refers to no session, so that none is kept alive."""

    def abort(self) -> None:
        """It is closed."""

    on_readable = on_writable = abort


_NOBODY: Final = _Nobody()


class TcpTransport(TcpSocket):
    """Plain TCP: a `Transport`, and a `Handler` of the loop. It takes over what `sock` refers to.

    It is a socket rather than having one: this uses the least memory for an idle connection, and
    saves a call in `send` and `receive`.
    """

    __slots__ = ("_loop", "_mask", "_owner", "_shut_down")

    binding: bytes = NO_BINDING
    held: int = 0
    receive = socket.socket.recv

    def __init__(self, sock: socket.socket, loop: EventLoop) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)
        self._loop = loop
        self._mask = UNREGISTERED
        self._owner: TransportOwner = _NOBODY
        self._shut_down = False

    def attach(self, owner: TransportOwner) -> None:
        """Report to `owner` from now on, and watch for input."""
        self._owner = owner
        self._mask = READABLE
        self._loop.register(self.fileno(), self, READABLE)

    def ready(self, events: int) -> None:
        """The socket has news."""
        owner = self._owner
        try:
            if events == READABLE:
                owner.on_readable()
            else:
                self._report(events)
        except Exception as error:
            contain(owner, error)

    def _report(self, events: int) -> None:
        if events & (BROKEN | HUNG_UP) and not self._hung_up_in_order():
            self._owner.abort()
            return
        if events & WRITABLE:
            self._owner.on_writable()
        if events & (READABLE | HUNG_UP):
            self._owner.on_readable()

    def _hung_up_in_order(self) -> bool:
        """Whether both sides have ended without an error; a reset shows as an error."""
        return self._shut_down and not self.error()

    def watch(self, *, reads: bool, writes: bool) -> None:
        """As `Transport.watch`."""
        mask = (READABLE if reads else 0) | (WRITABLE if writes else 0)
        if self._shut_down and not mask:
            # Once the peer has ended its side, too, the descriptor reports a hang-up in every turn.
            self._unregister()
        elif self._mask == UNREGISTERED:
            self._mask = mask
            self._loop.register(self.fileno(), self, mask)
        else:
            self._mask = mask
            self._loop.modify(self.fileno(), mask)

    def watch_for_reset(self) -> None:
        """As `Transport.watch_for_reset`."""
        self.watch(reads=False, writes=False)

    def shut_down(self) -> None:
        """Send a FIN behind what was sent."""
        self.shutdown(socket.SHUT_WR)
        self._shut_down = True

    def close(self) -> None:
        """Close the descriptor. What was sent still arrives."""
        self._unregister()
        self._owner = _NOBODY
        super().close()

    def reset(self) -> None:
        """The same with a reset, which overtakes what was sent."""
        try:
            self.reset_on_close()
        except OSError:
            log.debug("the socket was gone before its reset")
        self.close()

    def _unregister(self) -> None:
        if self._mask != UNREGISTERED:
            self._mask = UNREGISTERED
            self._loop.unregister(self.fileno())
