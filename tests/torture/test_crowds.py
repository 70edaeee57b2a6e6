"""A crowd: where its connections come from, that they come back, their pace, and what it counts."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.responses import encode_reason
from common.values import RefusalReason
from torture.actors import Actor
from torture.crowds import Habits, Refusals, crowd
from torture.patience import HANG_SECONDS
from torture.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(HANG_SECONDS)
        yield listening


def test_each_connection_has_its_address_and_comes_back_from_it(server: socket.socket) -> None:
    refusals = Refusals()
    habits = Habits(3, lambda _number: iter([b"x"]), source=lambda number: f"127.1.0.{number + 1}", refusals=refusals)
    attackers = Actor(crowd, server.getsockname()[1], habits)
    attackers.start()
    try:
        found = {address[0]: sock for sock, address in (server.accept() for _ in range(3))}
        assert set(found) == {"127.1.0.1", "127.1.0.2", "127.1.0.3"}
        assert found["127.1.0.2"].recv(10) == b"x"
        found["127.1.0.1"].sendall(encode_reason(RefusalReason.TOO_FAST, 7))
        wait_until(lambda: refusals.too_fast == 1, "a refusal to be counted")
        found["127.1.0.3"].sendall(encode_reason(RefusalReason.TOO_FAST, 0))
        wait_until(lambda: refusals.timeless == 1, "one without a time to be counted")
        found["127.1.0.2"].close()
        again, address = server.accept()
        assert address[0] == "127.1.0.2"
        assert refusals.closed == 1
        again.close()
        for sock in found.values():
            sock.close()
    finally:
        attackers.kill()


def test_pieces_have_a_pause_between_them(server: socket.socket) -> None:
    attackers = Actor(crowd, server.getsockname()[1], Habits(1, lambda _number: iter([b"a", b"b"]), every=3600.0))
    attackers.start()
    try:
        sock, _address = server.accept()
        with sock:
            sock.settimeout(HANG_SECONDS)
            assert sock.recv(10) == b"a"
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(10)
    finally:
        attackers.kill()


def test_one_that_hangs_up_comes_again_and_was_not_closed(server: socket.socket) -> None:
    refusals = Refusals()
    habits = Habits(1, lambda _number: iter([b"x"]), hangs_up_after=100, refusals=refusals, understands=False)
    attackers = Actor(crowd, server.getsockname()[1], habits)
    attackers.start()
    try:
        first, _address = server.accept()
        first.sendall(bytes(100))
        second, _address = server.accept()
        second.sendall(bytes(99))
        assert second.recv(10) == b"x"
        assert refusals.closed == 0
        first.close()
        second.close()
    finally:
        attackers.kill()
