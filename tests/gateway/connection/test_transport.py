"""What every transport does, shown of each: plain TCP and TLS on real sockets, and those in memory
that stand for them in the tests of sessions.
"""

import hashlib
import random
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol, cast

import pytest

from gateway.connection.memory_budget import MemoryBudget
from gateway.connection.openings import Openings
from gateway.connection.tls_transport import TlsTransport
from gateway.connection.transport import NO_BINDING, TcpTransport, Transport
from gateway.event_loop import EventLoop
from gateway.settings import Settings
from tests.gateway.connection.memory_transport import PLENTY, MemoryTransport, RecordTransport
from tests.gateway.tls_peer import ClientTls, server_tls
from torture.patience import HANG_SECONDS


class Owner:
    """What was reported. It receives when it is told to, so that readiness stays."""

    def __init__(self) -> None:
        self.readable = self.writable = self.aborted = 0

    def on_readable(self) -> None:
        self.readable += 1

    def on_writable(self) -> None:
        self.writable += 1

    def abort(self) -> None:
        self.aborted += 1


class Wire(Protocol):
    """A transport and its peer's end. Reports come in `turn`."""

    transport: Transport

    def open(self) -> None:
        """What has to be before the first byte; the owner is attached."""

    def turn(self) -> None: ...

    def say(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def break_off(self) -> None: ...

    def peer_sees(self) -> tuple[bytes, bool, bool]:
        """All bytes so far, whether the end came, whether it was a reset."""


class TcpWire:
    def __init__(self) -> None:
        self.loop = EventLoop(time.monotonic)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        self.peer.setblocking(False)
        self.transport: Transport = TcpTransport(accepted, self.loop)
        self.seen, self.ended, self.was_reset = b"", False, False

    def open(self) -> None:
        """It is open."""

    def turn(self) -> None:
        self.loop.turn(0.001)

    def say(self, data: bytes) -> None:
        self.peer.sendall(data)

    def end(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)

    def break_off(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def peer_sees(self) -> tuple[bytes, bool, bool]:
        try:
            while data := self.peer.recv(65536):
                self.seen += data
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = self.was_reset = True
        return self.seen, self.ended, self.was_reset

    def close(self) -> None:
        self.peer.close()
        self.loop.close()


class NoBudget:
    """What the handshake holds is of no interest here."""

    def changed(self, holder: object, before: int, now: int) -> None: ...


class TlsWire(TcpWire):
    def __init__(self) -> None:
        super().__init__()
        self.client = ClientTls()
        openings = Openings(self.loop, cast("MemoryBudget", NoBudget()), Settings())
        plain = self.transport
        assert isinstance(plain, TcpTransport)
        self.folder = tempfile.TemporaryDirectory()
        tls = server_tls(Path(self.folder.name))
        self.transport = TlsTransport(plain, self.loop, tls, openings, "127.0.0.1")

    def open(self) -> None:
        self.peer.sendall(self.client.to_send())
        turn_until(self, lambda: self.peer_sees() is not None and self.client.is_open)
        self.peer.sendall(self.client.to_send())
        transport = self.transport
        turn_until(self, lambda: not transport.input_waiting() and not transport.unacknowledged())
        self.turn()

    def say(self, data: bytes) -> None:
        self.peer.sendall(self.client.record(data))

    def end(self) -> None:
        self.peer.sendall(self.client.last_word())
        with suppress(OSError):
            super().end()

    def peer_sees(self) -> tuple[bytes, bool, bool]:
        try:
            while data := self.peer.recv(65536):
                self.client.feed(data)
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = self.was_reset = True
        self.seen = self.client.received
        return self.seen, self.ended or self.client.ended, self.was_reset

    def close(self) -> None:
        super().close()
        self.folder.cleanup()


class MemoryWire:
    def __init__(self) -> None:
        self.memory = MemoryTransport()
        self.transport: Transport = self.memory

    def open(self) -> None:
        """It is open."""

    def turn(self) -> None:
        self.memory.acknowledge()
        self.memory.report()

    def say(self, data: bytes) -> None:
        self.memory.say(data)

    def end(self) -> None:
        self.memory.end()

    def break_off(self) -> None:
        self.memory.break_off()

    def peer_sees(self) -> tuple[bytes, bool, bool]:
        return self.memory.received, self.memory.ended, self.memory.was_reset

    def close(self) -> None:
        """Nothing is open."""


class RecordWire(MemoryWire):
    def __init__(self) -> None:
        super().__init__()
        self.memory = RecordTransport()
        self.transport = self.memory


@pytest.fixture(params=[TcpWire, TlsWire, MemoryWire, RecordWire])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = request.param()
    yield wire
    wire.close()


@pytest.fixture
def owner(wire: Wire) -> Iterator[Owner]:
    owner = Owner()
    wire.transport.attach(owner)
    wire.open()
    yield owner
    if not owner.aborted and not wire.peer_sees()[1]:
        wire.transport.reset()


def turn_until(wire: Wire, condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        wire.turn()


def test_what_the_peer_says_is_reported_and_received(wire: Wire, owner: Owner) -> None:
    before = wire.transport.segments_in()
    assert not wire.transport.input_waiting()
    wire.say(b"hello")
    turn_until(wire, lambda: owner.readable > 0)
    assert wire.transport.input_waiting()
    assert wire.transport.segments_in().with_data == before.with_data + 1
    received = wire.transport.receive(3)
    # Of a record that came whole nothing is kept back.
    assert received == (b"hello" if isinstance(wire, TlsWire) else b"hel")
    if received != b"hello":
        assert wire.transport.input_waiting()
        assert wire.transport.receive(100) == b"lo"
    assert not wire.transport.input_waiting()
    assert not owner.writable


def test_where_nothing_came_nothing_is_received(wire: Wire, owner: Owner) -> None:
    with pytest.raises(BlockingIOError):
        wire.transport.receive(10)
    wire.turn()
    assert owner.readable == 0


def test_readiness_is_reported_until_it_is_over(wire: Wire, owner: Owner) -> None:
    wire.say(b"hello")
    turn_until(wire, lambda: owner.readable >= 3)


def test_the_end_of_the_peers_side_is_no_bytes(wire: Wire, owner: Owner) -> None:
    wire.say(b"hello")
    wire.end()
    turn_until(wire, lambda: owner.readable > 0)
    assert wire.transport.receive(10) == b"hello"
    turn_until(wire, lambda: owner.readable > 1)
    assert wire.transport.receive(10) == b""
    assert not owner.aborted
    wire.transport.close()
    turn_until(wire, lambda: wire.peer_sees() == (b"", True, False))


def test_who_watches_nothing_hears_of_a_reset_alone(wire: Wire, owner: Owner) -> None:
    wire.transport.watch(reads=False, writes=False)
    wire.say(b"hello")
    for _ in range(5):
        wire.turn()
    assert (owner.readable, owner.writable, owner.aborted) == (0, 0, 0)
    wire.break_off()
    turn_until(wire, lambda: owner.aborted > 0)
    assert (owner.readable, owner.writable) == (0, 0)
    wire.transport.reset()


def test_who_waits_to_write_hears_that_it_can(wire: Wire, owner: Owner) -> None:
    wire.transport.watch(reads=True, writes=True)
    turn_until(wire, lambda: owner.writable > 0)
    wire.transport.watch(reads=True, writes=False)
    before = owner.writable
    for _ in range(5):
        wire.turn()
    assert owner.writable == before


def test_what_is_sent_arrives_and_is_acknowledged(wire: Wire, owner: Owner) -> None:
    assert wire.transport.send(b"hello") == 5
    assert wire.transport.send(memoryview(b" there")) == 6
    turn_until(wire, lambda: wire.peer_sees() == (b"hello there", False, False))
    turn_until(wire, lambda: wire.transport.unacknowledged() == 0)
    assert not owner.aborted


def test_what_was_not_taken_begins_the_next_call_and_arrives_once(wire: Wire, owner: Owner) -> None:
    if isinstance(wire, MemoryWire):
        wire.memory.room = 1_000_001
    data = random.Random(5).randbytes(8_000_000)
    taken = 0
    with pytest.raises(BlockingIOError):
        while True:
            taken += wire.transport.send(data[taken:])
    assert 0 < taken < len(data)
    if isinstance(wire, MemoryWire):
        wire.memory.room = PLENTY
    else:
        wire.peer_sees()
    wire.transport.watch(reads=True, writes=True)
    while taken < len(data):
        before = owner.writable
        turn_until(wire, lambda before=before: owner.writable > before)  # type: ignore[misc]
        with suppress(BlockingIOError):
            taken += wire.transport.send(memoryview(data)[taken:])
        wire.peer_sees()
    turn_until(wire, lambda: wire.peer_sees() == (data, False, False))


def test_the_binding_is_the_hash_of_the_certificate_or_zeros(wire: Wire, owner: Owner) -> None:
    if isinstance(wire, TlsWire):
        assert wire.transport.binding == hashlib.sha256(wire.client.certificate()).digest()
    else:
        assert wire.transport.binding == NO_BINDING == bytes(32)


def test_a_half_close_comes_behind_what_was_sent_and_leaves_the_other_side(wire: Wire, owner: Owner) -> None:
    wire.transport.send(b"hello")
    wire.transport.shut_down()
    turn_until(wire, lambda: wire.peer_sees() == (b"hello", True, False))
    wire.say(b"more")
    turn_until(wire, lambda: owner.readable > 0)
    assert wire.transport.receive(10) == b"more"
    wire.transport.reset()


@pytest.mark.parametrize("wire", [TlsWire], indirect=True)
def test_the_end_waits_for_room_and_comes_beside_input_that_nobody_reads(wire: TlsWire, owner: Owner) -> None:
    assert isinstance(wire.transport, TlsTransport)
    wire.transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = random.Random(6).randbytes(8_000_000)
    taken = 0
    with pytest.raises(BlockingIOError):
        while True:
            taken += wire.transport.send(data[taken:])
    wire.say(b"hello")
    turn_until(wire, lambda: owner.readable > 0)
    wire.transport.shut_down()
    turn_until(wire, lambda: wire.peer_sees()[1])
    seen, _ended, was_reset = wire.peer_sees()
    assert len(seen) >= taken
    assert data.startswith(seen)
    assert wire.client.ended
    assert not was_reset
    assert not owner.aborted
    wire.transport.reset()


def test_both_sides_ended_in_order_is_no_break(wire: Wire, owner: Owner) -> None:
    wire.transport.shut_down()
    wire.end()
    turn_until(wire, lambda: owner.readable > 0)
    assert wire.transport.receive(10) == b""
    wire.transport.watch_for_reset()
    before = owner.readable
    for _ in range(5):
        wire.turn()
    assert owner.readable == before
    assert not owner.aborted
    assert wire.transport.error() == 0
    wire.transport.close()


def test_a_pause_after_both_sides_ended_is_quiet_and_keeps_the_input(wire: Wire, owner: Owner) -> None:
    wire.transport.shut_down()
    wire.say(b"hello")
    wire.end()
    turn_until(wire, lambda: owner.readable > 0)
    wire.transport.watch(reads=False, writes=False)
    before = owner.readable
    for _ in range(5):
        wire.turn()
    assert owner.readable == before
    wire.transport.watch(reads=True, writes=False)
    turn_until(wire, lambda: owner.readable > before)
    assert wire.transport.receive(10) == b"hello"
    assert wire.transport.receive(10) == b""
    assert not owner.aborted
    wire.transport.close()


def test_a_reset_is_reported(wire: Wire, owner: Owner) -> None:
    wire.break_off()
    turn_until(wire, lambda: owner.aborted > 0)
    wire.transport.reset()


def test_a_reset_is_what_the_peer_sees(wire: Wire, owner: Owner) -> None:
    wire.transport.send(b"hello")
    wire.transport.reset()
    turn_until(wire, lambda: wire.peer_sees()[1:] == (True, True))
    assert not owner.aborted


def test_a_transport_that_is_closed_reports_nothing(wire: Wire, owner: Owner) -> None:
    wire.say(b"hello")
    turn_until(wire, lambda: owner.readable > 0)
    wire.transport.receive(10)
    wire.transport.close()
    before = owner.readable
    wire.end()
    for _ in range(5):
        wire.turn()
    assert (owner.readable, owner.writable, owner.aborted) == (before, 0, 0)
