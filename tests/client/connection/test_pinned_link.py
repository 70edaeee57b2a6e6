"""The link to a server that is known by its certificate."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from client.connection.pace import LEAST
from client.connection.server_link import ServerLink
from client.errors import OutcomeUnknown, ServerUnreachable, WrongCertificate
from common.client_protocol import responses
from common.client_protocol.client_connection import ContentPart, ListBegins, ListEnd
from common.client_protocol.requests import (
    LargeSendRequest,
    PublicKeyRequest,
    PullRequest,
    RegisterRequest,
    SendRequest,
)
from common.client_protocol.responses import PublicKeyResponse, RegisteredResponse, StoredResponse
from common.server_address import ServerAddress, pin_text
from common.values import NO_CLIENT, ClientId, MessageKind, Username
from tests.client.certificates import new_certificate
from tests.client.connection.two_users import BOB, KEY, ME, PULL, with_two
from tests.client.fake_gateway import CLOSE, SILENCE, Answer, FakeGateway
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CERTIFICATE, OTHER = new_certificate(), new_certificate()


@contextlib.contextmanager
def serving(*, byte_by_byte: bool = False, close_after_reply: bool = False) -> Iterator[FakeGateway]:
    with FakeGateway(certificate=CERTIFICATE, byte_by_byte=byte_by_byte, close_after_reply=close_after_reply) as fake:
        yield with_two(fake)


@pytest.fixture
def server() -> Iterator[FakeGateway]:
    with serving() as fake:
        yield fake


@pytest.fixture
def link(server: FakeGateway) -> Iterator[ServerLink]:
    opened = ServerLink(server.address, reply_timeout=HANG_SECONDS)
    yield opened
    opened.close()


def test_one_connection_for_all_and_an_orderly_end(link: ServerLink) -> None:
    with serving() as server:
        link = ServerLink(server.address, reply_timeout=HANG_SECONDS)
        assert link.ask(RegisterRequest(NO_CLIENT, Username("carol"), KEY)) == RegisteredResponse(ClientId(b"\3" * 16))
        assert link.protected
        assert link.binding == CERTIFICATE.pin
        assert link.ask(PublicKeyRequest(ME, BOB)) == PublicKeyResponse(BOB, KEY)
        assert link.ask(SendRequest(ME, BOB, MessageKind.TEXT, b"x" * 16)) == StoredResponse(BOB, 1)
        assert list(link.ask_list(PULL)) == [ListBegins(2104, 0), ListEnd()]
        assert link.is_open()
        link.close()
        assert link.ask(PublicKeyRequest(ME, BOB)) == PublicKeyResponse(BOB, KEY)
        assert server.connections == 2
        assert server.endings == ["close_notify"]
        link.close()


def test_byte_by_byte() -> None:
    with serving(byte_by_byte=True) as server:
        server.mailroom.put(BOB, ME, 3, b"hello")
        link = ServerLink(server.address)
        events = list(link.ask_list(PULL))
        assert b"".join(event.data for event in events if isinstance(event, ContentPart)) == b"hello"
        link.close()


def test_a_server_that_closes_after_each_reply() -> None:
    with serving(close_after_reply=True) as server:
        link = ServerLink(server.address)
        for number in (1, 2, 3):
            list(link.ask_list(PULL))
            assert link.ask(SendRequest(ME, BOB, MessageKind.TEXT, b"x" * 16)) == StoredResponse(BOB, number)
        assert len(server.requests) == server.connections == 6
        link.close()


def test_a_large_content_out_and_in(server: FakeGateway, link: ServerLink) -> None:
    content = bytes(range(256)) * 32768
    parts = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    answer = link.ask(LargeSendRequest(ME, BOB, MessageKind.FILE, len(content)), parts)
    assert answer == StoredResponse(BOB, 1)
    events = link.ask_list(PullRequest(BOB))
    assert b"".join(event.data for event in events if isinstance(event, ContentPart)) == content


def test_a_server_with_another_certificate_hears_nothing() -> None:
    """A middleman with a certificate of his own, or a server whose certificate was changed."""
    with FakeGateway(certificate=OTHER) as middleman:
        address = middleman.address._replace(pins=(CERTIFICATE.pin,))
        link = ServerLink(address)
        with pytest.raises(WrongCertificate) as caught:
            link.ask(PublicKeyRequest(ME, BOB))
        with pytest.raises(WrongCertificate):
            link.connect()
        assert not link.is_open()
    assert pin_text(OTHER.pin) in str(caught.value)
    assert pin_text(CERTIFICATE.pin) in str(caught.value)
    assert caught.value.expected == (pin_text(CERTIFICATE.pin),)
    assert caught.value.presented == pin_text(OTHER.pin)
    assert "--server" in caught.value.advice
    assert middleman.requests == []
    # The handshake itself was never finished.
    assert middleman.endings == ["handshake", "handshake"]
    assert middleman.connections == 0


def test_either_pin_of_a_link_is_the_server(server: FakeGateway) -> None:
    for pins in ((OTHER.pin, CERTIFICATE.pin), (CERTIFICATE.pin, OTHER.pin)):
        link = ServerLink(server.address._replace(pins=pins))
        assert link.ask(PublicKeyRequest(ME, BOB)) == PublicKeyResponse(BOB, KEY)
        link.close()


@contextlib.contextmanager
def answering(serve: Callable[[socket.socket], None]) -> Iterator[ServerAddress]:
    """A server that does this with its first connection, then ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield ServerAddress("127.0.0.1", listener.getsockname()[1], (CERTIFICATE.pin,))
        thread.join(HANG_SECONDS)


