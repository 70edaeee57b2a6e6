"""A server's bytes -> responses: the client's end of one connection.

Owns: where a response begins and ends, and the entries of list responses (2101, 2104, 2143).
Promises: accepts the bytes in any split, and two deviations of other servers: a 2102 without the
id, a 9000 with a text. Lists come entry by entry and contents in parts, so nothing large is held.
What can't be parsed raises `ResponseMalformed`; after that only `take_unparsed` may be used.
Exposure: fed by a server that need not be honest.

The caller feeds bytes with `receive_data` and pulls events with `next_event` until it gives None.

Source: docs/client-protocol.md, "Responses".
"""

from typing import NamedTuple

from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.responses import BY_NUMBER, ListLayout, MessageHead, UserListed, Whole
from common.errors import ResponseMalformed


class ListBegins(NamedTuple):
    """A 2101, 2104 or 2143 with `payload_size` bytes of entries begins."""

    code: int
    payload_size: int


class ContentPart(NamedTuple):
    """The next bytes of the content of the last `MessageHead`."""

    data: bytes


class MessageEnd(NamedTuple):
    """The content of the last `MessageHead` is complete."""


class ListEnd(NamedTuple):
    """The list is complete."""


class UnparsedPart(NamedTuple):
    """The next bytes of a list that can't be parsed any further."""

    data: bytes


Event = Whole | ListBegins | UserListed | MessageHead | ContentPart | MessageEnd | ListEnd | UnparsedPart


class ClientConnection:
    """The pure core of a connection to a server. Responses with any version byte are accepted."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._list: ListLayout | None = None
        self._list_left = 0
        self._content_left = 0
        self._in_message = False

    def receive_data(self, data: bytes) -> None:
        """Add bytes from the socket."""
        self._buffer += data

    @property
    def idle(self) -> bool:
        """Whether no byte is held and no response is incomplete, so that a new request may
        be sent.
        """
        return not self._buffer and self._list is None

    def next_event(self) -> Event | None:
        """The next response or list entry; None if more bytes are needed. Raises
        `ResponseMalformed`.
        """
        if self._in_message:
            return self._content()
        if self._list is not None:
            return self._entry(self._list)
        if len(self._buffer) < RESPONSE_HEADER.size:
            return None
        _version, code, size = RESPONSE_HEADER.unpack_from(self._buffer)
        layout = BY_NUMBER.get(code)
        if isinstance(layout, ListLayout):
            self._drop(RESPONSE_HEADER.size)
            if size % layout.multiple:
                raise ResponseMalformed(f"a list of {size} bytes is no multiple of {layout.multiple}")
            self._list, self._list_left = layout, size
            return ListBegins(code, size)
        if layout is None or size not in layout.sizes:
            raise ResponseMalformed(f"response code {code} with a payload of {size} bytes")
        if len(self._buffer) < RESPONSE_HEADER.size + size:
            return None
        self._drop(RESPONSE_HEADER.size)
        return layout.decode(self._drop(size))

    @property
    def list_left(self) -> int:
        """Bytes of the current list that were not taken yet."""
        return self._list_left

    def take_unparsed(self) -> bytes:
        """After a `ResponseMalformed` within a list: the bytes of it that have arrived, as they
        came.
        """
        data = self._drop(min(self._list_left, len(self._buffer)))
        self._list_left -= len(data)
        return data

    def _drop(self, size: int) -> bytes:
        # Of a large content each byte is copied once here; a slice of the buffer would be another
        # copy.
        with memoryview(self._buffer) as held:
            data = bytes(held[:size])
        del self._buffer[:size]
        return data

    def _content(self) -> Event | None:
        if not self._content_left:
            self._in_message = False
            return MessageEnd()
        if not self._buffer:
            return None
        data = self._drop(min(self._content_left, len(self._buffer)))
        self._content_left -= len(data)
        self._list_left -= len(data)
        return ContentPart(data)

    def _entry(self, layout: ListLayout) -> Event | None:
        if not self._list_left:
            self._list = None
            return ListEnd()
        size = layout.head
        if self._list_left < size:
            raise ResponseMalformed(f"{self._list_left} bytes behind the last entry of a list")
        if len(self._buffer) < size:
            return None
        entry = layout.decode(bytes(self._buffer[:size]))
        if isinstance(entry, MessageHead):
            if entry.size > self._list_left - size:
                # The head stays where it is, for `take_unparsed`.
                raise ResponseMalformed(f"a message of {entry.size} bytes in a list with {self._list_left - size} left")
            self._content_left = entry.size
            self._in_message = True
        self._drop(size)
        self._list_left -= size
        return entry
