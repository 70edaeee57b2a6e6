"""TLS with a pinned certificate: the transport's promises at every split of the bytes, and what
never leaves.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from client.connection.tls import NotTls, TlsTransport
from tests.client.certificates import Certificate, new_certificate
from tests.gateway.tls_peer import Records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CERTIFICATE = new_certificate()


class Peer:
    """A server of TLS, whose bytes the test carries over one by one, or as many as it likes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        ours, self.raw = socket.socketpair()
        ours.setblocking(False)
        self.raw.setblocking(False)
        self.client = TlsTransport(ours)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)
        self.heard = b""
        """All bytes that the client sent."""

    def hear(self) -> None:
        """Take in what the client has sent."""
        with contextlib.suppress(BlockingIOError):
            while data := self.raw.recv(1 << 20):
                self.heard += data
                self._in.write(data)

    def says(self) -> bytes:
        """What the server has to say."""
        return self._out.read()

    def shakes(self) -> None:
        self.hear()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()

    def read(self) -> bytes:
        self.hear()
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.tls.read(1 << 20):
                found += data
        return found

    def writes(self, data: bytes) -> bytes:
        """Give the records of it."""
        while data:
            data = data[self.tls.write(data) :]
        return self.says()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with made(CERTIFICATE) as one:
        yield one


@contextlib.contextmanager
def made(certificate: Certificate, lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[Peer]:
    one = Peer(certificate.context(lowest))
    try:
        yield one
    finally:
        one.client.close(orderly=False)
        one.raw.close()


def is_ready(peer: Peer) -> bool:
    return peer.client.ready


def shake(peer: Peer, step: int = 1 << 20) -> None:
    """The client's part of the handshake, all that comes cut into pieces; not admitted yet."""
    assert peer.client.shake_hands() == select.POLLIN
    peer.shakes()
    answer = peer.says()
    for at in range(0, len(answer), step):
        peer.raw.sendall(answer[at : at + step])
        wanted = peer.client.shake_hands()
        assert wanted == (select.POLLIN if at + step < len(answer) else 0)


def connected(peer: Peer) -> None:
    shake(peer)
    peer.client.admit()
    peer.shakes()
    peer.raw.sendall(peer.says())


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 1 << 20])
def test_the_handshake_at_every_split_says_nothing_before_the_pin_is_compared(peer: Peer, step: int) -> None:
    shake(peer, step)
    assert peer.client.binding == CERTIFICATE.pin
    before = peer.heard
    peer.hear()
    # The hello alone: not even the end of the handshake.
    assert peer.heard == before
    assert before[0] == 22
    assert before[5] == 1
    assert b"127.0.0.1" not in before
    with pytest.raises(AssertionError):
        peer.client.send(memoryview(b"early"))
    peer.client.admit()
    peer.shakes()
    assert peer.client.send(memoryview(b"hello")) == 5
    assert peer.read() == b"hello"


def test_who_is_not_admitted_hears_nothing_at_the_end_either(peer: Peer) -> None:
    shake(peer)
    before = peer.heard
    peer.client.close(orderly=True)
    peer.hear()
    assert peer.heard == before


def test_an_answer_at_every_split_of_its_records(peer: Peer) -> None:
    connected(peer)
    peer.client.receive()
    records = peer.writes(b"first") + peer.writes(b"x" * 20)
    for cut in range(len(records) + 1):
        whole = b""
        for part in (records[:cut], records[cut:]):
            if part:
                peer.raw.sendall(part)
                received = peer.client.receive()
                assert received.passed == len(part)
                assert not received.ended
                whole += received.data
        assert whole == b"first" + b"x" * 20
        assert not peer.client.midway
        records = peer.writes(b"first") + peer.writes(b"x" * 20)


def test_part_of_a_record_is_seen(peer: Peer) -> None:
    connected(peer)
    peer.client.receive()
    record = peer.writes(b"hello")
    for at in range(len(record) - 1):
        peer.raw.sendall(record[at : at + 1])
        assert peer.client.receive() == (b"", 1, False)
        assert peer.client.midway
    peer.raw.sendall(record[-1:])
    assert peer.client.receive() == (b"hello", 1, False)
    assert not peer.client.midway
    assert peer.client.receive() == (b"", 0, False)


