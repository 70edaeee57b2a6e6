"""The server's end of a connection: every case whole, byte by byte, with trailing bytes,
pipelined, and garbage.
"""

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.client_protocol.requests import (
    ClaimKeyRequest,
    FetchRequest,
    HelloRequest,
    LargeSendRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PublishKeysRequest,
    PullRequest,
    RegisterRequest,
    Request,
    RequestCode,
    SendRequest,
    encode,
)
from common.client_protocol.server_connection import (
    ContentData,
    ContentEnd,
    Event,
    Limits,
    Malformed,
    Padded,
    Phase,
    PipelinedSends,
    ServerConnection,
)
from common.values import ClientId, PublicKey, RefusalReason, Token, Username

ID = ClientId(bytes(range(1, 17)))
OTHER = ClientId(b"\xff" * 16)
TOKEN = Token(b"t" * 16)
LIMITS = Limits(largest_content=5000, inline_content=1000)
MALFORMED = Malformed(RefusalReason.MALFORMED, fatal=False)
TOO_LARGE = Malformed(RefusalReason.TOO_LARGE, fatal=True)

REQUESTS: list[Request] = [
    RegisterRequest(ID, Username("Michael Jackson"), PublicKey(b"k" * 160)),
    RegisterRequest(ID, Username("x" * 254), PublicKey(bytes(160))),
    ListUsersRequest(ID),
    PublicKeyRequest(ID, OTHER),
    SendRequest(ID, OTHER, 1, b""),
    SendRequest(ID, OTHER, 3, b"text"),
    SendRequest(ID, OTHER, 2, b""),
    SendRequest(ID, OTHER, 4, b"f" * 1000),
    PullRequest(ID),
    HelloRequest(ID, 1, 11),
    ProveRequest(ID, b"s" * 128),
    SendRequest(ID, OTHER, 3, b"once", TOKEN),
    SendRequest(ID, OTHER, 5, b"sealed", TOKEN),
    FetchRequest(ID, 2**64 - 1, 2**32 - 1, 65535),
    PublishKeysRequest(ID, forget=False, bundle=b"b", one_time_keys=b""),
    # Larger than the largest content, which is another matter.
    PublishKeysRequest(ID, forget=True, bundle=b"b" * 4096, one_time_keys=bytes(range(96)) * 50),
    ClaimKeyRequest(ID, OTHER),
]


def header(code: int, size: int) -> bytes:
    return struct.pack("<16sBHI", ID, 2, code, size)


def events(connection: ServerConnection) -> list[Event]:
    """What there is, with runs taken apart, as the same requests one by one would come."""
    found: list[Event] = []
    while (event := connection.next_event()) is not None:
        if isinstance(event, PipelinedSends):
            requests = list(event.requests())
            assert [request.recipient for request in requests] == event.recipients
            assert {request.requester for request in requests} == {event.requester}
            found += requests
        else:
            found.append(event)
    return found


def feed(data: bytes, cuts: list[int], limits: Limits = LIMITS) -> list[Event]:
    """The events of `data` cut at `cuts`, with the parts of a large content put together."""
    connection = ServerConnection(limits)
    found: list[Event] = []
    for start, stop in pairwise([0, *sorted(cuts), len(data)]):
        connection.receive_data(data[start:stop])
        for event in events(connection):
            if isinstance(event, ContentData) and found and isinstance(found[-1], ContentData):
                found[-1] = ContentData(found[-1].data + event.data)
            else:
                found.append(event)
    return found


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
@pytest.mark.parametrize("version", [1, 2])
def test_a_request_whole_byte_by_byte_and_with_a_follower(request_: Request, version: int) -> None:
    data = encode(request_, version)
    assert feed(data, []) == [request_]
    assert feed(data, list(range(len(data)))) == [request_]
    assert feed(data + data, []) == [request_, request_]
    assert feed(data + data, list(range(2 * len(data)))) == [request_, request_]


def test_many_requests_in_one_burst() -> None:
    data = b"".join(encode(request) for request in REQUESTS)
    assert feed(data, []) == REQUESTS


