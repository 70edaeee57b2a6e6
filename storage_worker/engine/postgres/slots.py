"""The table `slot`.

Owns: its statements. Promises: as storage_worker.engine.paged.slots says.
Exposure: none.
"""

from collections.abc import Callable, Iterable

from storage_worker.engine.paged import slots
from storage_worker.engine.paged.slots import SlotRow
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self) -> Iterable[SlotRow]:
        """All of it."""
        return self._database.rows(statements.SLOTS)


class Slots(slots.Slots):
    """All slots."""

    def __init__(self, database: Database) -> None:
        super().__init__(_Table(database))

    def taken(self, _now_ms: int) -> Callable[[Database], None]:
        """See `commit_log.TakenPart`."""
        rows = self.take()

        def write(database: Database) -> None:
            for row in rows:
                database.change(statements.WRITE_SLOT, *row)

        return write
