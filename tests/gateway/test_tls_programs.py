"""The gateway as a program with TLS, and Python's own TLS client: a session of the published
protocol, a proof that is bound to the certificate, and a certificate that is changed.
"""

import hashlib
import re
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.client_protocol.requests import CertificatesRequest
from common.client_protocol.responses import CertificatesResponse, ErrorResponse
from common.client_protocol.versions import TLS_FEATURES
from common.server_address import ServerAddress, parse_address
from common.values import NO_CLIENT
from storage_worker import admin
from torture.caller import NO_BINDING, Caller, Refused, TlsCaller, new_account, new_key, public_half
from torture.programs import Server, free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def tls_port() -> int:
    return free_port()


@pytest.fixture
def server(tmp_path: Path, tls_port: int) -> Iterator[Server]:
    with Server(tmp_path, gateway_arguments=("--tls-listen", f"127.0.0.1:{tls_port}")).start() as server:
        yield server


def address(server: Server, capsys: pytest.CaptureFixture[str]) -> ServerAddress:
    assert admin.main(["--data-folder", str(server.data), "address"]) == 0
    return parse_address(capsys.readouterr().out.strip())


def digests(port: int) -> list[bytes]:
    with TlsCaller(port) as caller:
        caller.hello()
        answer = caller.ask(CertificatesRequest(NO_CLIENT))
        assert isinstance(answer, CertificatesResponse)
        assert answer.digests[0] == caller.binding
        return list(answer.digests)


def test_a_session_of_the_published_protocol(server: Server, tls_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with TlsCaller(tls_port) as alice, TlsCaller(tls_port) as bob:
        assert alice.tls.version() == "TLSv1.3"
        found = address(server, capsys)
        assert (found.host, found.port) == ("127.0.0.1", tls_port)
        assert found.pins == (alice.binding,)
        key = public_half(new_key("alice"))
        alice_id, bob_id = alice.register("alice", key), bob.register("bob", public_half(new_key("bob")))
        assert [user.name for user in bob.users(bob_id)] == ["alice"]
        assert bob.public_key(bob_id, alice_id) == key
        contents = [b"", b"hello", bytes(range(256)) * 4000]
        for content in contents:
            alice.send(alice_id, bob_id, content)
        assert [mail.content for mail in bob.pull(bob_id)] == contents
        bob.end()
        alice.end()
    with Caller(server.port) as plain:
        assert plain.pull(bob_id) == [], "it was settled"
        alice_sends_again = plain.send(alice_id, bob_id, b"over plain TCP")
        assert alice_sends_again
        assert [mail.content for mail in plain.pull(bob_id)] == [b"over plain TCP"]


def test_a_proof_is_bound_to_the_certificate(server: Server, tls_port: int) -> None:
    account = new_account(server.port, "alice")
    for wrong in (NO_BINDING, hashlib.sha256(b"another certificate").digest()):
        with TlsCaller(tls_port) as caller:
            caller.binding = wrong
            with pytest.raises(Refused) as refused:
                caller.prove(account)
            assert refused.value.reason == 4
    with TlsCaller(tls_port) as caller:
        bound = caller.binding
        assert caller.hello().features == TLS_FEATURES
        caller.prove(account)
        assert caller.fetch(account.client_id, 0) == []
    with Caller(server.port) as plain:
        plain.binding = bound
        with pytest.raises(Refused):
            plain.prove(account)


def test_certificates_are_told_to_those_who_greeted_over_tls(server: Server, tls_port: int) -> None:
    with TlsCaller(tls_port) as caller:
        answer = caller.ask(CertificatesRequest(NO_CLIENT))
        assert isinstance(answer, ErrorResponse)
        assert caller.hello().features == TLS_FEATURES
        assert caller.ask(CertificatesRequest(NO_CLIENT)) == CertificatesResponse((caller.binding,))
    with Caller(server.port) as plain:
        assert plain.hello().features != TLS_FEATURES
        assert plain.ask(CertificatesRequest(NO_CLIENT)) == ErrorResponse(1, 0)


def test_a_certificate_is_changed_while_clients_learn_the_next_one(
    server: Server, tls_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data-folder", str(server.data)]
    (first,) = digests(tls_port)
    assert admin.main([*data, "tls", "switch"]) == 78
    assert "there is no next certificate" in capsys.readouterr().err
    assert admin.main([*data, "tls", "next"]) == 0
    assert admin.main([*data, "tls", "next"]) == 78
    assert "there is a next certificate already" in capsys.readouterr().err
    second = digests(tls_port)[1]
    assert digests(tls_port) == [first, second]
    assert address(server, capsys).pins == (first, second)
    assert admin.main([*data, "tls", "switch"]) == 0
    # The running gateway goes on with the old one, and tells of the new one.
    assert digests(tls_port) == [first, second]
    server.gateway.stop()
    server.start()
    assert digests(tls_port) == [second]
    capsys.readouterr()
    assert admin.main([*data, "tls", "show"]) == 0
    assert "next pin  none" in capsys.readouterr().out
    assert address(server, capsys).pins == (second,)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (server.data / "tls").iterdir()}
    assert files == {"current.pem": 0o600, "previous.pem": 0o600, "address": 0o600}
    assert stat.S_IMODE((server.data / "tls").stat().st_mode) == 0o700


def test_the_address_is_a_picture_for_those_who_ask(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.main(["--data-folder", str(server.data), "address", "chat.example.org:443", "--qr"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"messageu://[\w-]{43}@chat\.example\.org:443", lines[0])
    assert len(lines) > 15
    assert len({len(line) for line in lines[1:]}) == 1


def test_old_tls_and_plain_bytes_on_the_tls_port(server: Server, tls_port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", tls_port)) as sock,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        context.wrap_socket(sock)
    with Caller(tls_port) as plain, pytest.raises(OSError):
        plain.register("alice", public_half(new_key("alice")))
    with TlsCaller(tls_port) as caller:
        caller.register("alice", public_half(new_key("alice")))