BAD = [
    header(605, 0),
    header(0, 3) + b"abc",
    header(65535, 4999) + bytes(4999),
    header(601, 1) + b"x",
    header(604, 4) + b"abcd",
    header(602, 0),
    header(602, 17) + b"x" * 17,
    header(600, 414) + b"n" * 414,
    header(600, 416) + b"n" * 416,
    header(600, 415) + b"n" * 255 + b"k" * 160,
    header(600, 415) + bytes(415),
    header(600, 415) + b"tab\tbed\0".ljust(415, b"\0"),
    header(600, 415) + b"\xc3\xa9\0".ljust(415, b"\0"),
    header(600, 415) + b" lead\0".ljust(415, b"\0"),
    header(600, 415) + b"trail \0".ljust(415, b"\0"),
    header(640, 7) + bytes(7),
    header(641, 127) + bytes(127),
    header(643, 15) + bytes(15),
    header(603, 25) + OTHER + b"\x03" + struct.pack("<I", 5) + b"text",
    header(603, 25) + OTHER + b"\x03" + struct.pack("<I", 3) + b"text",
    header(603, 25) + OTHER + b"\x00" + struct.pack("<I", 4) + b"text",
    header(603, 25) + OTHER + b"\x05" + struct.pack("<I", 4) + b"text",
    header(603, 25) + OTHER + b"\xff" + struct.pack("<I", 4) + b"text",
    header(642, 41) + TOKEN + OTHER + b"\x03" + struct.pack("<I", 5) + b"text",
    header(642, 41) + TOKEN + OTHER + b"\x00" + struct.pack("<I", 4) + b"text",
    header(642, 41) + TOKEN + OTHER + b"\x06" + struct.pack("<I", 4) + b"text",
    header(644, 5) + bytes(5),
    header(644, 8) + struct.pack("<BH3sH", 2, 3, b"abc", 0),
    header(644, 8) + struct.pack("<BH3sH", 0, 0, b"abc", 0),
    header(644, 8) + struct.pack("<BH3sH", 0, 4, b"abc", 0),
    header(644, 8) + struct.pack("<BH3sH", 0, 2, b"abc", 0),
    header(644, 8) + struct.pack("<BH3sH", 0, 3, b"abc", 1),
    header(644, 104) + struct.pack("<BH3sH", 0, 3, b"abc", 0) + bytes(96),
    header(644, 103) + struct.pack("<BH3sH", 0, 3, b"abc", 1) + bytes(95),
    header(644, 4904) + struct.pack("<BH3sH", 0, 3, b"abc", 51) + bytes(51 * 96),
    header(644, 4102) + struct.pack("<BH4097sH", 0, 4097, b"", 0),
    header(645, 15) + bytes(15),
    header(645, 17) + bytes(17),
]


def test_a_name_beyond_ascii_where_640_was_answered() -> None:
    frame = header(600, 415) + b"\xc3\xa9\0".ljust(255, b"\0") + b"k" * 160
    connection = ServerConnection(Limits(1000))
    connection.receive_data(frame * 2)
    assert connection.next_event() == MALFORMED
    connection.greeted = True
    assert connection.next_event() == RegisterRequest(ID, Username("é"), PublicKey(b"k" * 160))
    connection.receive_data(header(600, 415) + b"\xe9\0".ljust(415, b"\0"))
    assert connection.next_event() == MALFORMED


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_frame_is_refused_and_the_next_one_read(bad: bytes) -> None:
    good = encode(PullRequest(ID))
    assert feed(bad + good, []) == [MALFORMED, PullRequest(ID)]
    assert feed(bad + good, list(range(len(bad) + len(good)))) == [MALFORMED, PullRequest(ID)]
    assert feed(good + bad + good, []) == [PullRequest(ID), MALFORMED, PullRequest(ID)]


@pytest.mark.parametrize(
    "data",
    [
        header(601, 5022),
        header(999, 0xFFFFFFFF),
        header(644, 8902),
        header(600, 0x80000000),
        header(603, 5022) + OTHER + b"\x03" + struct.pack("<I", 5001),
        header(603, 0xFFFFFFFF) + OTHER + b"\x01" + struct.pack("<I", 1),
        header(642, 5038) + TOKEN + OTHER + b"\x03" + struct.pack("<I", 5001),
    ],
)
def test_a_size_over_the_limit_is_refused_at_once_and_for_good(data: bytes) -> None:
    assert feed(data, []) == [TOO_LARGE]
    assert feed(data + bytes(10_000) + encode(PullRequest(ID)), [len(data)]) == [TOO_LARGE]


