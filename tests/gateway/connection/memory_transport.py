"""A connection without sockets: a transport in memory, and a session on it with a scripted worker.

`MemoryTransport` is both ends of a connection. The gateway's end is what `gateway.connection.
transport` says; the peer's end is moved by a test: bytes, the end, a reset, room to write into,
acknowledgements. `Scene` turns the gateway by hand, under a clock of its own.
"""

import errno
from collections.abc import Callable, Sequence
from typing import cast

from common.client_protocol.requests import Request, encode
from common.client_protocol.server_connection import PipelinedSends
from common.storage_protocol.frames import StoreFacts
from common.storage_protocol.operations import Operation, Outcome, Refused, Stored, StoreMessage
from gateway.connection.context import SessionContext
from gateway.connection.lifecycle import State
from gateway.connection.session import Session
from gateway.connection.transport import NO_BINDING, Transport, TransportOwner
from gateway.delivery.evidence import SegmentsIn
from gateway.event_loop import EventLoop
from gateway.settings import Settings
from gateway.storage.link import StorageLink, Waiter
from gateway.storage.send_answers import Sender
from tests.gateway.fake_storage import SERVER_ID, default_decision
from tests.gateway.harness import Clock

PLENTY = 1 << 30


class MemoryTransport:
    """A `Transport`. `room`: bytes that can be sent before the peer takes more.

    `received` is what the peer has got, `ended` whether it saw the end behind that, `was_reset`
    whether it saw a reset.
    """

    def __init__(self) -> None:
        self.binding = NO_BINDING
        self.held = 0
        self.owner: TransportOwner | None = None
        self.reads = self.writes = False
        self.room = PLENTY
        self.received = b""
        self.ended = False
        self.was_reset = False
        self.is_closed = False
        self.broken = 0
        self.shut_down_fails = False
        self.unread = b""
        self.peer_ended = False
        self.outstanding = 0
        self.segments = 0
        self.segments_with_data = 0
        self._not_taken = b""

    # --- the gateway's end

    def attach(self, owner: TransportOwner) -> None:
        self.owner = owner
        self.reads = True

    def receive(self, size: int, /) -> bytes:
        self._check()
        if not self.unread and not self.peer_ended:
            raise BlockingIOError
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def send(self, data: bytes | memoryview, /) -> int:
        self._check()
        assert not self.ended, "sent behind its own end"
        assert bytes(data).startswith(self._not_taken), "sent past bytes that were not taken"
        taken = self._room_for(data)
        self._not_taken = bytes(data[taken:])
        if not taken and data:
            raise BlockingIOError
        self.received += data[:taken]
        self.outstanding += taken
        return taken

    def _room_for(self, data: bytes | memoryview) -> int:
        """How many of the bytes go; they are taken off the room."""
        taken = min(self.room, len(data))
        self.room -= taken
        return taken

    def watch(self, *, reads: bool, writes: bool) -> None:
        assert not self.is_closed
        self.reads, self.writes = reads, writes

    def watch_for_reset(self) -> None:
        self.watch(reads=False, writes=False)

    def shut_down(self) -> None:
        if self.shut_down_fails:
            raise OSError(errno.ENOTCONN, "not connected")
        self._check()
        self.ended = True

    def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = self.ended = True
        self.owner = None
        # As the kernel does where bytes are thrown away unread.
        self.was_reset = bool(self.unread)

    def reset(self) -> None:
        self.close()
        self.was_reset = True

    def unacknowledged(self) -> int:
        return self.outstanding

    def input_waiting(self) -> bool:
        return bool(self.unread)

    def segments_in(self) -> SegmentsIn:
        return SegmentsIn(self.segments, self.segments_with_data)

    def error(self) -> int:
        pending, self.broken = self.broken, 0
        return pending

    def _check(self) -> None:
        assert not self.is_closed, "used after its end"
        if self.broken:
            raise ConnectionResetError(self.broken, "reset by peer")

    # --- the peer's end

    def say(self, data: bytes | Request) -> None:
        """Bytes of the peer arrive, in one segment."""
        self.unread += data if isinstance(data, bytes) else encode(data)
        self.segments += 1
        self.segments_with_data += 1

    def end(self) -> None:
        """The peer ends its side, behind what it said."""
        self.peer_ended = True
        self.segments += 1

    def break_off(self) -> None:
        """The peer's reset arrives."""
        self.broken = errno.ECONNRESET
        self.unread = b""

    def acknowledge(self) -> None:
        """The peer's TCP has all that was sent."""
        self.outstanding = 0
        self.segments += 1

    def take(self) -> bytes:
        """What the peer has got since the last time."""
        data, self.received = self.received, b""
        return data

    def report(self) -> None:
        """What the event loop would report now: readiness is a level, not an edge."""
        owner = self.owner
        if owner is None:
            return
        if self.broken and not (self.ended and self.peer_ended):
            owner.abort()
            return
        if self.writes and self.room:
            owner.on_writable()
        if self.reads and (self.unread or self.peer_ended):
            owner.on_readable()


_RECORD = 8
"""Payload bytes of a record at most."""


