"""One client's output: the turn's answers, joined into one write, and what the transport did not
take.

Owns: outgoing bytes, from an answer to the kernel, and their byte order.
Promises: answers leave in the order in which they were given, in one write per turn; what the
transport did not take stays, and leaves first the next time.
Exposure: the client decides how much is taken, and when.

Who writes when, and how long a client may take, is `gateway.connection.session`'s.
"""

from collections.abc import Iterator

from common import fail_points
from common.client_protocol.dialects import BigEndianReplies
from common.client_protocol.fields import RESPONSE_HEADER
from common.fail_points import FailPoint
from gateway.connection.transport import Transport
from gateway.counts import Counts


def _code_of(response: bytes) -> Iterator[str]:
    """For a fail point: the code that a response begins with."""
    if len(response) >= RESPONSE_HEADER.size:
        yield str(RESPONSE_HEADER.unpack_from(response)[1])


class Output:
    """The output of one connection. `unsent`: what was not taken, or None; `unsent_size`: bytes of
    the whole buffer that it keeps in memory.
    """

    __slots__ = ("_counts", "_parts", "_replies", "_transport", "_written", "unsent", "unsent_size")

    def __init__(self, transport: Transport, counts: Counts) -> None:
        self._counts = counts
        self._transport = transport
        self._parts: list[bytes] | None = None
        self._replies: BigEndianReplies | None = None
        self._written = 0
        self.unsent: memoryview | None = None
        self.unsent_size = 0

    def say(self, data: bytes) -> None:
        """Add `data` to this turn's answers."""
        if self._parts is None:
            self._parts = [data]
        else:
            self._parts.append(data)

    @property
    def said(self) -> int:
        """Bytes of all answers so far."""
        return self._written + sum([len(part) for part in self._parts or ()])

    def turn_big_endian(self) -> None:
        """The client uses big-endian numbers, from its first answer on."""
        self._replies = BigEndianReplies()

    def write(self) -> bool:
        """Send all answers since the last call. The hot path.

        Returns whether this is the first time that some of it was not taken. Raises `OSError` if
        the connection is broken.
        """
        parts, self._parts = self._parts, None
        if not parts:
            return False
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._replies is not None:
            data = self._replies.turn(data)
        size = len(data)
        self._written += size
        self._counts.bytes_out += size
        if self.unsent is not None:
            together = b"".join((self.unsent, data))
            self.unsent, self.unsent_size = memoryview(together), len(together)
            return False
        if fail_points.armed() and fail_points.due(FailPoint.GATEWAY_REPLYING, _code_of(data)):
            self._transport.send(data[: len(data) // 2])
            fail_points.die()
        try:
            sent = self._transport.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return False
        self.unsent, self.unsent_size = memoryview(data)[sent:], len(data)
        return True

    def write_more(self) -> bool:
        """Send more of what was not taken. Returns whether any was taken. Raises `OSError` as
        `write`.
        """
        if self.unsent is None:
            return False
        try:
            sent = self._transport.send(self.unsent)
        except BlockingIOError:
            return False
        self.unsent = self.unsent[sent:]
        if not self.unsent:
            self.unsent, self.unsent_size = None, 0
        return True

    def drop(self) -> None:
        """The connection is gone: drop all output."""
        self._parts = self.unsent = None
        self.unsent_size = 0