def test_the_limit_itself_passes() -> None:
    content = bytes(5000)
    found = feed(encode(SendRequest(ID, OTHER, 3, content)), [])
    assert found == [LargeSendRequest(ID, OTHER, 3, 5000), ContentData(content), ContentEnd()]
    found = feed(encode(SendRequest(ID, OTHER, 3, content, TOKEN)), [])
    assert found == [LargeSendRequest(ID, OTHER, 3, 5000, TOKEN), ContentData(content), ContentEnd()]


@pytest.mark.parametrize("declared", [0, 3, 20, 21, 22, 4999, 5022, 0xCDCDCDCD, 0xFFFFFFFF])
def test_an_empty_key_request_is_21_bytes_whatever_its_header_says(declared: int) -> None:
    data = header(603, declared) + OTHER + b"\x01" + bytes(4)
    expected = [SendRequest(ID, OTHER, 1, b""), PullRequest(ID)]
    both = data + encode(PullRequest(ID))
    assert feed(both, []) == expected
    assert feed(both, list(range(len(both)))) == expected


def test_a_key_request_with_a_content_is_an_ordinary_send() -> None:
    request = SendRequest(ID, OTHER, 1, b"whatever")
    assert feed(encode(request), []) == [request]


@pytest.mark.parametrize("declared", [0, 1, 20])
def test_a_send_too_short_is_judged_on_silence_or_by_what_follows(declared: int) -> None:
    connection = ServerConnection(LIMITS)
    connection.receive_data(header(603, declared) + b"\x07" * declared)
    found: list[object] = [connection.next_event(), connection.suspicious, connection.event_on_silence()]
    assert found == [None, True, MALFORMED]
    connection.receive_data(encode(PullRequest(ID)))
    assert events(connection) == [PullRequest(ID)]
    found = [connection.suspicious, connection.event_on_silence()]
    assert found == [False, None]


def test_a_send_that_declares_too_much_is_judged_on_silence() -> None:
    connection = ServerConnection(LIMITS)
    connection.receive_data(header(603, 0xFFFFFFFF) + b"abc")
    assert connection.next_event() is None
    assert connection.event_on_silence() == TOO_LARGE


def test_an_honest_send_that_is_slow_is_not_suspicious() -> None:
    connection = ServerConnection(LIMITS)
    connection.receive_data(encode(SendRequest(ID, OTHER, 3, b"text"))[:30])
    assert connection.next_event() is None
    assert not connection.suspicious
    assert connection.event_on_silence() is None


def phases(data: bytes, cuts: list[int]) -> list[Phase]:
    """The phase after each part."""
    connection = ServerConnection(LIMITS)
    found = [connection.phase]
    for start, stop in pairwise([0, *cuts, len(data)]):
        connection.receive_data(data[start:stop])
        events(connection)
        found.append(connection.phase)
    return found


def test_phases() -> None:
    text = encode(SendRequest(ID, OTHER, 3, b"text"))
    assert phases(text, [5, 30]) == [Phase.BETWEEN, Phase.HEADER, Phase.PAYLOAD, Phase.BETWEEN]
    assert phases(text + bytes(3), [len(text)]) == [Phase.BETWEEN] * 3, "zeros that may be padding begin nothing"
    large = encode(SendRequest(ID, OTHER, 3, bytes(2000)))
    assert phases(large, [44, 100]) == [Phase.BETWEEN, Phase.PAYLOAD, Phase.PAYLOAD, Phase.BETWEEN]
    assert phases(header(999, 100) + bytes(100), [60]) == [Phase.BETWEEN, Phase.PAYLOAD, Phase.BETWEEN]


# --- the padded dialect
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_padded_request_however_it_is_split(request_: Request) -> None:
    data = encode(request_)
    padded = data + bytes(-len(data) % 1024)
    expected: list[Event] = [request_] if len(padded) == len(data) else [request_, Padded()]
    assert feed(padded, []) == expected
    assert feed(padded, list(range(len(padded)))) == expected
    assert feed(padded + b"ignored" * 50, []) == expected or len(padded) == len(data)


