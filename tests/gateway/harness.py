"""The gateway's own objects, wired as in its composition root, turned by hand under a
clock of our own.
"""

import socket
import struct
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import zmq

from common.client_protocol.requests import Request, encode
from gateway.addresses import Network
from gateway.connection.context import SessionContext
from gateway.connection.session import Session
from gateway.connection.tls_transport import ServerTls
from gateway.event_loop import EventLoop
from gateway.listener import Listener, open_listener
from gateway.settings import Settings
from gateway.storage.link import StorageLink
from gateway.storage.mail_waiters import MailWaiters
from gateway.storage.shard_links import ShardLinks, Target
from tests.gateway.fake_storage import FakeStorage
from tests.gateway.tls_peer import ClientTls
from torture.patience import HANG_SECONDS


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Peer:
    """A client's TCP socket, never blocking. `source`: the address it comes from."""

    def __init__(self, gate: "Gate", source: str = "127.0.0.1") -> None:
        self.gate = gate
        self.sock = socket.create_connection(("127.0.0.1", gate.port), source_address=(source, 0))
        self.sock.setblocking(False)
        self.received = b""
        self.ended = False
        self.reset = False

    def send(self, data: bytes | Request) -> None:
        """Write all of it, turning the gateway meanwhile."""
        rest = data if isinstance(data, bytes) else encode(data)
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                self.gate.turn()

    def read(self) -> None:
        try:
            while data := self.sock.recv(1 << 20):
                self.received += data
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.reset = self.ended = True

    def take(self, size: int) -> bytes:
        """The next `size` bytes the gateway says."""

        def there() -> bool:
            self.read()
            return len(self.received) >= size or self.ended

        self.gate.turn_until(there)
        data, self.received = self.received[:size], self.received[size:]
        return data

    def response(self) -> tuple[int, bytes]:
        """The next response: code and payload."""
        head = self.take(7)
        assert len(head) == 7, f"the connection ended, reset {self.reset}"
        version, code, size = struct.unpack("<BHI", head)
        assert version == 2
        return code, self.take(size)

    def is_ended(self) -> bool:
        """Whether the gateway has ended its side and said nothing more."""
        self.read()
        return self.ended

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


class TlsPeer(Peer):
    """The same over TLS. What is sent goes in one record a call."""

    def __init__(self, gate: "Gate", client: ClientTls | None = None, source: str = "127.0.0.1") -> None:
        super().__init__(gate, source)
        self.client = client or ClientTls()
        self.is_cut = False

    def shake_hands(self) -> None:
        """Turn the gateway until the handshake is done on both sides."""
        self.send_raw(self.client.to_send())

        def done() -> bool:
            self.read()
            return self.client.is_open

        self.gate.turn_until(done)
        opening = len(self.gate.context.openings)
        self.send_raw(self.client.to_send())
        self.gate.turn_until(lambda: len(self.gate.context.openings) < opening)

    def send_raw(self, data: bytes) -> None:
        """Bytes of records, or others."""
        super().send(data)

    def send(self, data: bytes | Request) -> None:
        self.send_raw(self.client.record(data if isinstance(data, bytes) else encode(data)))

    def read(self) -> None:
        """`ended` after close_notify, `is_cut` where the end comes without it."""
        try:
            while data := self.sock.recv(1 << 20):
                self.client.feed(data)
            self.is_cut = not self.client.ended
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.reset = self.ended = True
        self.received += self.client.received
        self.client.received = b""
        self.ended = self.ended or self.client.ended

    def end(self) -> None:
        self.send_raw(self.client.last_word())
        super().end()


class Gate:
    """A gateway between real TCP peers and a scripted storage."""

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        tls: ServerTls | None = None,
        proxies: Sequence[Network] = (),
        shards: int = 1,
    ) -> None:
        self.clock = Clock()
        self.zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.storages = [FakeStorage(self.zmq_context, folder, (number, shards)) for number in range(shards)]
        self.storage = self.storages[0]
        self.loop = EventLoop(self.clock)
        numbers = count(1)
        self.context = SessionContext(
            self.loop,
            lambda waiters: self._link_to(waiters, lambda: next(numbers).to_bytes(16, "little")),
            settings or Settings(),
            bytes,
        )
        self.link = self.context.worker
        listening = open_listener("127.0.0.1", 0)
        self.port: int = listening.getsockname()[1]
        self.listener = Listener(listening, self.context, tls, proxies)
        self.peers: list[Peer] = []

    def _link_to(self, waiters: MailWaiters, new_incarnation: Callable[[], bytes]) -> StorageLink | ShardLinks:
        if len(self.storages) == 1:
            return StorageLink(self.loop, self.storage.endpoint, 3, new_incarnation, waiters)
        targets = [Target(storage.endpoint) for storage in self.storages]
        return ShardLinks(self.loop, targets, 3, new_incarnation, waiters)

    def peer(self, source: str = "127.0.0.1") -> Peer:
        peer = Peer(self, source)
        self.peers.append(peer)
        return peer

    def tls_peer(self, client: ClientTls | None = None) -> "TlsPeer":
        """A client over TLS, whose handshake is done."""
        peer = TlsPeer(self, client)
        self.peers.append(peer)
        peer.shake_hands()
        return peer

    def turn(self) -> None:
        """One turn of both sides. Sleeps a moment in epoll where nothing is ready, never
        to be right.
        """
        self.loop.turn(0.001)
        for storage in self.storages:
            storage.serve()

    def turn_until(self, condition: Callable[[], bool]) -> None:
        """Turn until `condition` holds."""
        give_up = time.monotonic() + HANG_SECONDS
        while not condition():
            assert time.monotonic() < give_up, "waited in vain"
            self.turn()

    def turns(self, number: int = 20) -> None:
        """Turn that often: for what must not happen, however long one waits."""
        for _ in range(number):
            self.turn()

    def all_acknowledged(self) -> bool:
        """Whether the gateway has seen, looking again and again, that its responses were
        acknowledged.
        """
        self.clock.time += 0.01
        return not any(
            session.delivery is not None and session.delivery.wanted
            for session in self.context.sessions
            if isinstance(session, Session)
        )

    def pass_time(self, seconds: float, step: float = 0.2) -> None:
        """Let the gateway's clock go on, turning at each step."""
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(end, self.clock.time + step)
            self.turn()
            if all(storage.answering and storage.socket is not None for storage in self.storages):
                self.turn_until(lambda: self.context.link.idle)
        self.turn()

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        for session in list(self.context.sessions):
            session.abort()
        self.listener.close()
        self.context.link.close()
        self.loop.close()
        for storage in self.storages:
            storage.close()
        self.zmq_context.term()


def push(gate: Gate, data: bytes) -> int:
    """Write until the gateway takes no more; how much it took."""
    peer = gate.peers[-1]
    sent = 0
    for _ in range(300):
        try:
            sent += peer.sock.send(data[sent : sent + 65536])
        except BlockingIOError:
            pass
        gate.turn()
    return sent
