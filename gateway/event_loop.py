"""The event loop: sockets that are ready, timers that are due, and what runs at the end of each
turn.

Owns: the epoll set and the timers of the process.
Promises: level-triggered readiness to one handler per descriptor, of which a turn takes
`_READY_AT_ONCE` at most and the next turn others; timers never early, and cancelled ones take at
most as much memory as the others; an exception in a handler is a bug, and ends the loop. One
thread.
Exposure: none; it moves no bytes.

Why not asyncio: the gateway must see POLLERR and POLLHUP of half-closed connections, look at
unacknowledged bytes, and stop reading individual sockets; asyncio's transports hide the first two
and cost more memory for each idle connection (docs/decisions/0002-the-gateways-event-loop.md).
"""

import heapq
import select
import signal
import socket
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR
HUNG_UP: Final = select.EPOLLHUP
_LONGEST_SLEEP: Final = 60.0
_READY_AT_ONCE: Final = 1024
"""Sockets that one turn handles, so that answers leave in between, however many are ready. With a
quarter of it the sends of 1,000 busy connections travel in smaller batches, which cost both
programs more.
"""
_CANCELLED_KEPT: Final = 64
"""Cancelled timers that are not worth clearing away."""


class Handler(Protocol):
    """Called when its descriptor is ready."""

    def ready(self, events: int) -> None:
        """`events`: an epoll mask; BROKEN and HUNG_UP are always reported."""


class Timer:
    """A call that is due at a given time, unless it is cancelled."""

    __slots__ = ("_timers", "callback")

    def __init__(self, callback: Callable[[], None], timers: "Timers") -> None:
        self.callback: Callable[[], None] | None = callback
        self._timers = timers

    def cancel(self) -> None:
        """Cancel the call."""
        if self.callback is not None:
            self.callback = None
            self._timers.one_cancelled()


class Timers:
    """The timers of a loop, the next one first. Cancelled ones are removed when they are the
    majority.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self.cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once, at monotonic second `when`."""
        timer = Timer(callback, self)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        return timer

    def one_cancelled(self) -> None:
        """One of these timers was cancelled."""
        self.cancelled += 1
        if self.cancelled > _CANCELLED_KEPT and self.cancelled * 2 > len(self._heap):
            # In place, for `run_due` may be at work on it.
            self._heap[:] = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self.cancelled = 0

    @property
    def next_at(self) -> float | None:
        """When the next one is due, in monotonic seconds; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self.cancelled -= 1
        return heap[0][0] if heap else None

    def run_due(self, now: float) -> None:
        """Call what is due at monotonic second `now`."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _when, _number, timer = heapq.heappop(heap)
            callback, timer.callback = timer.callback, None
            if callback is None:
                self.cancelled -= 1
            else:
                callback()


class SignalReceiver:
    """A `Handler`: SIGTERM and SIGINT arrive as bytes of a socket pair, wake the loop and
    stop it. SIGHUP does nothing.
    """

    def __init__(self, loop: "EventLoop") -> None:
        self._loop = loop
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        # There is no log file to be opened again, and settings are read at the start alone.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        loop.register(self._inside.fileno(), self, READABLE)

    def ready(self, events: int) -> None:
        """A signal came: stop."""
        self._inside.recv(64)
        self._loop.stop()

    def close(self) -> None:
        """Stop receiving signals."""
        signal.set_wakeup_fd(-1)
        self._loop.unregister(self._inside.fileno())
        self._inside.close()
        self._outside.close()


class EventLoop:
    """`clock` gives monotonic seconds; `now` is its value at the start of the turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self.timers = Timers()
        self._new: set[int] = set()
        self._turn_ends: list[Callable[[], None]] = []
        self._running = False
        self.now = clock()

    def register(self, descriptor: int, handler: Handler, events: int) -> None:
        """Report `events` (an epoll mask) on `descriptor` to `handler`."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler
        self._new.add(descriptor)

    def modify(self, descriptor: int, events: int) -> None:
        """Change what a registered descriptor is watched for; 0 still brings BROKEN and HUNG_UP."""
        self._epoll.modify(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed."""
        self._epoll.unregister(descriptor)
        del self._handlers[descriptor]

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back once, at monotonic second `when` or soon after."""
        return self.timers.add(when, callback)

    def at_turn_end(self, callback: Callable[[], None]) -> None:
        """Call back at the end of every turn, in the order of registration."""
        self._turn_ends.append(callback)

    def run(self) -> None:
        """Run turns until `stop`."""
        self._running = True
        while self._running:
            self.turn(_LONGEST_SLEEP)

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()

    def turn(self, longest_sleep: float) -> None:
        """Sleep until something is ready or due, at most `longest_sleep` seconds; handle
        it; run the turn's ends.
        """
        next_at = self.timers.next_at
        wait = longest_sleep if next_at is None else min(longest_sleep, max(0.0, next_at - self.clock()))
        ready = self._epoll.poll(wait, _READY_AT_ONCE)
        self.now = now = self.clock()
        handlers = self._handlers
        new = self._new
        new.clear()
        for descriptor, events in ready:
            handler = handlers.get(descriptor)
            # A descriptor that was closed and given out again within this turn has no part in the
            # news of the old one.
            if handler is not None and descriptor not in new:
                handler.ready(events)
        self.timers.run_due(now)
        for turn_end in self._turn_ends:
            turn_end()
