from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from client.connection.server_link import ServerLink
from client.errors import InvalidServerResponse, OutcomeUnknown, ServerUnreachable
from common.client_protocol import responses
from common.client_protocol.client_connection import ContentPart, ListBegins, ListEnd, MessageEnd
from common.client_protocol.requests import (
    LargeSendRequest,
    ListUsersRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterRequest,
    SendRequest,
)
from common.client_protocol.responses import (
    ErrorResponse,
    PublicKeyResponse,
    RegisteredResponse,
    ResponseCode,
    StoredResponse,
)
from common.server_address import ServerAddress
from common.values import NO_CLIENT, ClientId, MessageKind, RefusalReason, Username
from tests.client.connection.two_users import BOB, KEY, ME, PULL, SEND, with_two
from tests.client.fake_gateway import CLOSE, ERROR, SILENCE, Answer, FakeGateway
from torture.patience import HANG_SECONDS
from torture.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[FakeGateway]:
    with FakeGateway() as fake:
        yield with_two(fake)


@pytest.fixture
def link(server: FakeGateway) -> Iterator[ServerLink]:
    opened = ServerLink(server.address, reply_timeout=HANG_SECONDS)
    yield opened
    opened.close()


def pull(link: ServerLink) -> list[object]:
    return list(link.ask_list(PULL))


def test_one_connection_for_all(server: FakeGateway, link: ServerLink) -> None:
    assert link.ask(RegisterRequest(NO_CLIENT, Username("carol"), KEY)) == RegisteredResponse(ClientId(b"\x03" * 16))
    assert link.ask(PublicKeyRequest(ME, BOB)) == PublicKeyResponse(BOB, KEY)
    assert link.ask(SEND) == StoredResponse(BOB, 1)
    assert pull(link) == [ListBegins(2104, 0), ListEnd()]
    assert len(list(link.ask_list(ListUsersRequest(ME)))) == 4
    assert link.ask(SendRequest(ME, ClientId(b"x" * 16), 3, b"")) == ErrorResponse()
    assert server.connections == 1


def test_a_server_that_closes_after_each_reply() -> None:
    with FakeGateway(close_after_reply=True) as server:
        server.mailroom.register("alice", KEY)
        server.mailroom.register("bob", KEY)
        link = ServerLink(server.address)
        for number in (1, 2, 3):
            pull(link)
            assert link.ask(SEND) == StoredResponse(BOB, number)
        assert len(server.requests) == server.connections == 6
        link.close()


def test_byte_by_byte() -> None:
    with FakeGateway(byte_by_byte=True) as server:
        server.mailroom.register("alice", KEY)
        server.mailroom.put(BOB, ME, 3, b"hello")
        link = ServerLink(server.address)
        events = pull(link)
        assert b"".join(event.data for event in events if isinstance(event, ContentPart)) == b"hello"
        assert isinstance(events[-2], MessageEnd)
        link.close()


def test_header_and_payload_in_one_write() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = ServerLink(ServerAddress("127.0.0.1", listener.getsockname()[1]), reply_timeout=0.05)
        with pytest.raises(OutcomeUnknown):
            link.ask(SEND)
        peer, _ = listener.accept()
        with peer:
            assert len(peer.recv(4096)) == 23 + 21 + 16


def test_no_server() -> None:
    port = free_port()
    link = ServerLink(ServerAddress("127.0.0.1", port))
    for _ in range(2):
        with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port}") as caught:
            link.ask(SEND)
        assert caught.value.advice


@pytest.mark.parametrize("host", ["no such host.invalid", "a..b", "x" * 70])
def test_a_host_name_that_means_nothing(host: str) -> None:
    with pytest.raises(ServerUnreachable):
        ServerLink(ServerAddress(host, 1)).connect()


def test_silence(server: FakeGateway) -> None:
    link = ServerLink(server.address, reply_timeout=0.05)
    server.script.append(SILENCE)
    with pytest.raises(OutcomeUnknown, match=r"silence for 0\.05 s"):
        pull(link)
    link.reply_timeout = HANG_SECONDS
    pull(link)
    assert server.connections == 2
    link.close()


