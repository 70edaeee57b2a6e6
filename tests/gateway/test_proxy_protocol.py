"""The PROXY protocol: the header's layout, and connections from proxies on real sockets."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.client_protocol.requests import PublicKeyRequest
from common.values import ClientId
from gateway.addresses import Network
from gateway.connection.openings import network_of
from gateway.proxy_protocol import HEAD_SIZE, LONGEST_REST, client_address, rest_size
from gateway.settings import Settings
from tests.gateway.harness import Gate, TlsPeer
from tests.gateway.tls_peer import server_tls

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ASK = PublicKeyRequest(ClientId(b"a" * 16), ClientId(b"b" * 16))
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
ELSEWHERE = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def header(client: str, rest: bytes = b"", command: int = 0x21) -> bytes:
    address = ipaddress.ip_address(client)
    block = address.packed + bytes(len(address.packed)) + struct.pack("!HH", 4000, 1357) + rest
    return SIGNATURE + struct.pack("!BBH", command, 0x11 if address.version == 4 else 0x21, len(block)) + block


def test_the_client_is_read_from_the_header() -> None:
    for client in ("192.0.2.7", "2001:db8::7"):
        for rest in (b"", b"\x04\0\x01x"):
            data = header(client, rest)
            assert rest_size(data[:HEAD_SIZE]) == len(data) - HEAD_SIZE
            assert client_address(data[:HEAD_SIZE], data[HEAD_SIZE:]) == client


def test_a_proxy_that_speaks_for_itself_names_nobody() -> None:
    local = header("192.0.2.7", command=0x20)
    assert client_address(local[:HEAD_SIZE], local[HEAD_SIZE:]) is None
    unknown = SIGNATURE + b"\x21\0\0\0"
    assert rest_size(unknown) == 0
    assert client_address(unknown, b"") is None
    short = SIGNATURE + b"\x21\x11\0\2ab"
    assert client_address(short[:HEAD_SIZE], short[HEAD_SIZE:]) is None


@pytest.mark.parametrize(
    "head",
    [
        bytes(16),
        b"PROXY TCP4 192.0",
        SIGNATURE + b"\x11\x11\0\x0c",
        SIGNATURE + b"\x22\x11\0\x0c",
        SIGNATURE + b"\x21\x11" + struct.pack("!H", LONGEST_REST + 1),
    ],
)
def test_what_is_no_header(head: bytes) -> None:
    assert rest_size(head) is None


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFF), st.binary(max_size=64))
@example(0, 0x11, 0, bytes(4))
def test_whatever_the_fields_are_there_is_an_address_or_none(command: int, family: int, size: int, rest: bytes) -> None:
    head = SIGNATURE + struct.pack("!BBH", command, family, size)
    wanted = rest_size(head)
    assert wanted == (size if command in (0x20, 0x21) and size <= LONGEST_REST else None)
    client = client_address(head, rest)
    assert client is None or (
        command == 0x21 and family in (0x11, 0x21) and str(ipaddress.ip_address(client)) == client
    )


@pytest.fixture
def make_gate(tmp_path: Path) -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def make(proxies: tuple[Network, ...], *, tls: bool = False, settings: Settings | None = None) -> Gate:
        gates.append(Gate(tmp_path, settings, server_tls(tmp_path) if tls else None, proxies))
        gates[-1].turn_until(lambda: gates[-1].link.facts is not None)
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


def test_what_follows_the_header_is_served_wherever_it_is_cut(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(LOOPBACK)
    data = header("192.0.2.7", b"\x04\0\x01x")
    for cut in range(1, len(data)):
        peer = gate.peer()
        peer.send(data[:cut])
        gate.turn_until(lambda: len(gate.context.openings) == 1)
        gate.turns(2)
        assert not gate.context.sessions
        peer.send(data[cut:])
        peer.send(ASK)
        assert peer.response()[0] == 2102
        peer.close()
        gate.turn_until(lambda: not gate.context.sessions)


def test_tls_follows_the_header(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(LOOPBACK, tls=True)
    peer = TlsPeer(gate)
    gate.peers.append(peer)
    peer.send_raw(header("192.0.2.7"))
    gate.turn_until(lambda: len(gate.context.sessions) == 1)
    (opening,) = gate.context.openings
    assert opening.network == "192.0.2.7", "the handshake counts for the client"
    peer.shake_hands()
    peer.send(ASK)
    assert peer.response()[0] == 2102


def test_others_than_the_proxies_send_no_header(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(ELSEWHERE)
    peer = gate.peer()
    peer.send(ASK)
    assert peer.response()[0] == 2102
    liar = gate.peer()
    liar.send(header("192.0.2.7"))
    liar.end()
    gate.turn_until(liar.is_ended)
    assert b"\x36\x08" not in liar.received, "it is no request"


def test_a_proxy_that_sends_no_header_is_closed_with_one_line(
    make_gate: Callable[..., Gate], caplog: pytest.LogCaptureFixture
) -> None:
    gate = make_gate(LOOPBACK)
    caplog.set_level("INFO")
    peer = gate.peer()
    peer.send(ASK)
    gate.turn_until(peer.is_ended)
    assert peer.reset
    assert caplog.messages == ["a proxy sent no header of the PROXY protocol, version 2"]
    assert not len(gate.context.openings)


def test_a_header_has_ten_seconds(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(LOOPBACK)
    peer = gate.peer()
    for byte in header("192.0.2.7")[:9]:
        peer.send(bytes([byte]))
        gate.pass_time(1.0)
    assert len(gate.context.openings) == 1
    gate.pass_time(1.5)
    assert not len(gate.context.openings)
    gate.turn_until(peer.is_ended)


def test_a_proxy_that_ends_or_breaks_before_its_header(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(LOOPBACK)
    ending, breaking = gate.peer(), gate.peer()
    for peer in (ending, breaking):
        peer.send(SIGNATURE)
    gate.turn_until(lambda: len(gate.context.openings) == 2)
    ending.end()
    breaking.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    breaking.close()
    gate.turn_until(lambda: not len(gate.context.openings))
    assert not gate.context.holdings.size


def test_networks_of_clients() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2::7") == network_of("2001:db8:1:2:ffff::9") != network_of("2001:db8:1:3::7")
    assert network_of("fe80::1%eth0") == network_of("fe80::2%lo")
