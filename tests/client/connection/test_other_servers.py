"""Our client with servers of other people: what they leave out, add, insist on, or never say."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from client.connection.server_errors import quoted, refused
from client.connection.server_link import ServerLink
from client.errors import InvalidServerResponse, ServerAnsweredError
from common.client_protocol import responses
from common.client_protocol.client_connection import ClientConnection
from common.client_protocol.requests import LargeSendRequest, RequestCode
from common.client_protocol.responses import ErrorResponse, PublicKeyResponse, ResponseCode, StoredResponse
from common.values import ClientId, MessageKind, PublicKey
from tests.client.fake_gateway import SILENCE, Answer, ExtendedMailroom, FakeGateway, Mailroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.messenger import Messenger
    from tests.client.conftest import Told

ME = ClientId(b"\x01" * 16)
BOB = ClientId(b"\x02" * 16)


class OneVersionAlone(FakeGateway):
    """Answers 9000 to every request with another version byte; `versions` holds what came."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self._version = version
        self.versions: list[int] = []

    def _serve(self, connection: socket.socket, peer: object) -> bool:
        head = connection.recv(23, socket.MSG_PEEK)
        if head:
            self.versions.append(head[16])
            if head[16] != self._version:
                connection.recv(1 << 20)
                connection.sendall(responses.ERROR)
                return True
        return super()._serve(connection, peer)  # type: ignore[arg-type]


class SilentToHello(Mailroom):
    """Says nothing to what it does not know. `hellos` counts those."""

    ignores_hello = False
    hellos = 0

    def answer(self, request: object, state: object) -> bytes:
        if type(request).__name__ == "HelloRequest":
            self.hellos += 1
            return b""
        return super().answer(request, state)  # type: ignore[arg-type]


# --- one write
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[36, 16], [0, 0, 5], [100_000] * 2 + [16], [262_144 - 44 - 16, 16]])
def test_a_request_of_256_kib_goes_out_in_one_write(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = ServerLink._write

    def noted(link: ServerLink, view: memoryview) -> int:
        written.append(len(view))
        return write(link, view)

    monkeypatch.setattr(ServerLink, "_write", noted)
    with FakeGateway() as server:
        for name in ("alice", "bob"):
            server.mailroom.register(name)
        link = ServerLink(server.address)
        request = LargeSendRequest(ME, BOB, MessageKind.FILE, sum(sizes))
        assert link.ask(request, iter([bytes(size) for size in sizes])) == StoredResponse(BOB, 1)
        link.close()
    # What the kernel does not take at once follows; nothing is held back for a second write.
    assert written[0] == 44 + sum(sizes)


# --- answers
# --------------------------------------------------------------------------------------------------


def test_a_public_key_without_its_id(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    alice = make("alice")
    alice.register("alice")
    bob = make("bob")
    bob.register("bob")
    alice.users()
    key = gateway.mailroom.keys[gateway.mailroom.id_of("bob")]
    gateway.script.append(Answer(responses.encode_head(ResponseCode.PUBLIC_KEY, 160) + key))
    alice.fetch_public_key("bob")
    assert alice.fingerprint("bob") == bob.own_fingerprint()


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


def test_what_a_server_says_is_quoted_and_harmless(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    alice = make("alice")
    alice.register("alice")
    text = 'no\r\nFrom: bob \x1b[2J \u202eevil\u2066 "quoted" \x9b'.encode()
    gateway.script.append(Answer(responses.encode_head(ResponseCode.ERROR, len(text)) + text))
    with pytest.raises(ServerAnsweredError) as caught:
        alice.users()
    assert str(caught.value) == (
        "Most likely the server does not know this account. "
        r'The server says: "no From: bob \x1b[2J \u202eevil\u2066 \"quoted\" \x9b"'
    )


def test_a_long_text_is_cut() -> None:
    sentence = str(refused(RequestCode.PULL, ErrorResponse(text="word \u202e" * 9000)))
    assert len(sentence) < 400
    assert sentence.endswith('…"')
    assert quoted(" \n") == ""
    assert quoted("x" * 300) == f' The server says: "{"x" * 300}"'


def test_mail_that_can_not_be_parsed_is_kept_as_it_came(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    alice = make("alice")
    alice.register("alice")
    whole = responses.encode_pulled_head(BOB, 1, 1, 0)
    # As a server writes it that leaves the ids out.
    odd = BOB + b"\x03" + (16).to_bytes(4, "little") + b"\xfe" * 16
    for data in (odd, odd * 20_000):
        payload = whole + data
        gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, len(payload)) + payload, close=True))
        with pytest.raises(InvalidServerResponse, match=r"kept as it came in .*unparsed-2104-\d\.bin"):
            list(alice.receive())
    for number, data in ((1, odd), (2, odd * 20_000)):
        kept = tmp_path / "alice" / f"unparsed-2104-{number}.bin"
        assert kept.read_bytes() == data
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_mail_that_ends_in_its_midst_is_kept_as_far_as_it_came(
    make: Callable[..., Messenger], gateway: FakeGateway, tmp_path: Path
) -> None:
    alice = make("alice")
    alice.register("alice")
    gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, 1000) + b"\xfe" * 100, close=True))
    with pytest.raises(InvalidServerResponse, match="100 bytes"):
        list(alice.receive())
    assert (tmp_path / "alice" / "unparsed-2104-1.bin").read_bytes() == b"\xfe" * 100


