"""An open-loop load of sends: bursts that leave on time, whatever was answered.

Owns: the connections and their answers. Promises: a burst goes to users of all shards, chosen at
random, as those of a server with many clients; what is counted as accepted was answered with 2103.
Exposure: 127.0.0.1 only.
"""

import random
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import SendRequest, encode
from common.client_protocol.responses import ResponseCode
from common.values import ClientId

CONTENT: Final = 256
"""Bytes of a message."""
_READ: Final = 1 << 20
_HEAD: Final = RESPONSE_HEADER.size


class Outcome(NamedTuple):
    """What became of the messages. Latencies in seconds: of each connection in each burst, from
    when it was due to the last answer. `late`: bursts that left more than a tenth of a period late.
    """

    sent: int
    accepted: int
    refused: int
    latencies: list[float]
    late: int


class _Connection:
    def __init__(self, port: int, bursts: Sequence[bytes], messages: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)  # noqa: FBT003
        self.bursts = bursts
        self.messages = messages
        self.unread = b""
        self.unsent = b""
        self.due: list[float] = []
        """When the bursts were due that are not answered in full."""
        self.left = 0
        """Answers that the oldest of them lacks."""
        self.accepted = self.refused = 0

    def begin(self, number: int, due: float) -> None:
        """Send a burst."""
        if not self.due:
            self.left = self.messages
        self.due.append(due)
        self.unsent += self.bursts[number % len(self.bursts)]
        self.write()

    def write(self) -> None:
        """Write what the socket takes."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass

    def read(self, now: float) -> list[float]:
        """Read answers; how long the bursts took that are complete now."""
        try:
            while data := self.socket.recv(_READ):
                self.unread += data
            raise ConnectionResetError("the server ended a connection")
        except BlockingIOError:
            pass
        done = []
        at, data = 0, self.unread
        while len(data) - at >= _HEAD:
            _version, code, size = RESPONSE_HEADER.unpack_from(data, at)
            if len(data) - at < _HEAD + size:
                break
            at += _HEAD + size
            if code == ResponseCode.STORED:
                self.accepted += 1
            else:
                self.refused += 1
            self.left -= 1
            if not self.left:
                done.append(now - self.due.pop(0))
                self.left = self.messages
        self.unread = data[at:]
        return done


class Load:
    """`connections` connections, spread over `ports`, each of which sends `messages` messages a
    burst. `chance` chooses who writes to whom.
    """

    def __init__(
        self, ports: Sequence[int], users: Sequence[ClientId], connections: int, messages: int, chance: random.Random
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: list[_Connection] = []
        self._number = 0
        for number in range(connections):
            sender = users[number % len(users)]
            bursts = [
                b"".join(
                    encode(SendRequest(sender, chance.choice(users), 3, chance.randbytes(CONTENT)))
                    for _ in range(messages)
                )
                for _ in range(4)
            ]
            connection = _Connection(ports[number % len(ports)], bursts, messages)
            self._connections.append(connection)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def run(self, seconds: float, period: float, patience: float = 30.0) -> Outcome:
        """Send a burst on each connection each `period` seconds; then wait until all is answered.
        Raises `OSError` where a connection ends, or an answer does not come.
        """
        before = [(one.accepted, one.refused) for one in self._connections]
        latencies: list[float] = []
        began = time.monotonic()
        ticks = round(seconds / period)
        late = 0
        for tick in range(ticks):
            due = began + tick * period
            self._turn_until(due, latencies)
            late += time.monotonic() - due > period / 10
            for connection in self._connections:
                connection.begin(self._number, due)
            self._number += 1
        self._turn_until(began + ticks * period, latencies)
        deadline = time.monotonic() + patience
        while any(connection.due for connection in self._connections):
            if time.monotonic() > deadline:
                raise TimeoutError("answers did not come")
            self._turn_until(time.monotonic() + 0.01, latencies)
        accepted = sum(one.accepted for one in self._connections) - sum(done for done, _ in before)
        refused = sum(one.refused for one in self._connections) - sum(done for _, done in before)
        sent = ticks * sum(one.messages for one in self._connections)
        return Outcome(sent, accepted, refused, latencies, late)

    def _turn_until(self, moment: float, latencies: list[float]) -> None:
        while (left := moment - time.monotonic()) > 0:
            for key, _events in self._selector.select(left):
                latencies += key.data.read(time.monotonic())
                key.data.write()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()
