"""Connections that are still being opened: how many there may be, for how long, and how fast.

Owns: which connections are in a TLS handshake or still have to name the client behind a proxy.
Promises: each has `Settings.opening_time` seconds, however slowly its bytes come. There are at most
`Settings.openings`; one more replaces the oldest of the network that has the most, so that whoever
opens many and finishes none can't keep others out. A connection that waits for the server, or is
younger than `Settings.opening_kept` seconds, is not closed for another one, which waits in the
kernel's queue instead; so all clients may reconnect at once. One turn of the loop takes
`Settings.openings_a_turn` steps, because a step may cost as much as a hundred messages. Their
memory counts in the memory budget.
Exposure: anybody who reaches the address.

Source: docs/client-protocol.md, "TLS".
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from gateway.connection.containment import Breakable
from gateway.connection.memory_budget import MemoryBudget
from gateway.connection.slow_steps import SlowSteps
from gateway.event_loop import EventLoop
from gateway.settings import Settings

_SIZE: Final = 40 * 1024
"""What one counts as in the memory budget: OpenSSL's state, its buffers, and what came."""
_NETWORK_BITS: Final = 64
"""Of an address of IPv6: whoever has one has at least so many."""
_IPV6_BITS: Final = 128


class Opening(Breakable, Protocol):
    """A connection that is being opened. `network`: the network it counts for; see `network_of`."""

    network: str

    @property
    def authenticated_as(self) -> None:
        """Always None: it has not authenticated yet."""

    def step(self) -> None:
        """Continue with new input."""


def network_of(address: str) -> str:
    """The network that a peer's numeric address counts for: the address itself, or the /64
    of IPv6.
    """
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{int(found) >> (_IPV6_BITS - _NETWORK_BITS):x}"


class Openings:
    """One for the gateway."""

    def __init__(self, loop: EventLoop, holdings: MemoryBudget, settings: Settings) -> None:
        self._loop = loop
        self._holdings = holdings
        self._settings = settings
        self._since: OrderedDict[Opening, float] = OrderedDict()
        self._of_network: Counter[str] = Counter()
        self._steps = SlowSteps(loop, settings.openings_a_turn)
        self._queued: set[Opening] = set()
        self._wait_for_room: list[Callable[[], None]] = []
        self._is_timed = False
        self.handshakes = {"done": 0, "failed": 0}
        """Of TLS, how many ended how."""

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[Opening]:
        return iter(self._since)

    def has_room(self) -> bool:
        """Whether `make_room` would succeed. Closes nothing."""
        return len(self._since) < self._settings.openings or self._victim() is not None

    def make_room(self) -> bool:
        """Make room for one more, closing another if needed. Returns whether there is room."""
        if len(self._since) < self._settings.openings:
            return True
        victim = self._victim()
        if victim is not None:
            victim.abort()
        return victim is not None

    def when_there_is_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when one of them has opened or ended."""
        self._wait_for_room.append(callback)

    def begin(self, opening: Opening) -> None:
        """A connection begins to open."""
        self._since[opening] = self._loop.now
        self._of_network[opening.network] += 1
        self._holdings.changed(opening, 0, _SIZE)
        if not self._is_timed:
            self._is_timed = True
            self._loop.call_at(self._loop.now + self._settings.opening_time, self._end_late_ones)

    def _victim(self) -> Opening | None:
        network, _count = self._of_network.most_common(1)[0]
        latest = self._loop.now - self._settings.opening_kept
        for opening, since in self._since.items():
            if since > latest:
                break
            if opening.network == network and opening not in self._queued:
                return opening
        return None

    def ended(self, opening: Opening) -> None:
        """It has opened, or ended."""
        if self._since.pop(opening, None) is None:
            return
        self._of_network[opening.network] -= 1
        if not self._of_network[opening.network]:
            del self._of_network[opening.network]
        self._holdings.changed(opening, _SIZE, 0)
        self._queued.discard(opening)
        if self._wait_for_room:
            waiting, self._wait_for_room = self._wait_for_room, []
            for callback in waiting:
                callback()

    def wait(self, opening: Opening) -> None:
        """Input came: call `step` once, at the end of this turn or a later one."""
        self._queued.add(opening)
        self._steps.add(opening, partial(self._step, opening))

    def _step(self, opening: Opening) -> None:
        if opening in self._since:
            self._queued.discard(opening)
            opening.step()

    def _end_late_ones(self) -> None:
        now, seconds = self._loop.now, self._settings.opening_time
        late = [opening for opening, since in self._since.items() if since + seconds <= now]
        for opening in late:
            # One that went before it may have ended it.
            if opening in self._since:
                opening.abort()
        oldest = next(iter(self._since.values()), None)
        self._is_timed = oldest is not None
        if oldest is not None:
            self._loop.call_at(oldest + seconds, self._end_late_ones)
