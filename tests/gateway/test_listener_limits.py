"""Limits of an address where its connections are accepted, on real sockets."""

import errno
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from common.client_protocol.requests import PublicKeyRequest, SendRequest, encode
from common.values import ClientId
from gateway.addresses import Network
from gateway.settings import Limited, Rate, Settings
from tests.gateway.harness import Gate, Peer, TlsPeer
from tests.gateway.test_proxy_protocol import header
from tests.gateway.tls_peer import server_tls

ASK = PublicKeyRequest(ClientId(b"a" * 16), ClientId(b"b" * 16))
SEND = encode(SendRequest(ClientId(b"a" * 16), ClientId(b"b" * 16), 3, b"hello"))
LINE = "a connection is closed: its address has too many, or opens them too fast"
TWO = Settings(limited=Limited.EVERYBODY, limit_connections=2)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def gate(settings: Settings, *, tls: bool = False, proxies: tuple[Network, ...] = ()) -> Gate:
        gates.append(Gate(tmp_path, settings, server_tls(tmp_path) if tls else None, proxies))
        gates[-1].turn_until(lambda: gates[-1].link.facts is not None)
        return gates[-1]

    yield gate
    for one in gates:
        one.close()


def is_served(peer: Peer) -> bool:
    peer.send(ASK)
    return peer.response()[0] == 2102


def is_closed(gate: Gate, peer: Peer) -> bool:
    gate.turn_until(peer.is_ended)
    return not peer.received


def test_a_connection_beyond_the_share_is_closed_and_no_address_is_logged(
    make: Callable[..., Gate], caplog: pytest.LogCaptureFixture
) -> None:
    gate = make(TWO)
    first, second = gate.peer(), gate.peer()
    assert is_served(first)
    assert is_served(second)
    assert is_closed(gate, gate.peer())
    assert caplog.messages[-1].startswith(LINE)
    assert gate.context.counts.limited == 1
    assert gate.context.counts.accepted == 3
    assert "127.0.0.1" not in caplog.text
    assert is_served(second)
    first.close()
    gate.turn_until(lambda: len(gate.context.sessions) == 1)
    assert is_served(gate.peer())


@pytest.mark.parametrize("limited", [Limited.OTHER_MACHINES, Limited.NOBODY])
def test_loopback_is_free_unless_it_is_limited_too(make: Callable[..., Gate], limited: Limited) -> None:
    gate = make(TWO._replace(limited=limited, limit_messages=Rate(1, 1, 60)))
    peers = [gate.peer() for _ in range(5)]
    assert all(is_served(peer) for peer in peers)
    peers[0].send(SEND * 9)
    assert [peers[0].response()[0] for _ in range(9)] == [2103] * 9


def test_a_session_of_a_limited_address_is_limited(make: Callable[..., Gate]) -> None:
    gate = make(TWO._replace(limit_messages=Rate(1, 1, 60)))
    peer = gate.peer()
    peer.send(SEND * 3)
    assert [peer.response()[0] for _ in range(3)] == [2103, 9000, 9000]


def test_handshakes_of_an_address(make: Callable[..., Gate]) -> None:
    gate = make(Settings(limited=Limited.EVERYBODY, limit_handshakes=Rate(2, 1, 10)), tls=True)
    peers = [gate.tls_peer() for _ in range(2)]
    beyond = TlsPeer(gate)
    gate.peers.append(beyond)
    assert is_closed(gate, beyond)
    assert all(is_served(peer) for peer in peers)
    gate.pass_time(10)
    assert is_served(gate.tls_peer())


def test_behind_a_proxy_the_clients_address_counts(make: Callable[..., Gate]) -> None:
    gate = make(Settings(limited=Limited.OTHER_MACHINES, limit_connections=1), proxies=(ip_network("127.0.0.0/8"),))

    def through(client: str) -> Peer:
        peer = gate.peer()
        peer.send(header(client))
        return peer

    first = through("2001:db8:1:2::1")
    assert is_served(first)
    assert is_closed(gate, through("2001:db8:1:2:3::4"))
    assert is_served(through("2001:db8:1:3::1"))
    assert is_served(through("192.0.2.7"))
    assert is_closed(gate, through("::ffff:192.0.2.7"))
    assert is_served(through("127.0.0.9"))
    assert is_served(through("127.0.0.9"))


