"""How many connections there may be, and which one is closed to make room.

Owns: the choice of the connection that is closed when a new one finds no place.
Promises: no connection is closed while there are places. After that, the unauthenticated connection
that has been idle longest is closed. The last `kept` places are reserved for authenticated
connections: a new connection that gets one of them, because no other is idle, has
`Settings.time_to_prove` seconds to authenticate. If these are taken too, the user with the most
connections that are idle or wait for mail loses the one that has been silent longest, so that
nobody can occupy all places by authenticating on each.
Exposure: anybody who reaches the address chooses how many connections to open.

Source: docs/client-protocol.md, "Connections".
"""

import heapq
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from gateway.connection.base import Connection
from gateway.event_loop import EventLoop
from gateway.settings import Settings

_CANDIDATES: Final = 256
"""Idle connections that one look at all of them finds; the look costs a millisecond for
ten thousand.
"""
_LOOK_AGAIN_AFTER: Final = 0.1
_KEPT_SHARE: Final = 16
_MOST_KEPT: Final = 256


def _idle_since(occupant: Connection) -> float | None:
    return occupant.idle_since


def _parked_since(occupant: Connection) -> float | None:
    return occupant.parked_since


def _aborted(occupant: Connection | None) -> bool:
    """Close the connection, if there is one. Returns whether there was."""
    if occupant is not None:
        occupant.abort()
    return occupant is not None


def _longest_idle_first(found: tuple[float, int, Connection]) -> tuple[float, int]:
    return found[:2]


class Capacity:
    """The places of one gateway. `occupants`: the open connections; the caller keeps this set."""

    def __init__(self, loop: EventLoop, settings: Settings, occupants: Collection[Connection]) -> None:
        self._loop = loop
        self._settings = settings
        self._occupants = occupants
        self._kept = min(settings.connections // _KEPT_SHARE, _MOST_KEPT)
        self._idle = _Candidates(loop, _idle_since, self._unauthenticated)
        self._parked = _Candidates(loop, _parked_since, self._of_one_user)
        self._on_trial: deque[tuple[float, Connection]] = deque()

    @property
    def crowded(self) -> bool:
        """Whether all free places are reserved ones, or there are none."""
        return len(self._occupants) >= self._settings.connections - self._kept

    def has_one(self) -> bool:
        """Whether `make_one` would find a place. Closes nothing."""
        return not self.crowded or self.can_free_one() or len(self._occupants) < self._settings.connections

    def make_one(self) -> bool:
        """Make a place for a new connection, closing another if needed. Returns whether there is
        one.
        """
        return (
            not self.crowded
            or _aborted(self._idle.take())
            or len(self._occupants) < self._settings.connections
            or _aborted(self._parked.take())
        )

    def can_free_one(self) -> bool:
        """Whether `free_one` would close a connection."""
        return self._idle.has_one() or self._parked.has_one()

    def free_one(self) -> bool:
        """Close an idle connection, an authenticated one only if no other is idle. False if none
        is.
        """
        return _aborted(self._idle.take()) or _aborted(self._parked.take())

    def taken(self, occupant: Connection) -> None:
        """A connection was opened. If it took a reserved place, it has to authenticate soon."""
        if len(self._occupants) > self._settings.connections - self._kept:
            when = self._loop.now + self._settings.time_to_prove
            self._on_trial.append((when, occupant))
            if len(self._on_trial) == 1:
                self._loop.call_at(when, self._end_trials)

    def _end_trials(self) -> None:
        while self._on_trial and self._on_trial[0][0] <= self._loop.now:
            _when, occupant = self._on_trial.popleft()
            crowded = len(self._occupants) > self._settings.connections - self._kept
            if crowded and occupant.authenticated_as is None and not occupant.closed:
                occupant.abort()
        if self._on_trial:
            self._loop.call_at(self._on_trial[0][0], self._end_trials)

    def _unauthenticated(self) -> list[tuple[float, Connection]]:
        latest = self._loop.now - self._settings.idle_before_closed
        idle = [
            (since, number, occupant)
            for number, occupant in enumerate(self._occupants)
            if (since := occupant.idle_since) is not None and since <= latest
        ]
        found = heapq.nsmallest(_CANDIDATES, idle, key=_longest_idle_first)
        return [(since, occupant) for since, _number, occupant in found]

    def _of_one_user(self) -> list[tuple[float, Connection]]:
        """As many as this user has more than any other, and at least one."""
        latest = self._loop.now - self._settings.idle_before_closed
        of_user: dict[bytes, list[tuple[float, int, Connection]]] = {}
        for number, occupant in enumerate(self._occupants):
            since = occupant.parked_since
            if occupant.authenticated_as is not None and since is not None and since <= latest:
                of_user.setdefault(occupant.authenticated_as, []).append((since, number, occupant))
        by_size = sorted(of_user.values(), key=len, reverse=True)
        if not by_size:
            return []
        most = by_size[0]
        next_most = len(by_size[1]) if len(by_size) > 1 else 0
        count = min(max(len(most) - next_most, 1), _CANDIDATES)
        found = heapq.nsmallest(count, most, key=_longest_idle_first)
        return [(since, occupant) for since, _number, occupant in found]


class _Candidates:
    """Connections that may be closed. `look` finds them, best candidate first, and is not called
    too often.

    `since` still gives the time with which a connection was found, unless it has done something
    since.
    """

    def __init__(
        self,
        loop: EventLoop,
        since: Callable[[Connection], float | None],
        look: Callable[[], list[tuple[float, Connection]]],
    ) -> None:
        self._loop = loop
        self._since = since
        self._look = look
        self._found: deque[tuple[float, Connection]] = deque()
        self._look_again_at = 0.0

    def take(self) -> Connection | None:
        """Remove and return the next candidate; None if there is none."""
        return self._found.popleft()[1] if self.has_one() else None

    def has_one(self) -> bool:
        """Whether there is a candidate."""
        for looked in (False, True):
            while self._found:
                since, occupant = self._found[0]
                # It may have gone, or said something, since it was found.
                if not occupant.closed and self._since(occupant) == since:
                    return True
                self._found.popleft()
            if not looked and self._loop.now >= self._look_again_at:
                self._found.extend(self._look())
                if len(self._found) < _CANDIDATES:
                    self._look_again_at = self._loop.now + _LOOK_AGAIN_AFTER
        return False