def test_a_server_that_speaks_plain_where_tls_was_expected_gets_a_sentence() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(responses.ERROR)
        connection.recv(1 << 16)

    with answering(serve) as address:
        link = ServerLink(address)
        with pytest.raises(
            ServerUnreachable, match=r"does not speak TLS as its link says .*nothing of yours"
        ) as caught:
            link.connect()
        assert "port" in caught.value.advice


def test_a_silent_handshake_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.connection.server_link.HANDSHAKE_TIMEOUT", 0.05)

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.recv(1)

    with answering(serve) as address, pytest.raises(ServerUnreachable, match=r"no handshake within 0\.05 s"):
        ServerLink(address).connect()


def test_a_dripping_handshake_has_an_end() -> None:
    """Each byte is something; all of them together have so many seconds."""
    now = 1000.0
    waits = 0

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"\x16")
        connection.recv(1)

    with answering(serve) as address:
        link = ServerLink(address, monotonic=lambda: now)

        def poll(wanted: int, timeout: float) -> int:
            nonlocal now, waits
            waits += 1
            now += 4.0
            return select.POLLIN

        link.poll = poll  # type: ignore[method-assign]
        with pytest.raises(ServerUnreachable, match="no handshake within 10 s"):
            link.connect()
    assert waits == 3


def test_an_interrupt_ends_the_handshake() -> None:
    begun = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        begun.set()
        connection.recv(1)

    with answering(serve) as address:
        link = ServerLink(address)

        def interrupt() -> None:
            begun.wait(HANG_SECONDS)
            link.interrupt()

        other = threading.Thread(target=interrupt)
        other.start()
        with pytest.raises(ServerUnreachable, match="broken off"):
            link.connect()
        other.join(HANG_SECONDS)


def test_an_interrupt_ends_a_transfer_and_acknowledges_nothing() -> None:
    with serving() as server:
        link = ServerLink(server.address, reply_timeout=HANG_SECONDS)
        server.script.append(SILENCE)
        server.on_request = lambda _: link.interrupt()
        with pytest.raises(OutcomeUnknown):
            list(link.ask_list(PULL))
        assert link.protected is False
        server.on_request = lambda _: None
        link.resume()
        assert link.ask(PublicKeyRequest(ME, BOB)) == PublicKeyResponse(BOB, KEY)
        link.close()
        assert server.endings[0] == "cut"


def test_an_answer_that_is_cut_leaves_the_outcome_unknown(server: FakeGateway, link: ServerLink) -> None:
    """Whoever is in between can cut a connection, and nobody but the server can end it."""
    server.ends_orderly = False
    send = SendRequest(ME, BOB, MessageKind.TEXT, b"x" * 16)
    half = responses.encode_stored(BOB, 1)[:10]
    for data in (b"", half):
        server.script.append(Answer(data, close=True))
        with pytest.raises(OutcomeUnknown, match="without the ending of TLS"):
            link.ask(send)
    server.ends_orderly = True
    server.script.append(CLOSE)
    with pytest.raises(OutcomeUnknown, match="it closed the connection"):
        link.ask(send)


@pytest.mark.parametrize("orderly", [True, False])
def test_a_kept_connection_that_ended_is_replaced(server: FakeGateway, link: ServerLink, *, orderly: bool) -> None:
    server.ends_orderly = orderly
    ask = PublicKeyRequest(ME, BOB)
    server.script.append(Answer(responses.encode_public_key(BOB, KEY), close=True))
    assert link.ask(ask) == PublicKeyResponse(BOB, KEY)
    assert link.ask(ask) == PublicKeyResponse(BOB, KEY)
    assert server.connections == 2


def test_who_leaves_before_the_answer_does_not_end_in_order() -> None:
    """The server takes an orderly end for the acknowledgement of what it has sent."""
    with serving() as server:
        link = ServerLink(server.address, reply_timeout=0.05)
        server.script.append(SILENCE)
        with pytest.raises(OutcomeUnknown, match="silence"):
            list(link.ask_list(PULL))
    assert server.endings in ([], ["cut"])


def test_a_trickle_of_records_is_given_up_as_one_of_bytes_is(server: FakeGateway) -> None:
    """Part of a record counts as the beginning of an answer, though no byte of it can be read."""
    now = 1000.0
    between: list[socket.socket] = []
    dripped = 0

    def relay(connection: socket.socket) -> None:
        between.append(connection)
        with socket.create_connection((server.address.host, server.address.port)) as upstream:
            while True:
                for one in select.select([connection, upstream], [], [])[0]:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    (upstream if one is connection else connection).sendall(data)

    server.script.append(SILENCE)
    with answering(relay) as address:
        link = ServerLink(address, reply_timeout=5.0, monotonic=lambda: now)
        link.connect()
        real = link.poll

        def poll(wanted: int, timeout: float) -> int:
            nonlocal now, dripped
            if wanted & select.POLLOUT or not timeout:
                return real(wanted, timeout)
            now += 1.0
            dripped += 1
            # A byte of a record of 4 KiB.
            between[0].sendall(b"\x17\x03\x03\x10\x00"[dripped - 1 : dripped] or b"\0")
            return real(wanted, HANG_SECONDS)

        link.poll = poll  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown, match=f"fewer than {LEAST:,} bytes"):
            link.ask(PublicKeyRequest(ME, BOB))
        link.close()
    assert 60 <= dripped < 70