def test_who_waits_for_long_is_told(server: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.connection.server_link.TOLD_AFTER", 0.01)
    told: list[str] = []
    link = ServerLink(server.address, reply_timeout=0.05, tell=told.append)
    server.script.append(SILENCE)
    with pytest.raises(OutcomeUnknown, match=r"silence for 0\.05 s"):
        pull(link)
    assert told == [f"The server at {server.address} does not answer; waiting for up to 0.04 s more."]
    # Beyond what the server was allowed to wait.
    server.script.append(SILENCE)
    with pytest.raises(OutcomeUnknown, match=r"silence for 0\.1 s"):
        list(link.ask_list(PULL, silence=0.05))
    assert told[1:] == told[:1]
    monkeypatch.undo()
    server.script.append(SILENCE)
    with pytest.raises(OutcomeUnknown):
        pull(link)
    assert len(told) == 2
    link.close()


def test_silence_in_the_middle_of_a_list(server: FakeGateway) -> None:
    link = ServerLink(server.address)
    server.script.append(Answer(responses.encode_head(ResponseCode.WAITING, 100)))
    events = link.ask_list(PULL)
    assert next(events) == ListBegins(ResponseCode.WAITING, 100)
    link.reply_timeout = 0.05
    with pytest.raises(OutcomeUnknown, match="broke off"):
        next(events)
    link.close()


def test_the_time_a_server_may_wait_is_no_silence(server: FakeGateway) -> None:
    link = ServerLink(server.address, reply_timeout=0)
    assert list(link.ask_list(PULL, silence=20)) == [ListBegins(2104, 0), ListEnd()]
    link.close()


@pytest.mark.parametrize("request_", [PULL, PublicKeyRequest(ME, BOB)])
def test_a_read_is_repeated_when_the_kept_connection_was_closed(
    server: FakeGateway, link: ServerLink, request_: PullRequest | PublicKeyRequest
) -> None:
    pull(link)
    # It is closed when the request comes in: too late for a look before sending.
    server.script.append(CLOSE)
    if isinstance(request_, PullRequest):
        assert pull(link)[-1] == ListEnd()
    else:
        assert isinstance(link.ask(request_), PublicKeyResponse)
    assert server.connections == 2
    assert len(server.requests) == 3


def test_a_send_is_not_repeated(server: FakeGateway, link: ServerLink) -> None:
    pull(link)
    server.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown, match="closed the connection"):
        link.ask(SEND)
    assert server.codes() == ["Pull", "Send"]
    assert link.ask(SEND) == StoredResponse(BOB, 1)


def test_nothing_is_repeated_on_a_fresh_connection(server: FakeGateway, link: ServerLink) -> None:
    server.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown):
        pull(link)
    assert server.codes() == ["Pull"]


def test_nothing_is_repeated_after_a_byte_of_the_answer(server: FakeGateway, link: ServerLink) -> None:
    pull(link)
    server.script.append(Answer(responses.ERROR[:3], close=True))
    with pytest.raises(OutcomeUnknown):
        pull(link)
    assert server.codes() == ["Pull", "Pull"]


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request", responses.encode_head(ResponseCode.REGISTERED, 99)])
def test_garbage(server: FakeGateway, link: ServerLink, garbage: bytes) -> None:
    server.script.append(Answer(garbage))
    with pytest.raises(InvalidServerResponse) as caught:
        pull(link)
    assert caught.value.advice
    assert pull(link)[-1] == ListEnd()
    assert server.connections == 2


def test_a_list_where_none_was_asked_for(server: FakeGateway, link: ServerLink) -> None:
    server.script.append(Answer(responses.encode_head(ResponseCode.WAITING, 0)))
    with pytest.raises(InvalidServerResponse):
        link.ask(SEND)


