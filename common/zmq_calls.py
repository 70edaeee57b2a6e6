"""The calls of a ZeroMQ socket that both ends of the link make for every batch, as directly as
pyzmq allows.

Owns: receiving and sending messages of one frame.
Promises: nothing here waits, but for `wait`. What arrives in more than one frame is taken off the
socket as a whole, and reported.
Exposure: frames come from whoever may open the link's socket.

`getsockopt`, `recv_multipart` and `send_multipart` do the same for four to fifteen times the
instructions, which with one message in a batch were a seventh of all that both programs do:
docs/decisions/0027-wake-ups-and-turns.md.
"""

from collections.abc import Sequence
from typing import Final

import zmq
from zmq.backend import zmq_poll

from common.errors import FrameUndecodable

_POLLIN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_NOBLOCK_AND_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
LARGE_FRAME: Final = 65536
"""Bytes from which on a frame that is sent is not copied."""


class ZmqCalls:
    """The calls of one socket. They raise `zmq.ZMQError`."""

    __slots__ = ("_items", "_receive", "_send")

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._items = [(socket, _POLLIN)]
        # Those of pyzmq's own class, beneath the one that checks arguments.
        self._receive = super(zmq.Socket, socket).recv
        self._send = super(zmq.Socket, socket).send

    def has_input(self) -> bool:
        """Whether a message is there. As with `EVENTS`, asking is what makes the next edge of the
        socket's descriptor come.
        """
        return bool(zmq_poll(self._items, 0))

    def receive(self) -> bytes:
        """The one frame of the next message. Raises `FrameUndecodable` for one of several."""
        # What says whether there is more comes with it.
        frame = self._receive(_NOBLOCK, False)  # noqa: FBT003
        parts = 1
        more = frame.more
        while more:
            more = self._receive(_NOBLOCK, False).more  # noqa: FBT003
            parts += 1
        if parts > 1:
            raise FrameUndecodable(f"{parts} parts instead of one")
        return frame.bytes

    def receive_routed(self) -> tuple[bytes, bytes]:
        """The same of a socket that puts the peer's name first: that name, and the frame."""
        return self._receive(_NOBLOCK), self.receive()

    def send(self, frame: bytes) -> None:
        """Send a message of one frame."""
        if len(frame) < LARGE_FRAME:
            self._send(frame, _NOBLOCK)
        else:
            # What is sent again and again to a worker that sleeps costs its memory once.
            self._send(frame, _NOBLOCK, copy=False)

    def send_routed(self, peer: bytes, frame: bytes) -> None:
        """Send a message of one frame to the peer of that name."""
        self._send(peer, _NOBLOCK_AND_MORE)
        self._send(frame, _NOBLOCK)


def wait(items: "Sequence[tuple[zmq.Socket[bytes] | int, int]]", milliseconds: int | None) -> set[object]:
    """Wait until one of `items` (socket or descriptor, and events) is ready, or until the time is
    up; which ones are. None: for as long as it takes.
    """
    return {one for one, _events in zmq_poll(items, -1 if milliseconds is None else milliseconds)}
