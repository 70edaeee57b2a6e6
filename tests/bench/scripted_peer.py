"""A small TCP server in a thread, whose answers a test chooses."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

CLOSE: Final = None
Read = Callable[[int], bytes]
Send = Callable[[bytes], None]


class ScriptedPeer:
    """Listens on `port` of 127.0.0.1 from its making to the end of its `with`."""

    def __init__(self, *, piece: int = 0, port: int = 0) -> None:
        """`piece`: answers leave in so many bytes at a time, 0 for all at once."""
        self.open = 0
        self.accepted = 0
        self.lock = threading.Lock()
        """Held while one request is answered."""
        self._piece = piece
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        with self.lock:
            for connection in self._sockets:
                # The other side may have gone first.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listening.close()

    def converse(self, read: Read, send: Send) -> None:
        """What is done with one connection; `read` gives less than it was asked for at the end."""
        raise NotImplementedError

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self._sockets.add(connection)
                self.open += 1
                self.accepted += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        def send(answer: bytes) -> None:
            step = self._piece or max(1, len(answer))
            for at in range(0, len(answer), step):
                connection.sendall(answer[at : at + step])
                if self._piece:
                    time.sleep(0.0002)

        try:
            with connection.makefile("rb") as requests:
                self.converse(requests.read, send)
        except OSError:
            pass
        with self.lock:
            self._sockets.discard(connection)
            self.open -= 1
        connection.close()