def test_what_can_not_be_kept_is_said_so(
    make: Callable[..., Messenger], gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = make("alice")
    alice.register("alice")
    gateway.script.append(Answer(responses.encode_head(ResponseCode.WAITING, 100) + b"\xfe" * 100))

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("client.connection.unparsed_response.os.fdopen", full)
    with pytest.raises(InvalidServerResponse, match="could not be kept: There is no room"):
        list(alice.receive())


# --- versions
# --------------------------------------------------------------------------------------------------


def test_a_server_that_takes_version_1_alone_is_remembered(make: Callable[..., Messenger]) -> None:
    with OneVersionAlone(1) as server:
        alice = make("alice", server.address)
        alice.register("alice")
        assert alice.users() == []
        assert server.codes() == ["Register", "ListUsers"]
        server.versions.clear()
        again = make("alice", server.address)
        again.users()
        # The hello that it refuses is of the remembered version too.
        assert set(server.versions) == {1}


def test_a_refusal_in_either_version_is_a_refusal(make: Callable[..., Messenger], gateway: FakeGateway) -> None:
    gateway.mailroom.register("alice")
    alice = make("alice")
    with pytest.raises(ServerAnsweredError, match="taken"):
        alice.register("alice")
    assert gateway.codes() == ["Register", "Register"]
    alice.register("carol")
    assert gateway.codes() == ["Register", "Register", "Register"]


def test_a_server_with_the_extension_is_not_asked_twice(make: Callable[..., Messenger]) -> None:
    mailroom = ExtendedMailroom()
    mailroom.register("alice")
    with FakeGateway(mailroom) as server:
        with pytest.raises(ServerAnsweredError):
            make("alice", server.address).register("alice")
        assert server.codes() == ["Hello", "Register"]


# --- silence
# --------------------------------------------------------------------------------------------------


def test_a_server_that_is_silent_to_hello_is_asked_once_an_hour_and_by_doctor(
    make: Callable[..., Messenger], monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr("client.connection.handshake.HELLO_TIMEOUT", 0.05)
    mailroom = SilentToHello()
    time = 1_700_000_000.0
    with FakeGateway(mailroom) as server:

        def start() -> Messenger:
            return make("alice", server.address, clock=lambda: time)

        start().register("alice")
        for _ in range(3):
            start().users()
        assert mailroom.hellos == 1
        time += 3599
        start().users()
        assert mailroom.hellos == 1
        time += 2
        start().users()
        assert mailroom.hellos == 2
        assert start().home.diagnosis.server_features() == []
        assert mailroom.hellos == 3
        time -= 10_000
        start().users()
        assert mailroom.hellos == 4
    assert len(told) == 1


def test_a_server_that_speaks_again_is_heard(make: Callable[..., Messenger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.connection.handshake.HELLO_TIMEOUT", 0.05)
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as server:
        server.script.append(SILENCE)
        make("alice", server.address).register("alice")
        assert mailroom.proofs == 0
        assert make("alice", server.address).home.diagnosis.server_features()
        assert mailroom.proofs == 1
        make("alice", server.address).users()
        assert mailroom.proofs == 2


def test_a_remembered_silence_never_takes_a_proof_back(make: Callable[..., Messenger]) -> None:
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as server:
        alice = make("alice", server.address)
        alice.register("alice")
        before = mailroom.proofs
        alice.home.store.settings.put("silent_to_hello", f"{server.address} 1700000000000")
        make("alice", server.address).users()
        assert mailroom.proofs == before + 1


@pytest.mark.parametrize("noted", ["", "x", "{0} ", "{0} -5", "{0} ٣", "{0} " + "9" * 99])
def test_a_note_that_can_not_be_read_is_none(make: Callable[..., Messenger], noted: str) -> None:
    mailroom = ExtendedMailroom()
    with FakeGateway(mailroom) as server, OneVersionAlone(2) as published:
        for name, home in (("alice", make("alice", server.address)), ("bob", make("bob", published.address))):
            for setting in ("silent_to_hello", "request_version"):
                home.home.store.settings.put(setting, noted.format(home.home.link.address))
            home.register(name)
    # The one was not taken for silent, and to the other nothing was said in another version.
    assert mailroom.proofs == 1
    assert set(published.versions) == {2}
