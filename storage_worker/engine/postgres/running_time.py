"""How long storage workers have run on this store, by the hour.

Owns: the table `running_time`. Promises: hours only grow, whatever the clock shows; of each day
that the clock showed it is known how many there were when it last showed it.
Exposure: the clock of the machine.

Source: docs/decisions/0021-inactive-users.md.
"""

from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import RunningNoted


class RunningTime:
    """`apply` runs inside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hours(self) -> int:
        """In all."""
        hours: int = self._database.row(statements.RUNNING_HOURS)[0]
        return hours

    def first_day_after(self, hours: int) -> int | None:
        """The first of the days that the clock showed after more than so many hours, or None."""
        day: int | None = self._database.row(statements.FIRST_DAY_AFTER, hours)[0]
        return day

    def apply(self, noted: RunningNoted) -> None:
        """So many hours more, and the day."""
        self._database.change(statements.NOTE_RUNNING, noted.day, self.hours() + noted.hours)
