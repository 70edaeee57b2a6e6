"""Recorded sessions of other programs, replayed to our server: the answers must be those that they
relied on.

Ids and message numbers are given by the server, so those of the recording stand for those that ours
gave.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.fields import REQUEST_HEADER, RESPONSE_HEADER
from common.client_protocol.responses import STORED, USER, WAITING_HEAD, ResponseCode
from common.client_protocol.server_connection import Limits, Padded, ServerConnection
from common.client_protocol.versions import PADDED_BLOCK
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torture.programs import Server

VECTORS = Path(__file__).parent.parent / "vectors"
PEERS = sorted(path.name.removesuffix(".jsonl") for path in VECTORS.glob("recorded-*.jsonl"))


@dataclass(frozen=True)
class Burst:
    """One line of a recording."""

    connection: tuple[str, int]
    direction: str
    data: bytes


def recording(peer: str) -> list[Burst]:
    lines = [json.loads(line) for line in (VECTORS / f"{peer}.jsonl").read_text("utf-8").splitlines()]
    return [Burst((line["client"], line["conn"]), line["dir"], bytes.fromhex(line["hex"])) for line in lines]


@dataclass
class Replay:
    """What of the recording stands for what of our server's."""

    ids: dict[bytes, bytes] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def request(self, recorded: bytes) -> bytes:
        """The request with our ids; contents can't hold one by chance."""
        for theirs, ours in self.ids.items():
            recorded = recorded.replace(theirs, ours)
        return recorded

    def check(self, requester: bytes, recorded: bytes, got: bytes) -> None:
        """`got` is the recorded response, byte for byte but for ids and numbers; ours
        become known here.
        """
        _version, code, size = RESPONSE_HEADER.unpack_from(recorded)
        theirs, ours = recorded[RESPONSE_HEADER.size :], got[RESPONSE_HEADER.size :]
        expected = theirs
        match code:
            case ResponseCode.REGISTERED:
                self.ids[theirs] = expected = ours
                assert len(ours) == size
            case ResponseCode.USERS:
                # Some servers list the asker too.
                entries = [entry for entry in USER.iter_unpack(theirs) if entry[0] != requester]
                expected = b"".join(USER.pack(self.ids[client_id], name) for client_id, name in entries)
            case ResponseCode.PUBLIC_KEY:
                expected = self.ids[theirs[:16]] + theirs[16:]
            case ResponseCode.STORED:
                recipient, number = STORED.unpack(theirs)
                self.numbers[number] = STORED.unpack(ours)[1]
                expected = STORED.pack(self.ids[recipient], self.numbers[number])
            case ResponseCode.WAITING:
                expected = b"".join(self.waiting(theirs))
            case _:
                raise AssertionError(f"a recorded answer {code}")
        assert got == RESPONSE_HEADER.pack(2, code, len(expected)) + expected

    def waiting(self, entries: bytes) -> Iterator[bytes]:
        while entries:
            sender, number, kind, size = WAITING_HEAD.unpack_from(entries)
            yield WAITING_HEAD.pack(self.ids[sender], self.numbers[number], kind, size)
            yield entries[WAITING_HEAD.size : WAITING_HEAD.size + size]
            entries = entries[WAITING_HEAD.size + size :]


def connect(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), HANG_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, f"the server ended the connection after {data!r}"
        data += part
    return data


def read_response(connection: socket.socket) -> bytes:
    head = read_exactly(connection, RESPONSE_HEADER.size)
    return head + read_exactly(connection, RESPONSE_HEADER.unpack(head)[2])


def pairs(peer: str) -> Iterator[tuple[tuple[str, int], bytes, bytes]]:
    """Connection, request and response, as they followed each other; (connection, b"",
    b"") for its end.
    """
    bursts = iter(recording(peer))
    for burst in bursts:
        if burst.direction == "c2s-fin":
            yield burst.connection, b"", b""
        else:
            answer = next(bursts)
            assert (burst.direction, answer.direction, answer.connection) == ("c2s", "s2c", burst.connection)
            yield burst.connection, burst.data, answer.data


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("step", [1, 1 << 20], ids=["byte by byte", "whole"])
def test_a_recorded_session_gets_the_recorded_answers(server: Server, peer: str, step: int) -> None:
    replay = Replay()
    open_ones: dict[tuple[str, int], socket.socket] = {}
    answered = 0
    for key, request, response in pairs(peer):
        if not request:
            open_ones.pop(key).close()
            continue
        connection = open_ones.get(key) or open_ones.setdefault(key, connect(server))
        data = replay.request(request)
        for start in range(0, len(data), step):
            connection.send(data[start : start + step])
        replay.check(REQUEST_HEADER.unpack_from(request)[0], response, read_response(connection))
        answered += 1
    assert not open_ones
    assert answered >= 15


@pytest.mark.parametrize("peer", PEERS)
def test_a_recorded_session_in_the_padded_dialect_gets_padded_answers(server: Server, peer: str) -> None:
    replay = Replay()
    answered = 0
    for _key, request, response in pairs(peer):
        if not request:
            continue
        padded = replay.request(request).ljust(-(-len(request) // PADDED_BLOCK) * PADDED_BLOCK, b"\0")
        assert speaks_padded(padded)
        got = b""
        with connect(server) as connection:
            connection.sendall(padded)
            while part := connection.recv(PADDED_BLOCK):
                got += part
        size = RESPONSE_HEADER.size + RESPONSE_HEADER.unpack_from(got)[2]
        replay.check(REQUEST_HEADER.unpack_from(request)[0], response, got[:size])
        assert len(got) % PADDED_BLOCK == 0
        assert 0 <= len(got) - size < PADDED_BLOCK
        assert not any(got[size:])
        answered += 1
    assert answered >= 15


def speaks_padded(data: bytes) -> bool:
    """Whether the server's own codec takes it for the dialect; else the test would test
    something else.
    """
    core = ServerConnection(Limits(1 << 20))
    core.receive_data(data)
    core.next_event()
    return isinstance(core.next_event(), Padded)