def test_one_zero_short_is_not_yet_padded() -> None:
    connection = ServerConnection(LIMITS)
    connection.receive_data(encode(PullRequest(ID)).ljust(1023, b"\0"))
    assert events(connection) == [PullRequest(ID)]
    assert connection.undigested == 1023 - 23
    assert not connection.begins_request(b"\0")
    assert connection.begins_request(b"\x01")
    connection.receive_data(b"\0")
    assert events(connection) == [Padded()]
    assert not any(connection.begins_request(data) for data in (b"\x01", b"\0", b""))


def test_another_byte_before_the_boundary_gives_the_zeros_back() -> None:
    first = encode(PullRequest(ID))
    second = encode(RegisterRequest(ClientId(bytes(16)), Username("bob"), PublicKey(bytes(160))))
    expected = feed(first, []) + feed(second, [])
    for cut in range(len(first) + 30):
        assert feed(first + second, [cut]) == expected
    assert feed(first + second, list(range(len(first + second)))) == expected


def test_only_the_first_request_is_examined() -> None:
    data = encode(PullRequest(ID)) + encode(ListUsersRequest(ID))
    found = feed(data + bytes(1024 - len(data) % 1024), [])
    assert Padded() not in found


def test_a_bad_first_request_is_examined_too() -> None:
    assert feed((header(999, 3) + b"abc").ljust(1024, b"\0"), []) == [MALFORMED, Padded()]
    assert feed(header(600, 415) + bytes(415 + 1024 - 438), []) == [MALFORMED, Padded()]


def test_a_large_first_request_is_examined_behind_its_content() -> None:
    data = encode(SendRequest(ID, OTHER, 3, b"c" * 3000))
    found = feed(data + bytes(-len(data) % 1024), [50, 1200, 3010])
    assert found == [LargeSendRequest(ID, OTHER, 3, 3000), ContentData(b"c" * 3000), ContentEnd(), Padded()]


# --- generated
# --------------------------------------------------------------------------------------------------

ids = st.binary(min_size=16, max_size=16).map(ClientId)
u32 = st.integers(0, 2**32 - 1)
names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=254).filter(
    lambda name: name == name.strip(" ")
)
requests = st.one_of(
    st.builds(RegisterRequest, ids, names.map(Username), st.binary(min_size=160, max_size=160).map(PublicKey)),
    st.builds(ListUsersRequest, ids),
    st.builds(PublicKeyRequest, ids, ids),
    st.builds(SendRequest, ids, ids, st.integers(1, 4), st.binary(max_size=1000), st.none()),
    st.builds(
        SendRequest,
        ids,
        ids,
        st.integers(1, 4),
        st.binary(max_size=1000),
        st.binary(min_size=16, max_size=16).map(Token),
    ),
    st.builds(PullRequest, ids),
    st.builds(HelloRequest, ids, u32, u32),
    st.builds(ProveRequest, ids, st.binary(min_size=128, max_size=128)),
    st.builds(FetchRequest, ids, st.integers(0, 2**64 - 1), u32, st.integers(0, 65535)),
)


@given(st.lists(requests, min_size=1, max_size=6), st.data())
def test_what_is_encoded_is_decoded_however_it_is_cut(many: list[Request], data: st.DataObject) -> None:
    stream = b"".join(encode(request) for request in many)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    found = feed(stream, cuts)
    assert found[: len(many)] == many or Padded() in found


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=5))
def test_random_bytes_raise_nothing_and_are_bounded(data: bytes, cuts: list[int]) -> None:
    check_bounded(data, cuts)


