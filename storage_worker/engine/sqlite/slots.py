"""The table `slot`.

Owns: its statements. Promises: as storage_worker.engine.paged.slots says.
Exposure: none; gateways of this server name the slots.
"""

from collections.abc import Iterable, Sequence

from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from storage_worker.engine.paged import slots
from storage_worker.engine.paged.slots import SlotRow
from storage_worker.engine.records import BatchApplied
from storage_worker.engine.sqlite.database import Database


def newest(applied: Iterable[BatchApplied]) -> list[BatchApplied]:
    """The records that alone decide the final state of each slot."""
    of_slot: dict[int, list[BatchApplied]] = {}
    for record in applied:
        of_slot.setdefault(record.slot, []).append(record)
    return [record for records in of_slot.values() for record in records[-MOST_IN_FLIGHT:]]


class _Table:
    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self) -> Iterable[SlotRow]:
        """All of it."""
        return self._database.execute("SELECT slot, epoch, incarnation, earlier, number, outcomes, before FROM slot")


class Slots(slots.Slots):
    """All slots."""

    def __init__(self, database: Database) -> None:
        super().__init__(_Table(database))
        self._database = database
        self.forget()

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        self.write_taken(self.take())

    def write_taken(self, taken: Sequence[SlotRow]) -> None:
        """The same of what `take` gave."""
        self._database.execute_many("INSERT OR REPLACE INTO slot VALUES (?, ?, ?, ?, ?, ?, ?)", taken)
