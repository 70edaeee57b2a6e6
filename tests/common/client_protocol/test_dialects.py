"""Numbers of other programs: aliases of codes, big-endian clients, a first 602 that declares no
payload.
"""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol import responses
from common.client_protocol.dialects import BigEndianReplies, is_big_endian, meaning_of
from common.client_protocol.requests import (
    ListUsersRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterRequest,
    Request,
    SendRequest,
    encode,
)
from common.client_protocol.responses import ResponseCode
from common.client_protocol.server_connection import BigEndian, Malformed, Padded, ServerConnection
from common.values import PublicKey, RefusalReason, Username
from tests.common.client_protocol.test_server_connection import (
    ID,
    LIMITS,
    MALFORMED,
    OTHER,
    TOO_LARGE,
    events,
    feed,
    header,
)

PUBLISHED: list[Request] = [
    RegisterRequest(ID, Username("bob"), PublicKey(b"k" * 160)),
    ListUsersRequest(ID),
    PublicKeyRequest(ID, OTHER),
    SendRequest(ID, OTHER, 3, b"text"),
    SendRequest(ID, OTHER, 1, b""),
    PullRequest(ID),
]


def with_code(request: Request, shift: int, order: str = "<") -> bytes:
    """A request's bytes with another first code, in either byte order."""
    data = encode(request)
    requester, version, code, size = struct.unpack_from("<16sBHI", data)
    payload = data[23:]
    if isinstance(request, SendRequest):
        payload = struct.pack(f"{order}16sBI", request.recipient, request.kind, len(request.content)) + request.content
    return struct.pack(f"{order}16sBHI", requester, version, code + shift, size) + payload


@pytest.mark.parametrize("shift", [100, 500])
@pytest.mark.parametrize("request_", PUBLISHED, ids=lambda request: type(request).__name__)
def test_other_numberings_mean_the_same(request_: Request, shift: int) -> None:
    data = with_code(request_, shift)
    assert feed(data + encode(PullRequest(ID)), []) == [request_, PullRequest(ID)]
    assert feed(data * 2, list(range(2 * len(data)))) == [request_, request_]


def test_which_codes_are_aliases() -> None:
    changed = {code: meaning_of(code) for code in range(65536) if meaning_of(code) != code}
    assert changed == {700 + n: 600 + n for n in range(5)} | {1100 + n: 600 + n for n in range(5)}


def test_the_lenient_cases_hold_for_aliases() -> None:
    data = header(703, 0xCDCDCDCD) + OTHER + b"\x01" + bytes(4)
    assert feed(data + data, []) == [SendRequest(ID, OTHER, 1, b"")] * 2
    assert feed((header(1102, 0) + OTHER).ljust(1024, b"\0"), []) == [PublicKeyRequest(ID, OTHER), Padded()]
    assert feed(header(704, 0xFFFFFFFF), []) == [TOO_LARGE]
    assert feed(header(705, 3) + b"abc" + encode(PullRequest(ID)), []) == [MALFORMED, PullRequest(ID)]


# --- a first 602 that declares no payload
# -----------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 5, 46, 1024])
def test_a_first_602_without_a_size_has_its_id_behind_it(step: int) -> None:
    data = (header(602, 0) + OTHER).ljust(1024, b"\0")
    assert feed(data, list(range(step, 1024, step))) == [PublicKeyRequest(ID, OTHER), Padded()]


@pytest.mark.parametrize("there", range(23))
def test_where_the_id_stays_away_it_is_judged_as_it_is(there: int) -> None:
    connection = ServerConnection(LIMITS)
    connection.receive_data(header(602, 0) + (OTHER + bytes(7))[:there])
    assert events(connection) == []
    judged: list[object] = [connection.suspicious, connection.event_on_silence()]
    assert judged == [True, Malformed(RefusalReason.MALFORMED, fatal=False)]
    if not there:
        connection.receive_data(encode(PullRequest(ID)))
        assert events(connection) == [PullRequest(ID)]


def test_a_request_behind_it_is_no_id() -> None:
    assert feed(header(602, 0) + encode(PullRequest(ID)) * 2, []) == [MALFORMED, PullRequest(ID), PullRequest(ID)]


def test_only_a_first_602_is_read_so() -> None:
    data = encode(PullRequest(ID)) + header(602, 0) + encode(PullRequest(ID))
    assert feed(data, []) == [PullRequest(ID), MALFORMED, PullRequest(ID)]


# --- big-endian clients
# -----------------------------------------------------------------------------------------


def test_which_first_codes_show_a_big_endian_client() -> None:
    shown = [code for code in range(65536) if is_big_endian(code)]
    swapped = [struct.unpack("<H", struct.pack(">H", base + n))[0] for base in (600, 700, 1100) for n in range(5)]
    assert shown == sorted(swapped)
    assert {22530, 22786, 23042, 23298, 23554} <= set(shown)