@given(
    st.lists(
        st.tuples(
            ids,
            st.sampled_from([600, 601, 602, 603, 604, 640, 641, 642, 643, 7]),
            st.one_of(st.integers(0, 60), st.sampled_from([415, 128, 5000, 5021, 5037]), u32),
            st.binary(max_size=500),
        ),
        max_size=5,
    ),
    st.lists(st.integers(0, 3000), max_size=5),
)
def test_nearly_right_bytes_raise_nothing_and_are_bounded(
    frames: list[tuple[ClientId, int, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(struct.pack("<16sBHI", id_, 2, code, size) + rest for id_, code, size, rest in frames)
    check_bounded(data, cuts)


def check_bounded(data: bytes, cuts: list[int]) -> None:
    connection = ServerConnection(LIMITS)
    largest_frame = 23 + 37 + LIMITS.inline_content
    for start, stop in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        connection.receive_data(data[start:stop])
        events(connection)
        assert connection.undigested <= max(largest_frame, 1024)
    connection.event_on_silence()
    events(connection)


def send(number: int, requester: ClientId = ID, content: bytes = b"text") -> bytes:
    return encode(SendRequest(requester, ClientId(bytes([number]) * 16), 3, content))


def runs(data: bytes, limits: Limits = LIMITS) -> list[Event]:
    """The events of `data` behind a first request, which is always alone: it may be of
    the padded dialect.
    """
    connection = ServerConnection(limits)
    connection.receive_data(encode(ListUsersRequest(ID)) + data)
    found = []
    while (event := connection.next_event()) is not None:
        found.append(event)
    assert found.pop(0) == ListUsersRequest(ID)
    return found


def test_a_run_is_the_bytes_as_they_came() -> None:
    data = b"".join(send(number) for number in range(5))
    assert runs(data) == [PipelinedSends(ID, [bytes([number]) * 16 for number in range(5)], data)]


def test_what_a_connection_keeps_is_told_whole() -> None:
    connection = ServerConnection(LIMITS)
    assert connection.memory == 0
    data = send(1) + send(2)[:-1]
    connection.receive_data(data)
    assert connection.next_event() is not None
    assert connection.memory == len(data), "the buffer is there as long as a part of it is"
    assert connection.next_event() is None
    assert connection.memory == len(send(2)) - 1
    connection.receive_data(send(2)[-1:] + send(3)[:20])
    while connection.next_event() is not None:
        pass
    assert connection.memory == 20
    connection.ignore()
    assert connection.memory == connection.undigested == 0
    connection.receive_data(send(4))
    assert connection.memory == 0
    assert connection.next_event() is None


def test_what_ends_a_run() -> None:
    one, two = send(1), send(2)
    others = [
        encode(PullRequest(ID)),
        encode(SendRequest(ID, OTHER, 3, b"once", TOKEN)),
        send(3, requester=OTHER),
        encode(SendRequest(ID, OTHER, 9, b"")),
        send(4, content=bytes(1001)),
        header(603, 22) + OTHER + b"\3" + struct.pack("<I", 7) + b"x",
    ]
    for other in others:
        found = runs(one + two + other + one)
        assert found[0] == PipelinedSends(ID, [b"\1" * 16, b"\2" * 16], one + two)
        assert found[-1] == PipelinedSends(ID, [b"\1" * 16], one)
        assert len(found) > 2


def test_a_type_1_with_any_payload_size_is_part_of_a_run() -> None:
    lenient = header(603, 0xDEADBEEF) + OTHER + b"\1" + bytes(4)
    data = send(1) + lenient + send(2)
    assert runs(data) == [PipelinedSends(ID, [b"\1" * 16, OTHER, b"\2" * 16], data)]


def send_once(number: int, *, requester: ClientId = ID, kind: int = 3, content: bytes = b"text") -> bytes:
    """A 642 with a token and a recipient of its own."""
    return encode(SendRequest(requester, ClientId(bytes([number]) * 16), kind, content, Token(bytes([number]) * 16)))


def test_a_run_of_642s_has_their_tokens() -> None:
    data = b"".join(send_once(number, kind=number % 5 + 1) for number in range(5))
    [run] = runs(data)
    assert run == PipelinedSends(ID, [bytes([number]) * 16 for number in range(5)], data, once=True)
    assert isinstance(run, PipelinedSends)
    assert run.code is RequestCode.SEND_ONCE
    assert [request.token for request in run.requests()] == [bytes([number]) * 16 for number in range(5)]


def test_what_ends_a_run_of_642s() -> None:
    one, two = send_once(1), send_once(2)
    others = [
        send(3),
        send_once(3, requester=OTHER),
        encode(SendRequest(ID, OTHER, 9, b"", TOKEN)),
        send_once(4, content=bytes(1001)),
        header(642, 38) + TOKEN + OTHER + b"\3" + struct.pack("<I", 7) + b"x",
        header(642, 1000) + TOKEN + OTHER + b"\1" + bytes(4 + 1000 - 37),
    ]
    for other in others:
        found = runs(one + two + other + one)
        assert found[0] == PipelinedSends(ID, [b"\1" * 16, b"\2" * 16], one + two, once=True)
        assert found[-1] == PipelinedSends(ID, [b"\1" * 16], one, once=True)
        assert len(found) > 2


@pytest.mark.parametrize("by_bytes", [False, True], ids=["messages", "bytes"])
@pytest.mark.parametrize("sent", [send, send_once])
def test_a_run_ends_where_it_is_long_enough(sent: Callable[[int], bytes], by_bytes: bool) -> None:
    limits = LIMITS._replace(run_bytes=len(sent(0)) * 2) if by_bytes else LIMITS._replace(run_messages=3)
    connection = ServerConnection(limits)
    connection.receive_data(b"".join(map(sent, range(8))) + sent(8)[:10])
    sizes = []
    while (event := connection.next_event()) is not None:
        assert isinstance(event, PipelinedSends)
        sizes.append(len(event.recipients))
    assert sizes == [1, 3, 3, 1]
    assert connection.phase is Phase.HEADER


def test_the_first_request_is_alone() -> None:
    connection = ServerConnection(LIMITS)
    connection.receive_data(send(1) + send(2) + send(3))
    assert connection.next_event() == PipelinedSends(ID, [b"\1" * 16], send(1))
    assert connection.next_event() == PipelinedSends(ID, [b"\2" * 16, b"\3" * 16], send(2) + send(3))
    assert connection.next_event() is None


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from([ID, OTHER]), st.binary(max_size=40)), max_size=12
    ),
    st.data(),
)
def test_runs_are_the_requests_one_by_one(sends: list[tuple[bool, int, ClientId, bytes]], data: st.DataObject) -> None:
    frames = [
        send_once(number, requester=requester, content=content) if once else send(number, requester, content)
        for once, number, requester, content in sends
    ]
    whole = b"".join(frames)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=4))
    expected = [event for frame in frames for event in feed(frame, [])]
    assert feed(whole, cuts) == expected


