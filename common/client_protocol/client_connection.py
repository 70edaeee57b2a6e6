"""A server's bytes -> responses: the client's end of one connection.

Owns: where a response begins and ends, and the entries of the list-like ones (2101, 2104, 2143).
Promises: takes any split of the bytes, and two liberties of other servers: a 2102 without the id, a
9000 with a text. Lists come entry by entry and contents in parts, so nothing large is held; what
can't be parsed is `ResponseMalformed`, after which the connection is of no more use but for
`take_unparsed`.
Exposure: fed by a server that need not be honest.

The caller feeds bytes with `receive_data` and pulls events with `next_event` until it gives None.

Source: docs/client-protocol.md, "Responses".
"""

from typing import Final, NamedTuple

from common.client_protocol.codes import ResponseCode
from common.client_protocol.fields import (
    FETCHED_HEAD,
    FLAG_SENDER_PROVEN,
    HELLO_REPLY,
    KEY_REPLY,
    REASON,
    RESPONSE_HEADER,
    STORED,
    USER,
    WAITING_HEAD,
)
from common.client_protocol.responses import (
    ErrorResponse,
    HelloResponse,
    MessageHead,
    ProvenResponse,
    PublicKeyResponse,
    RegisteredResponse,
    StoredResponse,
    UserListed,
    Whole,
)
from common.errors import ResponseMalformed
from common.values import PUBLIC_KEY_SIZE, ClientId, PublicKey, Token


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

LONGEST_ERROR_TEXT: Final = 64 * 1024
"""Bytes of text that a 9000 may carry."""
_FIXED: Final[dict[int, int]] = {
    ResponseCode.REGISTERED: 16,
    ResponseCode.PUBLIC_KEY: KEY_REPLY.size,
    ResponseCode.STORED: STORED.size,
    ResponseCode.HELLO: HELLO_REPLY.size,
    ResponseCode.PROVEN: 0,
    ResponseCode.ERROR: 0,
    ResponseCode.ERROR_WITH_REASON: REASON.size,
}
_ENTRY_SIZES: Final[dict[int, int]] = {
    ResponseCode.USERS: USER.size,
    ResponseCode.WAITING: WAITING_HEAD.size,
    ResponseCode.FETCHED: FETCHED_HEAD.size,
}


class ClientConnection:
    """The pure core of a connection to a server. Responses of any version byte are taken."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._list_code = 0
        self._list_left = 0
        self._content_left = 0
        self._in_message = False

    def receive_data(self, data: bytes) -> None:
        """Take in what the socket gave."""
        self._buffer += data

    @property
    def idle(self) -> bool:
        """Whether no byte is held and no response is half-way: a new request may be sent."""
        return not self._buffer and not self._list_code

    def next_event(self) -> Event | None:
        """The next response or list entry; None where more bytes are needed. Raises
        `ResponseMalformed`.
        """
        if self._in_message:
            return self._content()
        if self._list_code:
            return self._entry()
        if len(self._buffer) < RESPONSE_HEADER.size:
            return None
        _version, code, size = RESPONSE_HEADER.unpack_from(self._buffer)
        if code in _ENTRY_SIZES:
            self._drop(RESPONSE_HEADER.size)
            if code == ResponseCode.USERS and size % USER.size:
                raise ResponseMalformed(f"a user list of {size} bytes is no multiple of {USER.size}")
            self._list_code, self._list_left = code, size
            return ListBegins(code, size)
        if not _may_have(code, size):
            raise ResponseMalformed(f"response code {code} with a payload of {size} bytes")
        if len(self._buffer) < RESPONSE_HEADER.size + size:
            return None
        self._drop(RESPONSE_HEADER.size)
        return _whole(code, self._drop(size))

    @property
    def list_left(self) -> int:
        """Bytes of the present list that were not taken yet."""
        return self._list_left

    def take_unparsed(self) -> bytes:
        """After a `ResponseMalformed` within a list: those bytes of it that are there, as
        they came.
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

    def _entry(self) -> Event | None:
        if not self._list_left:
            self._list_code = 0
            return ListEnd()
        size = _ENTRY_SIZES[self._list_code]
        if self._list_left < size:
            raise ResponseMalformed(f"{self._list_left} bytes behind the last entry of a list")
        if len(self._buffer) < size:
            return None
        if self._list_code == ResponseCode.USERS:
            client_id, name_field = USER.unpack(self._drop(size))
            self._list_left -= size
            # One odd name must not make the whole list unreadable; what shows it makes it harmless.
            return UserListed(ClientId(client_id), name_field.partition(b"\0")[0].decode("utf-8", "replace"))
        head = _message_head(self._list_code, self._buffer[:size])
        if head.size > self._list_left - size:
            # The head stays where it is, for `take_unparsed`.
            raise ResponseMalformed(f"a message of {head.size} bytes in a list with {self._list_left - size} left")
        self._drop(size)
        self._list_left -= size
        self._content_left = head.size
        self._in_message = True
        return head


def _may_have(code: int, size: int) -> bool:
    """Whether a response of one piece may have a payload of so many bytes."""
    if code == ResponseCode.ERROR:
        return size <= LONGEST_ERROR_TEXT
    return _FIXED.get(code) == size or (code == ResponseCode.PUBLIC_KEY and size == PUBLIC_KEY_SIZE)


def _message_head(code: int, entry: bytes | bytearray) -> MessageHead:
    if code == ResponseCode.WAITING:
        sender, number, kind, size = WAITING_HEAD.unpack(entry)
        return MessageHead(ClientId(sender), number, kind, size)
    sender, token, sequence, accepted_at, flags, kind, size = FETCHED_HEAD.unpack(entry)
    proven = bool(flags & FLAG_SENDER_PROVEN)
    return MessageHead(ClientId(sender), sequence, kind, size, Token(token), accepted_at, proven)


def _whole(code: int, payload: bytes) -> Whole:
    match code:
        case ResponseCode.REGISTERED:
            return RegisteredResponse(ClientId(payload))
        case ResponseCode.PUBLIC_KEY:
            if len(payload) == PUBLIC_KEY_SIZE:
                return PublicKeyResponse(None, PublicKey(payload))
            client_id, key = KEY_REPLY.unpack(payload)
            return PublicKeyResponse(ClientId(client_id), PublicKey(key))
        case ResponseCode.STORED:
            recipient, number = STORED.unpack(payload)
            return StoredResponse(ClientId(recipient), number)
        case ResponseCode.HELLO:
            return HelloResponse(*HELLO_REPLY.unpack(payload))
        case ResponseCode.ERROR_WITH_REASON:
            return ErrorResponse(*REASON.unpack(payload))
        case ResponseCode.PROVEN:
            return ProvenResponse()
        case _:
            return ErrorResponse(text=payload.rstrip(b"\0").decode("utf-8", "replace"))
