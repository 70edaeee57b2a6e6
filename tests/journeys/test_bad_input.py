"""Bad input, end to end: refused, nothing stored, and the connection lives on where the
frame's end is known.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import SEND_HEAD, SEND_ONCE_HEAD, PublicKeyRequest, RegisterRequest, encode
from common.client_protocol.responses import ERROR, ErrorResponse, PublicKeyResponse
from common.info_files import DEFAULT_PORT
from common.values import NO_CLIENT
from gateway.__main__ import port_of
from gateway.settings import Settings
from torture.caller import Account, Caller, Refused, new_account, new_key, public_half
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.conftest import MakeServer, OpenConsole

NOBODY = bytes(range(16))
KEY = public_half(new_key("somebody"))
HEADER_TIME = 10.0
FORGIVEN = Settings().malformed_frames - 1
SIXTEEN_MEBIBYTES = 16 * 1024 * 1024


def frame(requester: bytes, code: int, payload: bytes, size: int | None = None) -> bytes:
    return REQUEST_HEADER.pack(requester, 2, code, len(payload) if size is None else size) + payload


def registration(name: bytes) -> bytes:
    return frame(NO_CLIENT, 600, struct.pack("<255s160s", name.ljust(255, b"\0"), KEY))


def send(requester: bytes, recipient: bytes, kind: int, content: bytes, content_size: int | None = None) -> bytes:
    head = SEND_HEAD.pack(recipient, kind, len(content) if content_size is None else content_size)
    return frame(requester, 603, head + content)


def refused_requests(alice: Account, bob: Account) -> Iterator[tuple[str, bytes]]:
    me, other = alice.client_id, bob.client_id
    for code in (0, 1, 599, 605, 606, 639, 644, 2100, 9000, 65535):
        yield f"code {code}", frame(me, code, b"")
        yield f"code {code} with a payload", frame(me, code, bytes(100))
    yield "code 999 with a payload of many reads", frame(me, 999, bytes(300_000))
    for code, right in ((600, 415), (601, 0), (602, 16), (604, 0), (640, 8), (641, 128), (643, 14)):
        for size in {right - 1, right + 1, right + 300} - {-1}:
            yield f"{code} of {size} bytes", frame(me, code, bytes(size))
    yield "603 shorter than its head", frame(me, 603, bytes(20), 20)
    for who, requester in (("nobody", NOBODY), ("zeros", NO_CLIENT)):
        yield f"601 from {who}", frame(requester, 601, b"")
        yield f"602 from {who}", frame(requester, 602, other)
        yield f"603 from {who}", send(requester, other, 3, b"text")
        yield f"603 with a large content from {who}", send(requester, other, 4, bytes(200_000))
        yield f"604 from {who}", frame(requester, 604, b"")
        yield f"602 about {who}", frame(me, 602, requester)
        yield f"603 to {who}", send(me, requester, 3, b"text")
        yield f"603 with a large content to {who}", send(me, requester, 4, bytes(200_000))
    for what, name in (
        ("empty", b""),
        ("without NUL", b"a" * 255),
        ("with a line feed", b"bob\n"),
        ("with an escape", b"\x1b[2J"),
        ("not ASCII", "bøb".encode()),
        ("Latin-1", b"b\xf8b"),
        ("with a space before", b" carol"),
        ("with a space behind", b"carol "),
        ("taken", b"bob"),
    ):
        yield f"a name that is {what}", registration(name)
    for kind in (0, 5, 255):
        yield f"type {kind}", send(me, other, kind, b"text")
    for size in (0, 3, 5, 2**32 - 1):
        yield f"a content of 4 bytes that says {size}", send(me, other, 3, b"text", size)
    once = SEND_ONCE_HEAD.pack(bytes(16), other, 3, 4) + b"text"
    yield "642 without proof", frame(me, 642, once)
    yield "642 with another content size", frame(me, 642, once + b"!")
    yield "643 without proof", frame(me, 643, struct.pack("<QIH", 0, 1000, 0))
    yield "641 without a greeting", frame(me, 641, bytes(128))


def rows(server: Server) -> dict[str, int]:
    """How many rows the tables have that requests can fill, and how many contents are
    files. Mailboxes are pulled.
    """
    with closing(apsw.Connection(str(server.data / "mail.db"), flags=apsw.SQLITE_OPEN_READONLY)) as database:
        found: dict[str, int] = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
            for table in ("user", "mail_page", "token_page")
        }
    return {**found, "files": len(list((server.data / "bodies").iterdir()))}


def says_nothing_and_ends(connection: socket.socket) -> bool:
    with connection:
        try:
            return connection.recv(100) == b""
        except ConnectionResetError:
            return True


@pytest.mark.slow
def test_bad_requests_are_refused_and_change_nothing(server: Server) -> None:
    began = time.monotonic()
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    before = rows(server)
    assert before["user"] == 2
    half_a_header = socket.create_connection(("127.0.0.1", server.port), HANG_SECONDS)
    half_a_header.sendall(bytes(11))
    good = PublicKeyRequest(alice.client_id, bob.client_id)
    requests = [(what, request) for what, request in refused_requests(alice, bob) if not what.startswith("641")]
    for first in range(0, len(requests), FORGIVEN):
        some = requests[first : first + FORGIVEN]
        with Caller(server.port) as caller:
            for what, request in some:
                answer = caller.ask(request)
                assert isinstance(answer, ErrorResponse), f"{what}: {answer}"
                assert answer.reason is None, what
                assert isinstance(caller.ask(good), PublicKeyResponse), f"after {what}"
        with Caller(server.port) as caller:
            # The same, pipelined: as many refusals, in order, and the answers between them.
            caller.post(b"".join(request + encode(good) for _what, request in some))
            for what, _request in some:
                assert isinstance(caller.event(), ErrorResponse), what
                assert isinstance(caller.event(), PublicKeyResponse), f"after {what}"
    with Caller(server.port) as caller:
        for _attempt in range(3):
            assert isinstance(caller.ask(frame(alice.client_id, 641, bytes(128))), ErrorResponse)
        with pytest.raises(ConnectionError):
            caller.event()
    assert rows(server) == before
    with Caller(server.port) as caller:
        assert caller.pull(alice.client_id) == caller.pull(bob.client_id) == []
        caller.send(alice.client_id, bob.client_id, b"at last")
        assert [mail.content for mail in caller.pull(bob.client_id)] == [b"at last"]
    # Half a header, and silence: closed in time, without an answer.
    assert says_nothing_and_ends(half_a_header)
    assert time.monotonic() - began > HEADER_TIME - 1


@pytest.fixture
def strict_server(tmp_path: Path) -> Iterator[Server]:
    limit = ("--largest-message", str(SIXTEEN_MEBIBYTES))
    with Server(tmp_path / "strict", gateway_arguments=limit, worker_arguments=limit).start() as server:
        yield server


@pytest.mark.parametrize("size", [SIXTEEN_MEBIBYTES + 22, 2**31, 2**32 - 1])
def test_a_size_over_the_limit_is_refused_before_its_content_and_ends_the_connection(
    strict_server: Server, size: int
) -> None:
    server = strict_server
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    before = rows(server)
    with Caller(server.port) as caller:
        head = SEND_HEAD.pack(bob.client_id, 4, size - SEND_HEAD.size)
        caller.post(frame(alice.client_id, 603, head, size))
        assert caller.socket.recv(100) == ERROR
        assert caller.socket.recv(100) == b"", "the server has ended its side"
        # It reads on, so that the client gets to read the answer: no reset for what it sends still.
        for _ in range(64):
            caller.socket.sendall(bytes(65536))
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.socket.recv(100) == b""
    assert rows(server) == before
    with Caller(server.port) as caller:
        assert caller.pull(bob.client_id) == []


def test_the_largest_content_passes(strict_server: Server) -> None:
    server = strict_server
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    content = bytes(range(256)) * (SIXTEEN_MEBIBYTES // 256)
    with Caller(server.port) as caller:
        caller.send(alice.client_id, bob.client_id, content, 4)
        with pytest.raises(Refused):
            caller.send(alice.client_id, bob.client_id, content + b"!", 4)
    with Caller(server.port) as caller:
        (mail,) = caller.pull(bob.client_id)
    assert mail.content == content


def test_a_name_that_is_taken_is_refused_whatever_key_comes_with_it(server: Server) -> None:
    with Caller(server.port) as caller:
        caller.register("carol", KEY)
        for key in (KEY, public_half(new_key("another"))):
            with pytest.raises(Refused):
                caller.register("carol", key)
        caller.register("Carol", KEY)
        # On a connection that greeted, the very same key is answered with the same id: a lost reply
        # costs no name.
        caller.hello()
        assert caller.register("carol", KEY) != caller.register("Carol", KEY)
        assert isinstance(caller.ask(RegisterRequest(NO_CLIENT, "carol", public_half(new_key("x")))), ErrorResponse)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, "", "port 99", "0", "70000", "\xff\xfe"])
def test_without_a_usable_myport_info_there_is_a_warning_and_the_published_port(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    path = tmp_path / "myport.info"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    assert port_of(path) == DEFAULT_PORT == 1357
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(path) in record.message
    assert ("line 1" in record.message) == (content is not None)
    assert "1357" in record.message


def test_the_gateway_without_myport_info_takes_the_published_port(make_server: MakeServer) -> None:
    server = make_server()
    (server.folder / "myport.info").unlink()
    server.gateway.start()

    def decided() -> bool:
        said = server.gateway.said()
        # Somebody else may have the port; what matters is which one was asked for.
        return "listening on 127.0.0.1:1357" in said or "can't listen on 127.0.0.1:1357" in said

    wait_until(decided, "the gateway")
    assert "WARNING gateway: myport.info: can't be read" in server.gateway.said()


@pytest.mark.parametrize("content", ["", "1357", "nowhere:port", "127.0.0.1:0"])
def test_a_corrupt_server_info_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.info").write_text(content)
    client = subprocess.run(
        [sys.executable, "-P", "-m", "client", "--home", str(tmp_path)],
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert client.returncode == 2
    assert client.stderr.count("\n") == 1
    assert f"{tmp_path / 'server.info'}, line 1" in client.stderr


@pytest.mark.parametrize("name", ["my.info", "me.info"])
def test_a_corrupt_identity_is_told_with_the_next_step_and_the_menu_again(
    server: Server, open_console: OpenConsole, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / name).write_text("alice\nthis is no id\nand no key\n")
    (home / name).chmod(0o600)
    console = open_console(server, "home")
    for choice in ("120", "140"):
        sentence, advice = console.choose(choice).splitlines()
        assert f"{home / name}, line 2" in sentence
        assert advice == "Correct the file, restore it from a copy, or name another one."
    assert "not replaced" in console.choose("110", "alice")
    assert console.leave() == 0