def feed_by_the_short_way(data: bytes, cuts: list[int]) -> list[Event]:
    """As `feed`, as a server reads that tries `receive_run` first."""
    connection = ServerConnection(LIMITS)
    found: list[Event] = []
    for start, stop in pairwise([0, *sorted(cuts), len(data)]):
        run = connection.receive_run(data[start:stop])
        if run is not None:
            found += run.requests()
        if connection.drained:
            assert connection.next_event() is None
            continue
        found += events(connection)
    return found


def test_the_short_way_takes_all_that_comes() -> None:
    data = encode(PullRequest(ID)) + send(1)
    whole = send(2) + send(3)
    connection = ServerConnection(LIMITS)
    assert connection.receive_run(data) is None
    assert len(events(connection)) == 2
    assert connection.receive_run(whole) == PipelinedSends(ID, [b"\2" * 16, b"\3" * 16], whole)
    drained = [connection.drained]
    assert connection.receive_run(whole + whole[:7]) == PipelinedSends(ID, [b"\2" * 16, b"\3" * 16], whole)
    drained.append(connection.drained)
    assert drained == [True, False]
    assert connection.next_event() is None
    assert connection.phase is Phase.HEADER
    assert connection.receive_run(whole[7:]) is None, "what is held comes first"
    assert connection.next_event() == PipelinedSends(ID, [b"\2" * 16, b"\3" * 16], whole)
    assert connection.receive_run(encode(PullRequest(ID))) is None
    assert events(connection) == [PullRequest(ID)]


@given(
    st.lists(st.one_of(requests, st.builds(SendRequest, st.just(ID), ids, st.integers(1, 4), st.binary(max_size=9))))
)
def test_the_short_way_gives_the_same_requests(many: list[Request]) -> None:
    # Behind a first request that is no send, so that no bytes can be taken for padding.
    first = encode(HelloRequest(ID, 1, 1))
    frames = [encode(request) for request in many]
    stream = first + b"".join(frames)
    ends = [len(first + b"".join(frames[:number])) for number in range(len(frames))]
    for cuts in ([], ends, [end + 3 for end in ends if end + 3 < len(stream)]):
        assert feed_by_the_short_way(stream, cuts) == feed(stream, cuts)