OTHER = "127.0.0.2"


def test_who_is_refused_for_the_address_costs_nobody_an_idle_connection(make: Callable[..., Gate]) -> None:
    """The places have run out, and another one would make room."""
    gate = make(TWO._replace(connections=3))
    idle = gate.peer(OTHER)
    gate.turn_until(lambda: len(gate.context.sessions) == 1)
    gate.pass_time(1)
    mine = [gate.peer(), gate.peer()]
    gate.turn_until(lambda: len(gate.context.sessions) == 3)
    gate.pass_time(2)
    for _ in range(5):
        assert is_closed(gate, gate.peer())
    assert not any(peer.is_ended() for peer in (idle, *mine))
    newcomer = gate.peer("127.0.0.3")
    assert is_served(newcomer)
    assert idle.is_ended(), "it was idle the longest"
    assert len(gate.context.sessions) == 3


def _fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = socket.socket.accept
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def without_descriptors(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", without_descriptors)


def test_who_is_refused_for_the_address_costs_nobody_a_descriptor(
    make: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make(TWO)
    idle = gate.peer(OTHER)
    gate.turn_until(lambda: len(gate.context.sessions) == 1)
    gate.pass_time(1)
    mine = [gate.peer(), gate.peer()]
    gate.turn_until(lambda: len(gate.context.sessions) == 3)
    gate.pass_time(2)
    _fail_once(monkeypatch)
    assert is_closed(gate, gate.peer())
    assert not any(peer.is_ended() for peer in (idle, *mine))
    _fail_once(monkeypatch)
    assert is_served(gate.peer("127.0.0.3"))
    assert idle.is_ended()
    assert len(gate.context.sessions) == 3


def test_who_is_refused_for_the_address_ends_no_handshake_of_others(make: Callable[..., Gate]) -> None:
    settings = Settings(limited=Limited.EVERYBODY, limit_handshakes=Rate(1, 1, 60), openings=2)
    gate = make(settings, tls=True)
    others = [TlsPeer(gate, source=source) for source in (OTHER, "127.0.0.1")]
    gate.peers += others
    gate.turn_until(lambda: len(gate.context.openings) == 2)
    gate.pass_time(1.2)
    beyond = TlsPeer(gate)
    gate.peers.append(beyond)
    assert is_closed(gate, beyond)
    assert len(gate.context.openings) == 2
    for peer in others:
        peer.shake_hands()
        assert is_served(peer)


def test_a_client_of_a_proxy_takes_a_place_once_it_is_known(make: Callable[..., Gate]) -> None:
    settings = Settings(limited=Limited.OTHER_MACHINES, limit_connections=1, connections=2)
    gate = make(settings, proxies=(ip_network("127.0.0.1/32"),))
    idle = gate.peer(OTHER)
    first = gate.peer()
    first.send(header("192.0.2.7"))
    assert is_served(first)
    gate.pass_time(2)
    beyond = gate.peer()
    gate.turn_until(lambda: len(gate.context.openings) == 1)
    assert not idle.is_ended()
    beyond.send(header("192.0.2.7"))
    assert is_closed(gate, beyond)
    assert not idle.is_ended()
    assert not first.is_ended()


def test_a_client_of_a_proxy_is_closed_where_no_place_is_left(make: Callable[..., Gate]) -> None:
    gate = make(TWO._replace(connections=2), proxies=(ip_network("127.0.0.1/32"),))
    late = gate.peer()
    gate.turn_until(lambda: len(gate.context.openings) == 1)
    busy = [gate.peer(OTHER), gate.peer(OTHER)]
    assert all(is_served(peer) for peer in busy)
    late.send(header("192.0.2.7"))
    assert is_closed(gate, late)
    assert gate.context.counts.no_place == 1
    busy[0].close()
    gate.turn_until(lambda: len(gate.context.sessions) == 1)
    again = gate.peer()
    again.send(header("192.0.2.7"))
    assert is_served(again)