def test_no_list_where_one_was_asked_for(server: FakeGateway, link: ServerLink) -> None:
    server.script.append(Answer(responses.encode_registered(ME)))
    with pytest.raises(InvalidServerResponse):
        pull(link)


def test_an_error_instead_of_a_list(server: FakeGateway, link: ServerLink) -> None:
    server.script.append(ERROR)
    assert pull(link) == [ErrorResponse()]
    pull(link)
    assert server.connections == 1


def test_zeros_behind_an_answer_cost_the_connection_only(server: FakeGateway, link: ServerLink) -> None:
    server.script.append(Answer(responses.ERROR + bytes(1017)))
    assert link.ask(SEND) == ErrorResponse()
    pull(link)
    assert server.connections == 2


def test_bytes_that_come_unasked_cost_the_connection_only(server: FakeGateway, link: ServerLink) -> None:
    server.script.append(Answer(responses.ERROR))
    link.ask(SEND)
    server.script.append(Answer(responses.ERROR + responses.ERROR))
    link.ask(SEND)
    assert link.ask(SEND) == StoredResponse(BOB, 1)


def test_a_list_that_is_left_costs_the_connection(server: FakeGateway, link: ServerLink) -> None:
    events = link.ask_list(ListUsersRequest(ME))
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert pull(link)[-1] == ListEnd()
    assert server.connections == 2


def large(size: int) -> LargeSendRequest:
    return LargeSendRequest(ME, BOB, MessageKind.FILE, size)


def test_a_large_content_in_parts(server: FakeGateway, link: ServerLink) -> None:
    parts = [bytes([number]) * 300_000 for number in range(30)]
    assert link.ask(large(9_000_000), iter(parts)) == StoredResponse(BOB, 1)
    assert server.mailroom.boxes[BOB][0].content == b"".join(parts)


def test_a_refusal_ends_the_sending() -> None:
    with FakeGateway(limit=1000) as server:
        link = ServerLink(server.address)
        given = 0

        def parts() -> Iterator[bytes]:
            nonlocal given
            while given < 1 << 30:
                given += 1 << 20
                yield bytes(1 << 20)

        assert link.ask(large(1 << 30), parts()) == ErrorResponse()
        assert given < 1 << 30
        assert pull(link) == [ErrorResponse()]
        link.close()


def test_a_server_that_dies_while_it_is_sent_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = ServerLink(ServerAddress("127.0.0.1", listener.getsockname()[1]))

        def parts() -> Iterator[bytes]:
            yield b"x"
            peer, _ = listener.accept()
            peer.close()
            while True:
                yield bytes(1 << 16)

        with pytest.raises(ServerUnreachable, match="before the request was out"):
            link.ask(large(1 << 30), parts())


def test_a_refusal_before_the_reset_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = ServerLink(ServerAddress("127.0.0.1", listener.getsockname()[1]))

        def parts() -> Iterator[bytes]:
            yield b"x"
            peer, _ = listener.accept()
            peer.sendall(responses.ERROR)
            peer.close()
            while True:
                yield bytes(1 << 16)

        assert link.ask(large(1 << 30), parts()) == ErrorResponse()


def test_a_server_that_takes_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = ServerLink(ServerAddress("127.0.0.1", listener.getsockname()[1]), reply_timeout=0.05)
        with pytest.raises(ServerUnreachable, match="took nothing"):
            link.ask(large(1 << 30), (bytes(1 << 20) for _ in range(1024)))


