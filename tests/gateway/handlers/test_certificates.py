"""649: the digests of the server's certificates, for those who greeted over TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.client_protocol.requests import CertificatesRequest, HelloRequest
from gateway.connection.tls_transport import ServerTls
from tests.gateway.authenticated import ZERO
from tests.gateway.harness import Gate, Peer
from tests.gateway.tls_peer import server_tls

NEXT = b"n" * 32
THIRD = b"t" * 32
ASK = CertificatesRequest(ZERO)


@pytest.fixture
def tls(tmp_path: Path) -> ServerTls:
    return server_tls(tmp_path)


@pytest.fixture
def gate(tmp_path: Path, tls: ServerTls) -> Iterator[Gate]:
    gate = Gate(tmp_path, tls=tls)
    gate.turn_until(lambda: gate.link.facts is not None)
    yield gate
    gate.close()


def greeted(peer: Peer) -> Peer:
    peer.send(HelloRequest(ZERO, 1, 0xFFFFFFFF))
    assert peer.response()[0] == 2140
    return peer


def test_the_one_that_was_shown_comes_first(gate: Gate, tls: ServerTls) -> None:
    peer = greeted(gate.tls_peer())
    for known, told in (
        ((), (tls.binding,)),
        ((tls.binding,), (tls.binding,)),
        ((tls.binding, NEXT), (tls.binding, NEXT)),
        ((NEXT, tls.binding), (tls.binding, NEXT)),
        ((NEXT, THIRD), (tls.binding, NEXT)),
    ):
        gate.context.certificates = lambda known=known: known  # type: ignore[misc]
        peer.send(ASK)
        assert peer.response() == (2149, bytes([len(told)]) + b"".join(told))


def test_who_has_not_greeted_is_refused(gate: Gate) -> None:
    peer = gate.tls_peer()
    peer.send(ASK)
    assert peer.response() == (9000, b"")
    greeted(peer).send(ASK)
    assert peer.response()[0] == 2149


def test_a_client_that_goes_before_the_answer(gate: Gate) -> None:
    peer = greeted(gate.tls_peer())
    peer.send(ASK)
    peer.close()
    gate.turn_until(lambda: not gate.context.sessions)
