"""Capacity for connections, and who makes room when they run out.

Owns: which connection goes when one more comes and there is no place for it.
Promises: while there are places nobody goes. When they run out, the connection goes that has been
idle the longest among those that did not prove themselves. The last `kept` places are for proven
ones: who comes to one of these, for want of any idle connection, has `Settings.time_to_prove`
seconds to prove itself.
Exposure: anybody who reaches the address chooses how many connections there are, and none of his is
spared by number.

Source: docs/client-protocol.md, "Connections".
"""

import heapq
from collections import deque
from collections.abc import Collection
from typing import Final, Protocol

from gateway.event_loop import EventLoop
from gateway.settings import Settings

_CANDIDATES: Final = 256
"""Idle connections that one look at all of them finds; the look costs a millisecond for
ten thousand.
"""
_LOOK_AGAIN_AFTER: Final = 0.1
_KEPT_SHARE: Final = 16
_MOST_KEPT: Final = 256


class Occupant(Protocol):
    """A connection."""

    proven_as: bytes | None

    @property
    def idle_since(self) -> float | None:
        """When it last said or took something, in monotonic seconds; None where it is
        proven or waits for us.
        """

    @property
    def closed(self) -> bool:
        """Whether it is gone."""

    def abort(self) -> None:
        """Close now."""


def _longest_idle_first(found: tuple[float, int, Occupant]) -> tuple[float, int]:
    return found[:2]


class Capacity:
    """Of one gateway. `occupants` are the open connections, kept by somebody else."""

    def __init__(self, loop: EventLoop, settings: Settings, occupants: Collection[Occupant]) -> None:
        self._loop = loop
        self._settings = settings
        self._occupants = occupants
        self._kept = min(settings.connections // _KEPT_SHARE, _MOST_KEPT)
        self._candidates: deque[tuple[float, Occupant]] = deque()
        self._look_again_at = 0.0
        self._on_trial: deque[tuple[float, Occupant]] = deque()

    @property
    def crowded(self) -> bool:
        """Whether only kept places are free, or none."""
        return len(self._occupants) >= self._settings.connections - self._kept

    def make_one(self) -> bool:
        """Whether there is a place for the connection that waits. May close another for it."""
        return not self.crowded or self.free_one() or len(self._occupants) < self._settings.connections

    def free_one(self) -> bool:
        """Close the unproven connection that has been idle the longest; False where there
        is none.
        """
        occupant = self._next_candidate()
        if occupant is None:
            return False
        occupant.abort()
        return True

    def taken(self, occupant: Occupant) -> None:
        """A connection came. Where it came to a kept place it has to prove itself soon."""
        if len(self._occupants) > self._settings.connections - self._kept:
            when = self._loop.now + self._settings.time_to_prove
            self._on_trial.append((when, occupant))
            if len(self._on_trial) == 1:
                self._loop.call_at(when, self._end_trials)

    def _end_trials(self) -> None:
        while self._on_trial and self._on_trial[0][0] <= self._loop.now:
            _when, occupant = self._on_trial.popleft()
            crowded = len(self._occupants) > self._settings.connections - self._kept
            if crowded and occupant.proven_as is None and not occupant.closed:
                occupant.abort()
        if self._on_trial:
            self._loop.call_at(self._on_trial[0][0], self._end_trials)

    def _next_candidate(self) -> Occupant | None:
        for looked in (False, True):
            while self._candidates:
                since, occupant = self._candidates.popleft()
                # It may have gone, or said something, since it was found.
                if not occupant.closed and occupant.idle_since == since:
                    return occupant
            if not looked and self._loop.now >= self._look_again_at:
                self._look_for_candidates()
        return None

    def _look_for_candidates(self) -> None:
        latest = self._loop.now - self._settings.idle_before_closed
        idle = [
            (since, number, occupant)
            for number, occupant in enumerate(self._occupants)
            if (since := occupant.idle_since) is not None and since <= latest
        ]
        found = heapq.nsmallest(_CANDIDATES, idle, key=_longest_idle_first)
        self._candidates.extend((since, occupant) for since, _number, occupant in found)
        if len(found) < _CANDIDATES:
            self._look_again_at = self._loop.now + _LOOK_AGAIN_AFTER
