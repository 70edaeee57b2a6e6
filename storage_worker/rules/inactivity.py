"""Rules of inactivity: users who were not seen for so many days are deleted.

Owns: how long the worker has run, and how far a look through the users is. Promises: time counts
while the worker runs, 24 hours for a day, so that neither a server that was off nor a clock that
was set deletes anybody. Nobody is deleted whose last day is not known, who is disabled, or who was
seen on a day that is still to come. A step takes a bounded part of the loop's time, and the next
one waits until what it deleted is gone.
Exposure: the clock of the machine. Who lets others be seen is `storage_worker.rules.activity`.

Source: docs/decisions/0021-inactive-users.md.
"""

import logging
from collections.abc import Callable
from typing import Final

from common.server_log import audit_inactivity
from storage_worker.engine.interface import Engine
from storage_worker.engine.records import RunningNoted
from storage_worker.engine.values import Deletion, User
from storage_worker.rules.activity import DAY_MS

log = logging.getLogger("storage_worker")

HOUR_MS: Final = 3600 * 1000
LONGEST_STEP_MS: Final = 2 * 60 * 1000
"""What is more between two looks, which come every minute at least, is no time that passed: the
machine slept, or its clock was set."""
ROWS_AT_ONCE: Final = 1_000
DELETED_AT_ONCE: Final = 16
_HOURS_A_DAY: Final = 24


class Inactivity:
    """`days`: after which a user is deleted; 0: never. `remove`: inside a turn, delete a user."""

    def __init__(self, engine: Engine, remove: Callable[[User], object], days: int) -> None:
        self._engine = engine
        self._users = engine.users
        self._remove = remove
        self.days = days
        self._looked_at = -1
        self._run_ms = 0
        self._today = -1
        self._noted_day = -1
        self._first_day = 0
        self._place: int | None = None
        """Users up to this row were looked at."""
        self._until = 0
        self._leaving: list[bytes] = []
        """Those who were deleted last, until nothing is left of them."""
        self._next: int | None = None
        self._marked: list[bytes] = []
        self._deleted = 0

    # --- how long the worker has run
    # ----------------------------------------------------------------------------------------------

    def look(self, now_ms: int) -> None:
        """Between two turns: time passes."""
        if not self.days:
            return
        if self._looked_at >= 0 and 0 < now_ms - self._looked_at <= LONGEST_STEP_MS:
            self._run_ms += now_ms - self._looked_at
        self._looked_at = now_ms
        self._today = now_ms // DAY_MS

    @property
    def note_is_due(self) -> bool:
        """Whether `note` has something to do: an hour is over, or a day has begun."""
        return bool(self.days) and (self._run_ms >= HOUR_MS or self._today != self._noted_day)

    def note(self) -> None:
        """Inside a turn."""
        self._engine.apply(RunningNoted(self._today, self._run_ms // HOUR_MS))

    def noted(self, problem: str | None) -> None:
        """That turn was committed, or undone for a problem."""
        hours, self._run_ms = divmod(self._run_ms, HOUR_MS)
        self._noted_day = self._today
        if problem is not None:
            # An hour that is not counted lets everybody stay longer.
            log.warning("how long the storage worker has run can't be noted now: %s", problem)
        elif hours and self._place is None:
            self._begin()

    def _begin(self) -> None:
        with self._engine.reading():
            running = self._engine.running_time
            # A user may have been seen just before an hour was over.
            before = running.hours() - self.days * _HOURS_A_DAY - 1
            first_day = running.first_day_after(before) if before >= 0 else None
            if first_day is not None:
                self._first_day, self._place, self._deleted = first_day, 0, 0
                self._until = self._users.last_row()

    # --- looking through the users
    # ----------------------------------------------------------------------------------------------

    @property
    def goes_on(self) -> bool:
        """Whether `step` has something to do."""
        return self._place is not None

    @property
    def is_busy(self) -> bool:
        """Whether it could do it at once."""
        return self._place is not None and not self._leaving

    def step(self) -> None:
        """Inside a turn: delete some. Raises `TablesDamaged`."""
        assert self._place is not None, "it goes on"
        self._next, self._marked = self._place, self._leaving
        if any(self._users.deletion(client_id) is Deletion.GOES_ON for client_id in self._leaving):
            return
        end = min(self._place + ROWS_AT_ONCE, self._until)
        found = self._users.unseen_since(self._first_day, self._place, end)
        taken = found[:DELETED_AT_ONCE]
        for user in taken:
            # Before the commit: an undone turn writes the line again, and none is left out.
            audit_inactivity(user.client_id)
            self._remove(user)
        self._marked = [user.client_id for user in taken]
        if len(taken) < len(found):
            self._next = taken[-1].row
        else:
            self._next = end if end < self._until else None

    def stepped(self, problem: str | None) -> None:
        """That turn was committed, or undone for a problem: what is left is for the next hour."""
        if problem is not None:
            log.error("users who were not seen can't be deleted now: %s", problem)
            self._place = None
            return
        if self._marked is not self._leaving:
            self._deleted += len(self._marked)
        self._leaving, self._place = self._marked, self._next
        if self._place is None:
            self._leaving = []
            if self._deleted:
                log.info("users who were not seen for %d days and are deleted: %d", self.days, self._deleted)