def test_an_interrupt_leaves_no_half_used_connection(server: FakeGateway, link: ServerLink) -> None:
    def parts() -> Iterator[bytes]:
        yield bytes(1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        link.ask(large(1 << 20), parts())
    assert pull(link)[-1] == ListEnd()
    assert server.connections == 2
    assert server.codes() == ["Pull"]


class TestLookingUp:
    """The system's look-up of a name hears no signal."""

    @pytest.fixture
    def slow(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """A look-up that takes until the event is set."""
        real, over, begun = socket.getaddrinfo, threading.Event(), threading.Event()

        def look_up(*given: Any, **named: Any) -> Any:
            if not named.get("flags"):
                begun.set()
                assert over.wait(HANG_SECONDS)
            return real(*given, **named)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        yield begun
        over.set()

    def test_ctrl_c_is_heard_at_once(self, slow: threading.Event) -> None:
        def press() -> None:
            assert slow.wait(HANG_SECONDS)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            ServerLink(ServerAddress("localhost", 1)).connect()
        presser.join(HANG_SECONDS)

    def test_an_interrupt_too(self, slow: threading.Event) -> None:
        link = ServerLink(ServerAddress("localhost", 1))

        def interrupt() -> None:
            assert slow.wait(HANG_SECONDS)
            link.interrupt()

        other = threading.Thread(target=interrupt)
        other.start()
        with pytest.raises(ServerUnreachable, match="broken off"):
            link.connect()
        other.join(HANG_SECONDS)

    def test_every_address_of_a_name_is_tried(self, server: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
        dead = ("127.0.0.1", free_port())
        real = socket.getaddrinfo
        alive = real(server.address.host, server.address.port, type=socket.SOCK_STREAM)[0]

        def look_up(host: str, *given: Any, **named: Any) -> Any:
            return [(*alive[:4], dead), alive] if host == "two.example" else real(host, *given, **named)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        link = ServerLink(ServerAddress("two.example", server.address.port))
        link.connect()
        assert link.is_open()
        link.close()


def test_of_several_gateways_the_first_that_is_there_is_used(server: FakeGateway) -> None:
    dead = free_port()
    places = (("127.0.0.1", dead), ("no-such-host.invalid", 1), (server.address.host, server.address.port))
    (host, port), *others = places
    link = ServerLink(ServerAddress(host, port, others=tuple(others)))
    link.connect()
    assert link.is_open()
    link.close()
    link = ServerLink(ServerAddress(host, port, others=tuple(others[:1])))
    with pytest.raises(ServerUnreachable, match=f"no server at 127.0.0.1:{port},no-such-host.invalid:1"):
        link.connect()


@pytest.mark.parametrize("sizes", [[36, 16], [0, 0, 5], [100_000] * 2 + [16], [262_144 - 44 - 16, 16]])
def test_a_request_of_256_kib_goes_out_in_one_write(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    send = socket.socket.send

    def noted(sock: socket.socket, data: memoryview) -> int:
        if threading.current_thread() is threading.main_thread():
            written.append(len(data))
        return send(sock, data)

    monkeypatch.setattr(socket.socket, "send", noted)
    with FakeGateway() as server:
        for name in ("alice", "bob"):
            server.mailroom.register(name)
        link = ServerLink(server.address)
        request = LargeSendRequest(ME, BOB, MessageKind.FILE, sum(sizes))
        assert link.ask(request, iter([bytes(size) for size in sizes])) == StoredResponse(BOB, 1)
        link.close()
    # What the kernel does not take at once follows; nothing is held back for a second write.
    assert written[0] == 44 + sum(sizes)


def test_what_is_too_fast_is_asked_again_when_the_server_says(
    server: FakeGateway, link: ServerLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(ServerLink, "rest", lambda _link, seconds: rests.append(seconds))
    too_fast = Answer(responses.encode_reason(RefusalReason.TOO_FAST, 3))
    refused = ErrorResponse(RefusalReason.TOO_FAST, 3)
    server.script.extend([too_fast, too_fast])
    assert link.ask(PublicKeyRequest(ME, BOB)) == PublicKeyResponse(BOB, KEY)
    server.script.append(too_fast)
    assert pull(link) == [ListBegins(2104, 0), ListEnd()]
    assert rests == [3, 3, 3]
    server.script.append(too_fast)
    assert link.ask(SEND) == refused, "sends have their own patience"
    server.script.extend([too_fast] * 21)
    assert pull(link) == [refused], "a minute is enough"
    assert rests == [3] * 23
