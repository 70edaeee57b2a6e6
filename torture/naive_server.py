"""The control: a server of the published protocol that deletes mail when it is fetched, without any
evidence.

Owns: 600, 603 and 604 in memory, on one thread. Promises: none worth having, on purpose: the
checker has to report losses for it. Never a part of the product.
Exposure: 127.0.0.1 only.
"""

import selectors
import socket
from collections import defaultdict
from contextlib import suppress
from itertools import count

from common.client_protocol.requests import (
    LargeSendRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterRequest,
    SendRequest,
)
from common.client_protocol.responses import (
    ERROR,
    ResponseCode,
    encode_head,
    encode_pulled_head,
    encode_reason,
    encode_registered,
    encode_stored,
)
from common.client_protocol.server_connection import Event, Limits, PipelinedSends, ServerConnection
from common.values import RefusalReason

_LARGEST = 16 * 1024 * 1024


class NaiveServer:
    """Serves for ever; ends by being killed."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._boxes: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._numbers = count(1)

    def serve(self) -> None:
        """Answer whatever comes."""
        while True:
            for key, _events in self._selector.select():
                if key.fileobj is self._listener:
                    connection, _address = self._listener.accept()
                    protocol = ServerConnection(Limits(_LARGEST, _LARGEST))
                    self._selector.register(connection, selectors.EVENT_READ, protocol)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj, key.data)

    def _read(self, connection: socket.socket, protocol: ServerConnection) -> None:
        data = b""
        with suppress(OSError):
            data = connection.recv(1 << 18)
        if not data:
            self._selector.unregister(connection)
            connection.close()
            return
        protocol.receive_data(data)
        while (event := protocol.next_event()) is not None:
            with suppress(OSError):
                events = event.requests() if isinstance(event, PipelinedSends) else [event]
                connection.sendall(b"".join([self._answer(each) for each in events]))

    def _answer(self, event: Event) -> bytes:
        match event:
            case RegisterRequest(_, name, _key):
                return encode_registered(name.encode().ljust(16, b"\0")[:16])
            case SendRequest(sender, recipient, kind, content):
                number = next(self._numbers)
                self._boxes[recipient].append(encode_pulled_head(sender, number, kind, len(content)) + content)
                return encode_stored(recipient, number)
            case PullRequest(requester):
                # This is the fault: whoever asked is assumed to have received it.
                waiting = b"".join(self._boxes.pop(requester, []))
                return encode_head(ResponseCode.WAITING, len(waiting)) + waiting
            case PublicKeyRequest() | LargeSendRequest():
                return ERROR
            case _:
                return encode_reason(RefusalReason.MALFORMED, 0)


def serve_naively(port: int) -> None:
    """In a process of its own."""
    NaiveServer(port).serve()