@pytest.mark.parametrize("shift", [0, 100, 500])
@pytest.mark.parametrize("first", PUBLISHED, ids=lambda request: type(request).__name__)
def test_the_first_header_decides_and_all_are_read_so(first: Request, shift: int) -> None:
    requests = [first, *PUBLISHED]
    data = b"".join([with_code(request, shift, ">") for request in requests])
    assert feed(data, []) == [BigEndian(), *requests]
    assert feed(data, list(range(len(data)))) == [BigEndian(), *requests]


def test_a_connection_has_one_byte_order() -> None:
    little = encode(PullRequest(ID))
    big = with_code(PullRequest(ID), 0, ">")
    assert feed(little + big, []) == [PullRequest(ID), MALFORMED]
    send = encode(SendRequest(ID, OTHER, 1, b""))
    # Its size reads as 352,321,536 in the other order: over the limit.
    assert feed(big + send, []) == [BigEndian(), PullRequest(ID), TOO_LARGE]
    hello = struct.pack(">16sBHI", ID, 2, 640, 8) + bytes(8)
    assert feed(big + hello + big, []) == [BigEndian(), PullRequest(ID), MALFORMED, PullRequest(ID)]


def test_a_padded_big_endian_client() -> None:
    data = with_code(PublicKeyRequest(ID, OTHER), 0, ">").ljust(1024, b"\0")
    assert feed(data, []) == [BigEndian(), PublicKeyRequest(ID, OTHER), Padded()]


def test_big_endian_sizes_are_judged_like_others() -> None:
    assert feed(struct.pack(">16sBHI", ID, 2, 604, 5001 + 21), []) == [BigEndian(), TOO_LARGE]
    lenient = struct.pack(">16sBHI", ID, 2, 603, 0xCDCDCDCD) + OTHER + b"\x01" + bytes(4)
    assert feed(lenient + with_code(PullRequest(ID), 0, ">"), []) == [
        BigEndian(), SendRequest(ID, OTHER, 1, b""), PullRequest(ID),
    ]  # fmt: skip
    connection = ServerConnection(LIMITS)
    connection.receive_data(struct.pack(">16sBHI", ID, 2, 603, 4) + b"x" * 4)
    assert events(connection) == [BigEndian()]
    judged: list[object] = [connection.suspicious, connection.event_on_silence()]
    assert judged == [True, MALFORMED]


def entry(sequence: int, content: bytes) -> tuple[bytes, bytes]:
    """A message of 2104 in either byte order."""
    little = responses.encode_pulled_head(OTHER, sequence, 3, len(content)) + content
    return little, struct.pack(">16sIBI", OTHER, sequence, 3, len(content)) + content


def replies() -> tuple[bytes, bytes]:
    """Every response of part 1, in either byte order."""
    first, first_big = entry(1, b"hello")
    second, second_big = entry(0x01020304, b"")
    little = [
        responses.encode_registered(OTHER),
        responses.encode_head(ResponseCode.USERS, 271) + responses.encode_user(ID, "bob"),
        responses.encode_public_key(ID, b"k" * 160),
        responses.encode_stored_run([ID, OTHER], 7),
        responses.encode_head(ResponseCode.WAITING, len(first + second)) + first + second,
        responses.encode_head(ResponseCode.WAITING, 0),
        responses.ERROR,
    ]
    big = [
        struct.pack(">BHI", 2, 2100, 16) + OTHER,
        struct.pack(">BHI", 2, 2101, 271) + ID + b"bob".ljust(255, b"\0"),
        struct.pack(">BHI", 2, 2102, 176) + ID + b"k" * 160,
        struct.pack(">BHI16sI", 2, 2103, 20, ID, 7) + struct.pack(">BHI16sI", 2, 2103, 20, OTHER, 8),
        struct.pack(">BHI", 2, 2104, len(first + second)) + first_big + second_big,
        struct.pack(">BHI", 2, 2104, 0),
        struct.pack(">BHI", 2, 9000, 0),
    ]
    return b"".join(little), b"".join(big)


@given(st.lists(st.integers(0, 700), max_size=20))
def test_responses_are_turned_in_any_split(cuts: list[int]) -> None:
    little, big = replies()
    turner = BigEndianReplies()
    bounds = [0, *sorted(min(cut, len(little)) for cut in cuts), len(little)]
    turned = [turner.turn(little[start:stop]) for start, stop in pairwise(bounds)]
    assert b"".join(turned) == big


@pytest.mark.parametrize("zeros", [1, 6, 997])
def test_zeros_behind_the_answer_stay(zeros: int) -> None:
    turner = BigEndianReplies()
    stored = turner.turn(responses.encode_stored(ID, 7))
    assert stored == struct.pack(">BHI16sI", 2, 2103, 20, ID, 7)
    assert turner.turn(bytes(zeros)) == bytes(zeros)
