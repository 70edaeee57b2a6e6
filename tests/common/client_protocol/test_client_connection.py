"""The client's end of the wire: whole, byte by byte, pipelined, damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol import responses
from common.client_protocol.client_connection import (
    ClientConnection,
    ContentPart,
    Event,
    ListBegins,
    ListEnd,
    MessageEnd,
)
from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.responses import (
    USER,
    WAITING_HEAD,
    AuthenticatedResponse,
    ErrorResponse,
    HelloResponse,
    MessageHead,
    PublicKeyResponse,
    RegisteredResponse,
    ResponseCode,
    StoredResponse,
    UserListed,
)
from common.errors import ResponseMalformed
from common.values import ClientId, PublicKey, Token

A = ClientId(b"a" * 16)
B = ClientId(b"b" * 16)
TOKEN = Token(b"t" * 16)
KEY = PublicKey(b"k" * 160)


def whole_list(code: ResponseCode, entries: bytes) -> bytes:
    return responses.encode_head(code, len(entries)) + entries


USERS = responses.encode_users([(A, "alice"), (B, "Michael Jackson")])
WAITING = responses.encode_pulled_head(A, 7, 3, 5) + b"hello" + responses.encode_pulled_head(B, 8, 1, 0)
FETCHED = responses.encode_fetched_head(A, TOKEN, 9, 1_700_000_000_123, True, 4, 3) + b"abc"

CASES: dict[str, tuple[bytes, list[Event]]] = {
    "2100": (responses.encode_registered(A), [RegisteredResponse(A)]),
    "2101": (
        whole_list(ResponseCode.USERS, USERS),
        [
            ListBegins(2101, len(USERS)),
            UserListed(A, "alice"),
            UserListed(B, "Michael Jackson"),
            ListEnd(),
        ],
    ),
    "2101 of nobody": (whole_list(ResponseCode.USERS, b""), [ListBegins(2101, 0), ListEnd()]),
    "2102": (responses.encode_public_key(B, KEY), [PublicKeyResponse(B, KEY)]),
    "2103": (responses.encode_stored(B, 4), [StoredResponse(B, 4)]),
    "2104": (
        whole_list(ResponseCode.WAITING, WAITING),
        [
            ListBegins(2104, len(WAITING)),
            MessageHead(A, 7, 3, 5),
            ContentPart(b"hello"),
            MessageEnd(),
            MessageHead(B, 8, 1, 0),
            MessageEnd(),
            ListEnd(),
        ],
    ),
    "2104 of nothing": (whole_list(ResponseCode.WAITING, b""), [ListBegins(2104, 0), ListEnd()]),
    "2140": (
        responses.encode_hello(1, 11, 1 << 24, 0, b"s" * 16, 5, b"n" * 32),
        [HelloResponse(1, 11, 1 << 24, 0, b"s" * 16, 5, b"n" * 32)],
    ),
    "2141": (responses.AUTHENTICATED, [AuthenticatedResponse()]),
    "2143": (
        whole_list(ResponseCode.FETCHED, FETCHED),
        [
            ListBegins(2143, len(FETCHED)),
            MessageHead(A, 9, 4, 3, TOKEN, 1_700_000_000_123, sender_authenticated=True),
            ContentPart(b"abc"),
            MessageEnd(),
            ListEnd(),
        ],
    ),
    "9000": (responses.ERROR, [ErrorResponse()]),
    "9001": (responses.encode_reason(6, 30), [ErrorResponse(6, 30)]),
}


def decode(data: bytes, step: int) -> list[Event]:
    """All events, with a content's parts put together again."""
    connection = ClientConnection()
    events: list[Event] = []
    for start in range(0, len(data), step):
        connection.receive_data(data[start : start + step])
        while (event := connection.next_event()) is not None:
            last = events[-1] if events else None
            if isinstance(event, ContentPart) and isinstance(last, ContentPart):
                events[-1] = ContentPart(last.data + event.data)
            else:
                events.append(event)
    assert connection.idle
    return events


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_every_response_in_any_split(name: str, step: int) -> None:
    data, events = CASES[name]
    assert decode(data, step) == events


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_responses_behind_each_other(step: int) -> None:
    data = b"".join(data for data, _ in CASES.values())
    assert decode(data, step) == [event for _, events in CASES.values() for event in events]


