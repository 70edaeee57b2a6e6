"""Pages over HTTP: a bad request gets nothing, and does not keep others out."""

from __future__ import annotations

import argparse
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from common import status_server
from common.errors import SettingRejected
from common.server_address import ServerAddress
from common.status_server import (
    LOOPBACK,
    MOST_CONNECTIONS,
    Answer,
    StatusServer,
    ask_health,
    health_page,
    loop_problem,
    status_place,
)
from gateway.options import parse
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBLEM: list[str] = []


def fail() -> Answer:
    raise ZeroDivisionError


@pytest.fixture
def server() -> Iterator[StatusServer]:
    PROBLEM.clear()
    pages = {"/ready": health_page(lambda: PROBLEM[0] if PROBLEM else None), "/bug": fail}
    found = StatusServer(ServerAddress(LOOPBACK, 0), pages)
    yield found
    found.close()


def say(server: StatusServer, request: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, server.port), timeout=HANG_SECONDS) as sock:
        sock.sendall(request)
        answer = b""
        while data := sock.recv(65536):
            answer += data
        return answer


def test_a_page_and_what_is_none(server: StatusServer) -> None:
    head, _, body = say(server, b"GET /ready?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n")
    assert body == b"ok\n"
    assert say(server, b"HEAD /ready HTTP/1.0\r\n\r\n").endswith(b"Connection: close\r\n\r\n")
    assert say(server, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404 ")
    assert say(server, b"POST /ready HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 405 ")
    assert say(server, b"GET \r\n\r\n").startswith(b"HTTP/1.0 404 ")
    assert say(server, b"GET \xff\r\n\r\n").startswith(b"HTTP/1.0 404 ")


def test_a_bug_in_a_page_is_logged_and_the_next_request_answered(
    server: StatusServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert say(server, b"GET /bug HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 500 ")
    assert "ZeroDivisionError" in caplog.text
    assert b" 200 " in say(server, b"GET /ready HTTP/1.0\r\n\r\n")


def test_who_sends_too_much_or_nothing_keeps_nobody_out(server: StatusServer) -> None:
    silent = socket.create_connection((LOOPBACK, server.port), timeout=HANG_SECONDS)
    with socket.create_connection((LOOPBACK, server.port), timeout=HANG_SECONDS) as sock:
        sock.sendall(b"GET /ready " + b"x" * 4096)
        assert b" 200 " in say(server, b"GET /ready HTTP/1.0\r\n\r\n")
    assert silent.recv(1) == b""
    silent.close()


def test_idle_connections_hold_up_nobody_and_the_oldest_make_room(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server, "REQUEST_TIME", 10 * HANG_SECONDS)
    with contextlib.ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection((LOOPBACK, server.port), timeout=HANG_SECONDS))
            for _ in range(MOST_CONNECTIONS + 1)
        ]
        for dripping in idle[2:]:
            dripping.sendall(b"GET /re")
        assert b" 200 " in say(server, b"GET /ready HTTP/1.0\r\n\r\n")
        assert [sock.recv(1) for sock in idle[:2]] == [b"", b""]
        idle[2].sendall(b"ady HTTP/1.0\r\n\r\n")
        assert idle[2].recv(12) == b"HTTP/1.0 200"
        # Those that are open do not keep it from ending.
        server.close()
        assert idle[3].recv(1) == b""


def test_health_is_asked_for_in_one_sentence(server: StatusServer) -> None:
    here = parse(["--health", "--metrics", f"{LOOPBACK}:{server.port}"])
    assert ask_health(here) == (True, "ready")
    PROBLEM.append("the storage worker is not there")
    assert ask_health(here) == (False, "not ready: the storage worker is not there")
    server.close()
    answered, sentence = ask_health(here)
    assert not answered
    assert sentence.startswith(f"nothing answers at {LOOPBACK}:{server.port}: ")
    assert parse(["--health"]).health_place == ServerAddress(LOOPBACK, 9357)


def test_the_loopback_unless_told() -> None:
    assert parse(["--metrics", "9357"]).metrics == ServerAddress(LOOPBACK, 9357)
    assert status_place("[::1]:9357") == ServerAddress("::1", 9357)
    assert status_place("0.0.0.0:9357") == ServerAddress("0.0.0.0", 9357)
    assert parse([]).metrics is None
    for text in ("", "x", "127.0.0.1:", "messageu://AAAA@h:1"):
        with pytest.raises(argparse.ArgumentTypeError):
            status_place(text)


def test_an_address_that_is_taken_is_a_sentence(server: StatusServer) -> None:
    with pytest.raises(SettingRejected, match=rf"can't listen on {LOOPBACK}:{server.port} \(--metrics\): "):
        StatusServer(ServerAddress(LOOPBACK, server.port), {})


def test_a_loop_is_stuck_after_five_seconds() -> None:
    assert loop_problem(104.9, 100.0) is None
    assert loop_problem(107.0, 100.0) == "the loop has not turned for 7 s"
