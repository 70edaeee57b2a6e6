"""The messages of one answer, 604's or 643's, on their way into the store.

Owns: their contents while they come in, and when a batch of them is kept.
Promises: a message is kept whole or not at all; what is large goes to a file at once; whatever ends
the answer, the complete messages are kept.
Exposure: takes what strangers sent, as the server passes it on.

Source: docs/client-protocol.md, "604" and "643".
"""

import hashlib
from collections.abc import Callable
from typing import Final

from client.connection.server_errors import refused
from client.connection.server_link import Progress
from client.errors import InvalidServerResponse
from client.store.home_store import Store
from client.store.inbox import NewMessage
from client.store.spool import SpoolFile
from common.client_protocol.client_connection import ContentPart, Event, ListBegins, MessageEnd
from common.client_protocol.requests import RequestCode
from common.client_protocol.responses import ErrorResponse, MessageHead, ResponseCode
from common.values import ClientId

INLINE_CONTENT: Final = 64 * 1024
"""Bytes. Larger received content goes to a file beside the store."""
_BATCH_MESSAGES: Final = 256
_BATCH_BYTES: Final = 1024 * 1024
_LARGEST_NUMBER: Final = 2**63 - 1
"""The largest number that SQLite can store; no honest server comes near it."""


class Intake:
    """The messages of one answer on their way into the store, in batches of one
    transaction each.
    """

    def __init__(
        self,
        store: Store,
        size: int,
        keep: Callable[[list[NewMessage]], None],
        progress: Progress | None,
        after: int | None = None,
    ) -> None:
        """`after`: the last number in the store, for a list whose numbers grow; None: for another
        list.
        """
        self._after = after
        self._store = store
        self._size = size
        self._keep = keep
        self._progress = progress
        self._batch: list[NewMessage] = []
        self._batch_bytes = 0
        self._head = MessageHead(ClientId(b""), 0, 0, 0)
        self._content = bytearray()
        self._spool: SpoolFile | None = None
        self._digest = hashlib.sha256()
        self._passed = 0

    def takes(self, event: Event) -> bool:
        """Take in a part of a message; return whether it was one."""
        match event:
            case MessageHead():
                self._begin(event)
            case ContentPart(data):
                self._add(data)
            case MessageEnd():
                self._end()
            case _:
                return False
        return True

    def _begin(self, head: MessageHead) -> None:
        if max(head.number, head.accepted_at or 0) > _LARGEST_NUMBER:
            raise InvalidServerResponse(
                "The server numbers its messages beyond all bounds.",
                "Check that server.info leads to a MessageU server.",
            )
        if self._after is not None:
            if head.number <= self._after:
                # Its messages would never be acknowledged, and would come again without end.
                raise InvalidServerResponse(
                    f"The server gives message {head.number} behind message {self._after}.",
                    "Its operator has to look at it; all messages before it are kept.",
                )
            self._after = head.number
        self._head = head
        self._content.clear()
        self._digest = hashlib.sha256()
        if head.size > INLINE_CONTENT:
            self._spool = self._store.spools.new()

    def _add(self, data: bytes) -> None:
        self._digest.update(data)
        if self._spool is not None:
            self._spool.write(data)
        else:
            self._content += data
        self._passed += len(data)
        if self._progress is not None:
            self._progress(self._passed, self._size)

    def _end(self) -> None:
        head = self._head
        spool = self._spool.keep() if self._spool is not None else None
        self._spool = None
        content = None if spool is not None else bytes(self._content)
        self._batch.append(
            NewMessage(
                ClientId(head.sender), head.kind, head.size, content, spool, self._digest.digest(), head.number,
                head.token, head.accepted_at, head.sender_authenticated,
            )
        )  # fmt: skip
        self._batch_bytes += len(content or b"")
        if len(self._batch) >= _BATCH_MESSAGES or self._batch_bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Keep the complete messages, however the answer ended."""
        if self._spool is not None:
            self._spool.discard()
        self._flush()
        if self._progress is not None:
            self._progress(self._size, self._size)

    def _flush(self) -> None:
        if self._batch:
            self._keep(self._batch)
            self._batch = []
            self._batch_bytes = 0


def check_list(event: Event, request: RequestCode, expected: ResponseCode) -> None:
    """Raise if the server refused, or answered with another list."""
    if isinstance(event, ErrorResponse):
        raise refused(request, event)
    if isinstance(event, ListBegins) and event.code != expected:
        raise InvalidServerResponse(
            f"The server answered with a list of another kind (code {event.code}).",
            "Check that server.info leads to a MessageU server.",
        )