def test_more_than_the_kernel_takes_waits_here_and_none_is_lost(peer: Peer) -> None:
    connected(peer)
    content = bytes(range(256)) * 8192
    view, got = memoryview(content), b""
    stuck = 0
    while view or peer.client.unsent:
        count = peer.client.send(view)
        view = view[count:]
        if not count:
            stuck += 1
            before = peer.client.written
            assert peer.client.send(memoryview(b"")) == 0
            assert peer.client.written == before
            got += peer.read()
    got += peer.read()
    assert got == content
    assert stuck
    assert peer.client.written == len(peer.heard)


def test_the_ending_of_tls_is_an_end_and_a_fin_alone_is_none(peer: Peer) -> None:
    connected(peer)
    peer.client.receive()
    last = peer.writes(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.raw.sendall(last + peer.says())
    assert not peer.client.ready
    assert peer.client.receive().data == b"last"
    # The kernel has no more to say about it.
    assert is_ready(peer)
    assert peer.client.receive() == (b"", 0, True)
    assert peer.client.receive() == (b"", 0, True)


def test_a_connection_that_is_cut_broke(peer: Peer) -> None:
    connected(peer)
    peer.client.receive()
    peer.raw.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionAbortedError, match="without the ending of TLS"):
        peer.client.receive()


@pytest.mark.parametrize("place", [5, 12, -1])
def test_an_altered_record_breaks_behind_what_came_whole(peer: Peer, place: int) -> None:
    connected(peer)
    peer.client.receive()
    whole, altered = peer.writes(b"whole"), bytearray(peer.writes(b"altered"))
    altered[place] ^= 1
    peer.raw.sendall(whole + altered)
    assert peer.client.receive().data == b"whole"
    assert peer.client.ready
    with pytest.raises(ConnectionAbortedError, match="TLS: "):
        peer.client.receive()


@pytest.mark.parametrize("orderly", [True, False])
def test_only_an_orderly_end_has_tls_ending(peer: Peer, *, orderly: bool) -> None:
    connected(peer)
    peer.client.receive()
    peer.client.close(orderly=orderly)
    peer.hear()
    if orderly:
        assert peer.tls.read(1) == b""
    else:
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.read(1)


def test_tickets_are_no_content_and_records_without_any_end_somewhere() -> None:
    context = CERTIFICATE.context()
    context.num_tickets = 100
    one = Peer(context)
    connected(one)
    with pytest.raises(ConnectionAbortedError, match="records without content"):
        one.client.receive()
    one.client.close(orderly=False)
    one.raw.close()


def test_a_server_that_asks_for_updates_of_keys_and_takes_none_fills_no_memory(tmp_path: Path) -> None:
    context = CERTIFICATE.context()
    context.num_tickets = 0
    context.keylog_filename = str(tmp_path / "keys")
    one = Peer(context)
    connected(one)
    records = Records(tmp_path / "keys", "SERVER_TRAFFIC_SECRET_0")
    came = 0

    def drip() -> None:
        nonlocal came
        while came < 40_000:
            one.raw.sendall(b"".join(records.record(b"x") + records.key_update(asks=True) for _ in range(100)))
            came += len(one.client.receive().data)

    with pytest.raises(ConnectionAbortedError, match="updates of keys"):
        drip()
    assert came > 10_000, "a server that is slow to take them is no such server"
    one.client.close(orderly=False)
    one.raw.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x02\x28\x23\0\0\0\0", b"", b"\x15\x03\x03\0\2\2\x28"]
)
def test_who_does_not_speak_tls_is_told_apart(peer: Peer, answer: bytes) -> None:
    assert peer.client.shake_hands() == select.POLLIN
    peer.raw.sendall(answer)
    peer.raw.shutdown(socket.SHUT_WR)
    with pytest.raises(NotTls):
        while peer.client.shake_hands():
            pass


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_older_than_tls_1_3() -> None:
    with made(CERTIFICATE, ssl.TLSVersion.TLSv1_2) as peer:
        assert peer.client.shake_hands() == select.POLLIN
        peer.hear()
        with pytest.raises(ssl.SSLError):
            peer.tls.do_handshake()
        peer.raw.sendall(peer.says())
        with pytest.raises(NotTls, match="TLS: "):
            peer.client.shake_hands()
