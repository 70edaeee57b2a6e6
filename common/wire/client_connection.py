"""A server's bytes -> responses: the client's end of one connection.

Owns: where a response begins and ends, and the entries of the list-like ones (2101, 2104, 2143).
Promises: takes any split of the bytes; lists come entry by entry and contents in parts, so nothing large is held;
what can't be parsed is `ResponseMalformed`, after which the connection is of no more use.
Exposure: fed by a server that need not be honest.

The caller feeds bytes with `receive_data` and pulls events with `next_event` until it gives None.

Source: docs/client-protocol.md, "Responses".
"""

from typing import Final, NamedTuple

from common.errors import ResponseMalformed
from common.values import ClientId, PublicKey, Token
from common.wire.codes import ResponseCode
from common.wire.fields import (
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
from common.wire.responses import (
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


Event = Whole | ListBegins | UserListed | MessageHead | ContentPart | MessageEnd | ListEnd

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
        """The next response or list entry; None where more bytes are needed. Raises `ResponseMalformed`."""
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
        if _FIXED.get(code) != size:
            raise ResponseMalformed(f"response code {code} with a payload of {size} bytes")
        if len(self._buffer) < RESPONSE_HEADER.size + size:
            return None
        self._drop(RESPONSE_HEADER.size)
        return _whole(code, self._drop(size))

    def _drop(self, size: int) -> bytes:
        # Of a large content each byte is copied once here; a slice of the buffer would be another copy.
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
        entry = self._drop(size)
        self._list_left -= size
        if self._list_code == ResponseCode.USERS:
            client_id, name_field = USER.unpack(entry)
            # One odd name must not make the whole list unreadable; what shows it makes it harmless.
            return UserListed(ClientId(client_id), name_field.partition(b"\0")[0].decode("utf-8", "replace"))
        head = _message_head(self._list_code, entry)
        if head.size > self._list_left:
            raise ResponseMalformed(f"a message of {head.size} bytes in a list with {self._list_left} left")
        self._content_left = head.size
        self._in_message = True
        return head


def _message_head(code: int, entry: bytes) -> MessageHead:
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
            return ErrorResponse()
