"""A small server in a thread that speaks part 1 of the client protocol from memory, and can be told to misbehave."""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from common.values import NO_CLIENT
from common.wire.codes import RequestCode, ResponseCode
from common.wire.fields import REQUEST_HEADER, SEND_HEAD
from common.wire.responses import (
    ERROR,
    encode_head,
    encode_registered,
    encode_stored,
    encode_waiting_head,
)

CLOSE: Final = None
Twist = Callable[[int, bytes], bytes | None]
"""Gets the number of the request (from 1, over all connections) and its right answer; gives what
is sent instead, or `CLOSE`."""


def honest(_number: int, answer: bytes) -> bytes:
    return answer


class ScriptedServer:
    """Listens on `port` of 127.0.0.1 from its making to the end of its `with`."""

    def __init__(
        self,
        twist: Twist = honest,
        *,
        registering: Twist = honest,
        piece: int = 0,
        page: int = 1_000_000,
        port: int = 0,
    ) -> None:
        """`registering`: the twist of 600s, which count by themselves; `piece`: answers leave in so many bytes at a
        time, 0 for all at once; `page`: messages in one 2104.
        """
        self.mail: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        """(message id, content) by recipient"""
        self.requests = 0
        self.open = 0
        self.accepted = 0
        self.users = 0
        self._twist = twist
        self._registering = registering
        self._piece = piece
        self._page = page
        self._message_id = 0
        self._lock = threading.Lock()
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
        with self._lock:
            for connection in self._sockets:
                # The other side may have gone first.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listening.close()

    def put(self, recipient: bytes, *contents: bytes) -> None:
        for content in contents:
            self._message_id += 1
            self.mail[recipient].append((self._message_id, content))

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
            with self._lock:
                self._sockets.add(connection)
                self.open += 1
                self.accepted += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as requests:
                while self._serve_one(connection, requests.read):
                    pass
        except OSError:
            pass
        with self._lock:
            self._sockets.discard(connection)
            self.open -= 1
        connection.close()

    def _serve_one(self, connection: socket.socket, read: Callable[[int], bytes]) -> bool:
        header = read(REQUEST_HEADER.size)
        if len(header) < REQUEST_HEADER.size:
            return False
        requester, _version, code, size = REQUEST_HEADER.unpack(header)
        payload = read(size)
        with self._lock:
            answer: bytes | None = self._answer(requester, code, payload)
            assert answer is not None
            if code == RequestCode.REGISTER:
                answer = self._registering(self.users, answer)
            else:
                self.requests += 1
                answer = self._twist(self.requests, answer)
        if answer is CLOSE:
            return False
        step = self._piece or max(1, len(answer))
        for at in range(0, len(answer), step):
            connection.sendall(answer[at : at + step])
            if self._piece:
                time.sleep(0.0002)
        return True

    def _answer(self, requester: bytes, code: int, payload: bytes) -> bytes:
        match code:
            case RequestCode.REGISTER:
                self.users += 1
                return encode_registered(self.users.to_bytes(16, "big"))
            case RequestCode.SEND:
                recipient, _kind, size = SEND_HEAD.unpack_from(payload)
                assert len(payload) == SEND_HEAD.size + size
                self.put(recipient, payload[SEND_HEAD.size :])
                return encode_stored(recipient, self._message_id)
            case RequestCode.PULL:
                given, self.mail[requester] = self.mail[requester][: self._page], self.mail[requester][self._page :]
                parts = [encode_waiting_head(NO_CLIENT, number, 3, len(text)) + text for number, text in given]
                return encode_head(ResponseCode.WAITING, sum(map(len, parts))) + b"".join(parts)
            case _:
                return ERROR
