"""A connection from a proxy, until the proxy has named its client.

Owns: the socket meanwhile. Promises: only the header is read, so that what follows is left for the
client's connection; time and number are limited by `gateway.connection.openings`. An invalid header
ends the connection with a reset and a line in the log, at a limited rate.
Exposure: the proxies that the operator named.

Source: docs/client-protocol.md, "Connections"; `gateway.proxy_protocol`.
"""

import logging
import socket
from collections.abc import Callable
from typing import Final

from common.rare_log import RareLog
from gateway.connection.openings import Openings
from gateway.delivery.tcp_info import TcpSocket
from gateway.event_loop import READABLE, EventLoop
from gateway.proxy_protocol import HEAD_SIZE, client_address, rest_size

_rarely: Final = RareLog(logging.getLogger("gateway.connection.proxy_header"))


class ProxyHeader:
    """A `Handler` of the loop and an `Opening`. `take_over` gets the socket afterwards, with the
    client's address if the proxy gave one.
    """

    authenticated_as: Final = None

    def __init__(
        self,
        sock: socket.socket,
        loop: EventLoop,
        openings: Openings,
        network: str,
        take_over: Callable[[socket.socket, str | None], None],
    ) -> None:
        self.network = network
        self._sock = TcpSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._sock.setblocking(False)
        self._loop = loop
        self._openings = openings
        self._take_over = take_over
        self._came = b""
        self._rest: int | None = None
        self._open = True
        loop.register(self._sock.fileno(), self, READABLE)
        openings.begin(self)

    def ready(self, events: int) -> None:
        """The socket has news."""
        if events & READABLE:
            self._loop.modify(self._sock.fileno(), 0)
            self._openings.wait(self)
        else:
            self.abort()

    def step(self) -> None:
        """Read more of the header."""
        size = HEAD_SIZE if self._rest is None else HEAD_SIZE + self._rest
        try:
            data = self._sock.recv(size - len(self._came))
        except BlockingIOError:
            self._loop.modify(self._sock.fileno(), READABLE)
            return
        except OSError:
            data = b""
        if not data:
            self.abort()
            return
        self._came += data
        if self._rest is None and len(self._came) == HEAD_SIZE:
            self._rest = rest_size(self._came)
            if self._rest is None:
                _rarely.write(logging.INFO, "a proxy sent no header of the PROXY protocol, version 2")
                self.abort()
                return
        if self._rest is not None and len(self._came) == HEAD_SIZE + self._rest:
            self._done()
        else:
            self._loop.modify(self._sock.fileno(), READABLE)

    def _done(self) -> None:
        self._leave()
        self._take_over(self._sock, client_address(self._came[:HEAD_SIZE], self._came[HEAD_SIZE:]))

    def _leave(self) -> None:
        self._open = False
        self._openings.ended(self)
        self._loop.unregister(self._sock.fileno())

    def abort(self) -> None:
        """Close with a reset."""
        if self._open:
            self._leave()
            self._sock.reset_on_close()
            self._sock.close()