class RecordTransport(MemoryTransport):
    """The same with its bytes in records, as TLS has them: what came of an unfinished record can't
    be received, and what was begun of one is taken only when the last byte of it goes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unfinished = b""
        self._begun = 0

    def input_waiting(self) -> bool:
        return bool(self.unread or self.unfinished)

    def receive(self, size: int, /) -> bytes:
        if not self.unread and self.unfinished and self.peer_ended:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the end came inside a record")
        return super().receive(size)

    def _room_for(self, data: bytes | memoryview) -> int:
        taken = 0
        while taken < len(data):
            record = min(_RECORD, len(data) - taken)
            goes = min(self.room, record - self._begun)
            self.room -= goes
            self._begun += goes
            if self._begun < record:
                break
            taken, self._begun = taken + record, 0
        return taken

    def say_part(self, data: bytes | Request) -> None:
        """A segment arrives that ends inside a record."""
        super().say(b"")
        self.unfinished += data if isinstance(data, bytes) else encode(data)
        self.held = len(self.unfinished)

    def say(self, data: bytes | Request) -> None:
        """The rest of the record, in one segment."""
        begun, self.unfinished = self.unfinished, b""
        self.held = 0
        super().say(begun + (data if isinstance(data, bytes) else encode(data)))

    def report(self) -> None:
        if self.owner is not None and self.reads and self.unfinished and not self.unread and not self.broken:
            self.owner.on_readable()
        super().report()


class MemoryStorage:
    """A `StorageLink` without a worker. `decide` maps an operation to its outcome; a send of a run
    is decided as the `StoreMessage` that it stands for.

    `asked` holds every operation in order. While `answering` is False outcomes are held back.
    """

    def __init__(self, loop: EventLoop) -> None:
        self.decide: Callable[[Operation], Outcome] = default_decision
        self.asked: list[Operation] = []
        self.answering = True
        self.facts = StoreFacts(SERVER_ID, 7, 100)
        self.bytes_in_flight = 0
        self._answers: list[Callable[[], None]] = []
        self._losses: list[Callable[[], None]] = []
        loop.at_turn_end(self.resume_output)

    def submit(self, operation: Operation, waiter: Waiter, size: int = 0) -> None:
        self.asked.append(operation)
        self._pend(
            size,
            lambda: waiter.answered(operation, self.decide(operation)),
            lambda: waiter.unknown(operation),
        )

    def submit_sends(self, run: PipelinedSends, authenticated: bool, cost: int, sender: Sender) -> None:
        messages = [
            StoreMessage(
                request.requester, authenticated, request.recipient, request.kind, request.content, request.token
            )
            for request in run.requests()
        ]
        self.asked += messages

        def answer() -> None:
            outcomes = [self.decide(message) for message in messages]
            stored = [outcome.sequence for outcome in outcomes if isinstance(outcome, Stored)]
            refused = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Refused)}
            sender.sends_answered(run.recipients, cost, stored[0] if stored else 0, refused)

        self._pend(cost, answer, sender.abort)

    def _pend(self, size: int, answer: Callable[[], None], lose: Callable[[], None]) -> None:
        self.bytes_in_flight += size

        def answered() -> None:
            self.bytes_in_flight -= size
            answer()

        self._answers.append(answered)
        self._losses.append(lose)

    shards = 1

    def of(self, client_id: bytes) -> "MemoryStorage":
        return self

    @property
    def directory(self) -> "MemoryStorage":
        return self

    others: Sequence["MemoryStorage"] = ()

    @property
    def collects(self) -> bool:
        return self.answering and bool(self._answers)

    def resume_output(self) -> None:
        while self.collects:
            answers, self._answers, self._losses = self._answers, [], []
            for answer in answers:
                answer()

    def lose(self) -> None:
        """Whether anything that was held back is done will never be known."""
        losses, self._answers, self._losses = self._losses, [], []
        for lost in losses:
            lost()

    def asked_for(self, kind: type) -> list[Operation]:
        return [operation for operation in self.asked if isinstance(operation, kind)]


class Scene:
    """One session on a transport in memory. `network`: where it comes from, if limits hold for
    it.
    """

    def __init__(
        self, settings: Settings | None = None, peer: MemoryTransport | None = None, network: str | None = None
    ) -> None:
        self.clock = Clock()
        self.loop = EventLoop(self.clock)
        self.storage = MemoryStorage(self.loop)
        link = cast("StorageLink", self.storage)
        self.settings = settings or Settings()
        self.context = SessionContext(self.loop, lambda _listener: link, self.settings, bytes)
        self.peer = peer or MemoryTransport()
        self.peers = [self.peer]
        self.session = self._connected(self.peer, network)

    def _connected(self, peer: Transport, network: str | None) -> Session:
        allowance = None
        if network is not None:
            allowance = self.context.rates.connected(network, self.loop.now, with_handshake=False)
            assert allowance is not None
        return Session(peer, self.context, allowance)

    def another(self, network: str | None = None) -> "MemoryTransport":
        """One more client, whose session turns with the first one's."""
        peer = MemoryTransport()
        self.peers.append(peer)
        self._connected(peer, network)
        return peer

    def is_in(self, state: State) -> bool:
        """Whether that is the session's state."""
        return self.session.state is state

    def reads(self) -> bool:
        """Whether the gateway wants to hear of what the peer says."""
        return self.peer.reads

    def writes(self) -> bool:
        """Whether it waits until it can write."""
        return self.peer.writes

    def turn(self, number: int = 3) -> None:
        """Turns of the event loop: news, timers, answers, writes."""
        for _ in range(number):
            for peer in self.peers:
                peer.report()
            self.loop.turn(0)

    def say(self, *data: bytes | Request, peer: MemoryTransport | None = None) -> bytes:
        """The peer says something; what it gets within the next turns."""
        peer = peer or self.peer
        for part in data:
            peer.say(part)
        self.turn()
        return peer.take()

    def pass_time(self, seconds: float, step: float = 0.2) -> None:
        """Let the clock go on, with a turn at each step."""
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(end, self.clock.time + step)
            self.turn(1)

    def close(self) -> None:
        for session in list(self.context.sessions):
            session.abort()
        self.loop.close()
