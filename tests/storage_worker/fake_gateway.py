"""A scripted gateway: one DEALER socket on a worker's link. It says what the test says
and waits with a time limit.
"""

from pathlib import Path
from types import TracebackType

import zmq

from common.data_folder import link_endpoint
from common.storage_protocol.frames import (
    Batch,
    Hello,
    Reply,
    ToGateway,
    Welcome,
    decode_to_gateway,
    encode_batch,
    encode_hello,
)
from common.storage_protocol.operations import Operation, Outcome
from torture.patience import HANG_SECONDS


class FakeGateway:
    """Connects to the worker of `folder`. `hello` and `ask` are the well-behaved ways."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 10)
        self.socket.connect(link_endpoint(folder))
        self.epoch = 0
        self.number = 0

    def __enter__(self) -> "FakeGateway":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        self._context.term()

    def send(self, *frames: bytes) -> None:
        """Any frames."""
        self.socket.send_multipart(frames)

    def receive(self, patience_ms: int = int(HANG_SECONDS * 1000)) -> ToGateway:
        """The next message of the worker."""
        assert self.socket.poll(patience_ms), "the worker is silent"
        [frame] = self.socket.recv_multipart()
        return decode_to_gateway(frame)

    def is_silent(self, patience_ms: int = 100) -> bool:
        """Whether nothing comes."""
        return not self.socket.poll(patience_ms)

    def hello(self, incarnation: bytes, slot: int = 0) -> Welcome:
        """Take the slot."""
        self.send(encode_hello(Hello(slot, incarnation)))
        welcome = self.receive()
        assert isinstance(welcome, Welcome), welcome
        self.epoch, self.number = welcome.epoch, 0
        return welcome

    def batch(self, *operations: Operation) -> bytes:
        """The frame of the next batch of slot 0."""
        self.number += 1
        return encode_batch(Batch(0, self.epoch, self.number, list(operations)))

    def ask(self, *operations: Operation) -> list[Outcome]:
        """The outcomes of a batch."""
        self.send(self.batch(*operations))
        return self.reply().outcomes

    def reply(self) -> Reply:
        """The next message, which is a reply to the last number."""
        reply = self.receive()
        assert isinstance(reply, Reply), reply
        assert reply.number == self.number
        return reply