@pytest.mark.parametrize("name", CASES)
def test_any_version_byte_is_taken(name: str) -> None:
    data, events = CASES[name]
    assert decode(b"\x01" + data[1:], 1 << 20) == events


def test_not_idle_with_half_a_response() -> None:
    connection = ClientConnection()
    assert connection.idle
    connection.receive_data(responses.ERROR[:3])
    assert connection.next_event() is None
    assert not connection.idle


def test_not_idle_before_the_end_of_a_list_was_taken() -> None:
    connection = ClientConnection()
    connection.receive_data(whole_list(ResponseCode.WAITING, b""))
    assert isinstance(connection.next_event(), ListBegins)
    assert not connection.idle
    assert isinstance(connection.next_event(), ListEnd)
    assert connection.idle


@pytest.mark.parametrize(
    "data",
    [
        RESPONSE_HEADER.pack(2, 1234, 0),
        RESPONSE_HEADER.pack(2, 9000, 65537),
        RESPONSE_HEADER.pack(2, 2102, 161),
        RESPONSE_HEADER.pack(2, 2100, 15),
        RESPONSE_HEADER.pack(2, 2103, 0xFFFFFFFF),
        RESPONSE_HEADER.pack(2, 2101, USER.size + 1),
        whole_list(ResponseCode.WAITING, b"x" * (WAITING_HEAD.size - 1)),
        whole_list(ResponseCode.WAITING, WAITING_HEAD.pack(A, 1, 3, 6) + b"hello"),
        whole_list(ResponseCode.WAITING, WAITING + b"x"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_can_not_be_parsed(data: bytes, step: int) -> None:
    with pytest.raises(ResponseMalformed):
        decode(data, step)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"eve\x1b[31m\0rest", "eve\x1b[31m"),
        ("zoë".encode() + b"\0", "zoë"),
        (b"\xff\0", "\N{REPLACEMENT CHARACTER}"),
        (b"\0", ""),
        (b"n" * 255, "n" * 255),
    ],
)
def test_an_odd_name_does_not_hide_the_list(field: bytes, name: str) -> None:
    entries = USER.pack(A, field) + USER.pack(B, b"bob\0")
    assert decode(whole_list(ResponseCode.USERS, entries), 1 << 20)[1:3] == [UserListed(A, name), UserListed(B, "bob")]


@given(st.binary(max_size=400), st.integers(1, 50))
def test_random_bytes_raise_nothing_else(data: bytes, step: int) -> None:
    connection = ClientConnection()
    try:
        for start in range(0, len(data), step):
            connection.receive_data(data[start : start + step])
            while connection.next_event() is not None:
                pass
    except ResponseMalformed:
        pass


@given(st.lists(st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 255), st.binary(max_size=50))), st.integers(1, 90))
def test_waiting_lists_round_trip(messages: list[tuple[int, int, bytes]], step: int) -> None:
    entries = b"".join(
        responses.encode_pulled_head(A, number, kind, len(content)) + content for number, kind, content in messages
    )
    expected: list[Event] = []
    for number, kind, content in messages:
        expected += [
            MessageHead(A, number, kind, len(content)),
            *([ContentPart(content)] if content else []),
            MessageEnd(),
        ]
    events = decode(whole_list(ResponseCode.WAITING, entries), step)
    assert events == [ListBegins(2104, len(entries)), *expected, ListEnd()]


def first_response(data: bytes) -> object:
    connection = ClientConnection()
    connection.receive_data(data)
    return connection.next_event()


def test_what_the_codec_takes_of_them() -> None:
    assert first_response(responses.encode_head(ResponseCode.PUBLIC_KEY, 160) + b"k" * 160) == PublicKeyResponse(
        None, PublicKey(b"k" * 160)
    )
    text = "nö".encode() + b"\xff\0\0"
    assert first_response(responses.encode_head(ResponseCode.ERROR, len(text)) + text) == ErrorResponse(text="nö\ufffd")
    longest = responses.encode_head(ResponseCode.ERROR, 65536) + b"x" * 65536
    assert first_response(longest) == ErrorResponse(text="x" * 65536)
