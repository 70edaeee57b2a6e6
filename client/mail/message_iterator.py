"""Received messages one after the other, for a `for` loop that lasts as long as there is mail.

Owns: waiting for the next message, and when one counts as received.
Promises: a message counts as received when the next one is asked for, or `acknowledge` says so, or
a `with` around the loop ends without an exception; otherwise it is given once more, as `repeated`.
So each message is processed at least once, whatever breaks.
Exposure: as `client.mail.inbox`.

Source: docs/library.md, docs/journeys.md.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Final, Protocol, Self

from client.mail.inbox import LONGEST_SERVER_WAIT
from client.messages import Received

_ENOUGH: Final = True
POLL: Final = 2.0
"""Seconds between two requests to a server that can't hold a request open."""


class Receive(Protocol):
    """Receives pending messages, or those that arrive within that many seconds; sent True, it ends
    after the message that it yielded.
    """

    def __call__(self, wait: float, /) -> Generator[Received, bool | None]:
        """Begin."""


class Messages(Iterator[Received]):
    """An iterator of received messages, and a context manager that acknowledges the last one.

    Meanwhile no other process of this home receives. A failure only ends the loop: iterate again to
    continue.
    """

    def __init__(
        self, receive: Receive, wait: float | None, monotonic: Callable[[], float], rest: Callable[[float], None]
    ) -> None:
        self._receive = receive
        self._wait = wait
        self._monotonic = monotonic
        self._rest = rest
        self._receiving: Generator[Received, bool | None] | None = None

    def __next__(self) -> Received:
        """Acknowledge the previous message, and return the next one. Raises what
        `Messenger.receive` raises.
        """
        end = None if self._wait is None else self._monotonic() + self._wait
        try:
            if self._receiving is not None:
                with suppress(StopIteration):
                    return next(self._receiving)
                self._receiving = None
                if not self._wait and self._wait is not None:
                    raise StopIteration
            while True:
                left = float(LONGEST_SERVER_WAIT) if end is None else max(0.0, end - self._monotonic())
                self._receiving = self._receive(left)
                with suppress(StopIteration):
                    return next(self._receiving)
                self._receiving = None
                if end is not None and self._monotonic() >= end:
                    raise StopIteration
                self._rest(POLL if end is None else max(0.0, min(POLL, end - self._monotonic())))
        except BaseException:
            self._receiving = None
            raise

    def acknowledge(self) -> None:
        """Mark the last message as received. Raises `StoreUnusable`."""
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            with suppress(StopIteration):
                receiving.send(_ENOUGH)
            receiving.close()

    def close(self) -> None:
        """Let other processes receive. The last message, unless it was acknowledged, is given
        again.
        """
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.acknowledge()
        else:
            self.close()
