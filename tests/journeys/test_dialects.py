"""Clients of other numberings and the other byte order, through a running server, with
each other.
"""

from __future__ import annotations

import socket
import struct
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import pytest

from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from torture.programs import Server


class Dialect(NamedTuple):
    order: str
    base: int


OURS, OTHER_YEAR, BIG = Dialect("<", 600), Dialect("<", 1100), Dialect(">", 600)


class Program:
    """A program of somebody else: one connection, written after the published layouts alone."""

    def __init__(self, server: Server, dialect: Dialect, name: str) -> None:
        self._order, self._base = dialect
        self._socket = socket.create_connection(("127.0.0.1", server.port), HANG_SECONDS)
        self.client_id = bytes(16)
        self.client_id = self.ask(0, name.encode().ljust(255, b"\0") + name.encode().ljust(160, b"k"), 2100)

    def ask(self, number: int, payload: bytes, expected: int) -> bytes:
        header = struct.pack(f"{self._order}16sBHI", self.client_id, 1, self._base + number, len(payload))
        self._socket.sendall(header + payload)
        _version, code, size = struct.unpack(f"{self._order}BHI", self._take(7))
        assert code == expected
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            assert part, "the connection ended"
            data += part
        return data

    def send(self, to: Program, content: bytes) -> int:
        head = struct.pack(f"{self._order}16sBI", to.client_id, 3, len(content))
        recipient, number = struct.unpack(f"{self._order}16sI", self.ask(3, head + content, 2103))
        assert recipient == to.client_id
        return int(number)

    def pull(self) -> list[tuple[bytes, int, bytes]]:
        """Sender, message id and content of what waits."""
        data = self.ask(4, b"", 2104)
        found = []
        while data:
            sender, number, kind, size = struct.unpack_from(f"{self._order}16sIBI", data)
            assert kind == 3
            found.append((sender, number, data[25 : 25 + size]))
            data = data[25 + size :]
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("pair", list(permutations((OURS, OTHER_YEAR, BIG), 2)), ids=str)
def test_two_dialects_understand_each_other(server: Server, pair: tuple[Dialect, Dialect]) -> None:
    names = ["sender", "reader"]
    sender, reader = (Program(server, dialect, name) for dialect, name in zip(pair, names, strict=True))
    assert sender.ask(2, reader.client_id, 2102) == reader.client_id + names[1].encode().ljust(160, b"k")
    assert reader.client_id + names[1].encode().ljust(255, b"\0") in sender.ask(1, b"", 2101)
    contents = [b"", b"short", bytes(range(256)) * 1000]
    numbers = [sender.send(reader, content) for content in contents]
    expected = [(sender.client_id, number, content) for number, content in zip(numbers, contents, strict=True)]
    assert reader.pull() == expected
    # The next request on this connection shows that it came.
    assert reader.pull() == []
    sender.close()
    reader.close()
