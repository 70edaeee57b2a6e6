"""Strangers at the gateway of a running server: ends and breaks at any byte, everything
at once, floods.
"""

from __future__ import annotations

import random
import select
import socket
import struct
from typing import TYPE_CHECKING

import psutil
import pytest

from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import (
    FETCH,
    HELLO,
    SEND_HEAD,
    SEND_ONCE_HEAD,
    HelloRequest,
    ListUsersRequest,
    encode,
)
from common.client_protocol.responses import UserListed
from common.client_protocol.versions import EXTENSION_VERSION
from common.values import NO_CLIENT, ClientId
from gateway.settings import Settings
from tests.journeys.test_bad_input import frame, registration, rows, send
from torture.caller import FEATURES, Caller, new_account, token_of
from torture.patience import HANG_SECONDS
from torture.programs import wait_until

if TYPE_CHECKING:
    from torture.caller import Account
    from torture.programs import Server

ABRUPT = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing resets the connection."""
MEMORY_OF_A_FLOOD = 48 * 1024 * 1024
HELLO_ANSWER = 7 + 72
JUDGED_AT = {"603": 44, "unknown": 23}
"""The bytes after which these are refused, before all of them came. Half of any other is
no request.
"""


def connect(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), HANG_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    """All that comes before an orderly end; a reset is an error."""
    data = b""
    while part := connection.recv(1 << 20):
        data += part
    return data


def codes_of(data: bytes) -> list[int]:
    """The codes of whole responses."""
    codes = []
    at = 0
    while at < len(data):
        version, code, size = RESPONSE_HEADER.unpack_from(data, at)
        assert version == 2
        codes.append(code)
        at += RESPONSE_HEADER.size + size
    assert at == len(data), "half a response"
    return codes


def one_of_each(me: bytes, other: bytes) -> dict[str, tuple[bytes, int]]:
    """A request of every code, none of which changes anything, and the code of its answer."""
    return {
        "600": (registration(b"not printable: \x01"), 9000),
        "601": (frame(me, 601, b""), 2101),
        "602": (frame(me, 602, other), 2102),
        "603": (send(me, other, 9, b"a type that there is not"), 9000),
        "604": (frame(me, 604, b""), 2104),
        "640": (frame(me, 640, HELLO.pack(EXTENSION_VERSION, 0)), 2140),
        "641": (frame(me, 641, bytes(128)), 9000),
        "642": (frame(me, 642, SEND_ONCE_HEAD.pack(bytes(16), other, 3, 4) + b"text"), 9000),
        "643": (frame(me, 643, FETCH.pack(0, 1000, 300)), 9000),
        "unknown": (frame(me, 777, bytes(60)), 9000),
    }


@pytest.mark.parametrize("kind", one_of_each(b"", b""))
def test_a_connection_that_ends_or_breaks_at_any_byte_leaves_nothing(server: Server, kind: str) -> None:
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    request, code = one_of_each(alice.client_id, bob.client_id)[kind]
    first, first_code = one_of_each(alice.client_id, bob.client_id)["602"]
    before = rows(server)
    # Every byte of the header and what follows it at once, then now and then one.
    for length in sorted({*range(48), *range(48, len(request), 37), len(request) - 1, len(request)} - {-1}):
        if length > len(request):
            continue
        with connect(server) as connection:
            connection.sendall(first + request[:length])
            connection.shutdown(socket.SHUT_WR)
            answers = codes_of(read_to_the_end(connection))
        assert answers == [first_code, *[code] * (length >= JUDGED_AT.get(kind, len(request)))], length
        connection = connect(server)
        connection.sendall(request[:length])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
        connection.close()
    gateway = psutil.Process(server.gateway.pid)
    wait_until(lambda: not [one for one in gateway.net_connections("tcp") if one.status == "ESTABLISHED"], "their end")
    assert rows(server) == before
    assert server.answers()


def something(chance: random.Random, me: bytes, other: bytes) -> tuple[bytes, int]:
    """A request of any kind, good or bad, and the code of its answer."""
    content = chance.randbytes(chance.choice((0, 1, 100, 3000, 70_000)))
    good = [
        (send(me, other, 3, content), 2103),
        # A key request is 44 bytes, whatever its header says.
        (frame(me, 603, SEND_HEAD.pack(other, 1, 0), chance.getrandbits(32)), 2103),
        (frame(other, 604, b""), 2104),
    ]
    bad = [
        (send(me, other, 3, content, len(content) + 1), 9000),
        (send(me, chance.randbytes(16), 3, content), 9000),
        (frame(chance.randbytes(16), chance.choice((601, 604)), b""), 9000),
        (frame(me, chance.choice((0, 599, 605, 9000)), content), 9000),
        (registration(chance.choice((b"", b" a", b"a ", b"\xff", b"a" * 255))), 9000),
    ]
    return chance.choice([*good, *bad, *one_of_each(me, other).values()])


def exchange(server: Server, data: bytes, wanted: int, write_size: int) -> list[int]:
    """Write `data` in pieces and read meanwhile, until there are `wanted` answers; the
    codes of all.
    """
    received = b""
    with connect(server) as connection:
        connection.setblocking(False)
        at = 0
        while True:
            readable, writable, _ = select.select([connection], [connection] * (at < len(data)), [], HANG_SECONDS)
            assert readable or writable, "nothing moves"
            if writable:
                at += connection.send(data[at : at + write_size])
            if readable:
                part = connection.recv(1 << 20)
                assert part, "the server ended the connection"
                received += part
                if at == len(data) and whole_responses(received) >= wanted:
                    return codes_of(received)


def whole_responses(data: bytes) -> int:
    """How many there are, the last of which may be on its way."""
    count = at = 0
    while at + RESPONSE_HEADER.size <= len(data):
        at += RESPONSE_HEADER.size + RESPONSE_HEADER.unpack_from(data, at)[2]
        count += at <= len(data)
    return count


def test_everything_mixed_and_pipelined_is_answered_in_order(server: Server) -> None:
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    chance = random.Random(7)
    for write_size in (1, 3, 50, 1000, 5000, 1 << 16, 1 << 22):
        # Three bad proofs end a connection; one in ten of everything is one.
        asked = [something(chance, alice.client_id, bob.client_id) for _ in range(6 if write_size < 50 else 80)]
        proofs = [one for one in asked if one[0][17:19] == b"\x81\x02"]
        asked = [one for one in asked if one not in proofs[2:]]
        # Sixteen malformed frames end it too, and whatever is refused may be one.
        refused = [index for index, (_request, code) in enumerate(asked) if code == 9000]
        asked = [one for index, one in enumerate(asked) if index not in refused[Settings().malformed_frames - 1 :]]
        data = b"".join(request for request, _code in asked)
        assert exchange(server, data, len(asked), write_size) == [code for _request, code in asked], write_size


def test_any_byte_ends_a_wait_and_is_the_first_of_the_next_request(server: Server) -> None:
    alice, bob = new_account(server.port, "alice"), new_account(server.port, "bob")
    following = encode(ListUsersRequest(bob.client_id))
    with Caller(server.port) as caller, Caller(server.port) as sender:
        caller.prove(bob)
        caller.post(frame(bob.client_id, 643, FETCH.pack(0, 1000, 300)))
        assert not select.select([caller.socket], [], [], 0.1)[0], "nothing waits, so the answer does"
        caller.post(following[:1])
        assert caller.mail(caller.event()) == []
        caller.post(following[1:])
        caller.event()
        assert isinstance(caller.event(), UserListed)
        caller.event()
        # Without a byte it is mail that ends it.
        caller.post(frame(bob.client_id, 643, FETCH.pack(0, 1000, 300)))
        sender.prove(alice)
        sender.send(alice.client_id, bob.client_id, b"news", token=token_of("news"))
        assert [mail.content for mail in caller.mail(caller.event())] == [b"news"]


@pytest.mark.slow
def test_a_flood_that_reads_no_answers_costs_bounded_memory(server: Server) -> None:
    alice: Account = new_account(server.port, "alice")
    flood = encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, FEATURES)) * 1000
    gateway = psutil.Process(server.gateway.pid)
    before = gateway.memory_info().rss
    with connect(server) as connection:
        connection.setblocking(False)
        sent = 0
        while select.select([], [connection], [], 1.0)[1]:
            sent += connection.send(flood[sent % len(flood) :])
        assert gateway.memory_info().rss < before + MEMORY_OF_A_FLOOD
        with Caller(server.port) as caller:
            assert caller.users(ClientId(alice.client_id)) == []
        received = 0
        while received < sent // 31 * HELLO_ANSWER:
            assert select.select([connection], [], [], HANG_SECONDS)[0], f"{received} bytes for {sent}"
            part = connection.recv(1 << 20)
            assert part
            received += len(part)
    assert received == sent // 31 * HELLO_ANSWER
