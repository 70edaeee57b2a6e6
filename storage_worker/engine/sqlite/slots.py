"""The gateways' slots: the current epoch, the batches that were applied last, and their answers.

Owns: the table `slot`, and in memory what of it is only in the journal.
Promises: `replay` of the records after a start gives the same state.
Exposure: none; gateways of this server name the slots.
"""

from collections.abc import Iterable
from typing import Final

from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import encode_outcomes
from storage_worker.engine.records import BatchApplied, Record, SlotTaken
from storage_worker.engine.sqlite.database import Database
from storage_worker.engine.values import Slot

_UNKNOWN: Final = encode_outcomes([])
"""No outcomes, which fit no batch. None would mean that it was refused, with nothing done."""


def newest(applied: Iterable[BatchApplied]) -> list[BatchApplied]:
    """The records that alone decide the final state of each slot."""
    of_slot: dict[int, list[BatchApplied]] = {}
    for record in applied:
        of_slot.setdefault(record.slot, []).append(record)
    return [record for records in of_slot.values() for record in records[-MOST_IN_FLIGHT:]]


class Slots:
    """All slots, by their number."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slots: dict[int, Slot] = {}
        self._changed: set[int] = set()
        self.forget()

    def forget(self) -> None:
        """Return to the state of the database."""
        rows = self._database.execute("SELECT slot, epoch, incarnation, earlier, number, outcomes, before FROM slot")
        self._slots = {slot: Slot(*fields) for slot, *fields in rows}
        self._changed.clear()

    def replay(self, record: Record) -> None:
        """Apply a turn's record again."""
        match record:
            case SlotTaken(slot, epoch, incarnation, earlier):
                self._slots[slot] = Slot(epoch, incarnation, earlier, 0, None, None)
                self._changed.add(slot)
            case BatchApplied(slot, number, outcomes):
                found = self._slots[slot]
                # In every turn, so not by `_replace`, which takes five times as long.
                self._slots[slot] = Slot(
                    found.epoch, found.incarnation, found.earlier, number, outcomes, found.outcomes
                )
                self._changed.add(slot)
            case _:
                pass

    def find(self, slot: int) -> Slot | None:
        """The slot; None if no gateway ever greeted on it."""
        return self._slots.get(slot)

    def forget_answers_with(self, client_id: bytes) -> None:
        """Forget kept answers that name this user: a gateway that asks again has to greet."""
        for number, slot in self._slots.items():
            kept = (slot.outcomes, slot.before)
            outcomes, before = [_UNKNOWN if answers and client_id in answers else answers for answers in kept]
            if (outcomes, before) != kept:
                self._slots[number] = slot._replace(outcomes=outcomes, before=before)
                self._changed.add(number)

    def write(self) -> None:
        """Inside a transaction: write what the database does not have."""
        self._database.execute_many(
            "INSERT OR REPLACE INTO slot VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(slot, *self._slots[slot]) for slot in sorted(self._changed)],
        )

    def written(self) -> None:
        """That transaction is on disk."""
        self._changed.clear()
