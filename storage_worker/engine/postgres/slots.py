"""The gateways' slots: which epoch counts, which batches were applied last, and what was answered
to them.

Owns: the table `slot`, and in memory what of it is in the journal alone.
Promises: what `replay` is told after a start gives the same again.
Exposure: none; gateways of this server name the slots.
"""

from typing import Final

from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import encode_outcomes
from storage_worker.engine.postgres import statements
from storage_worker.engine.postgres.database import Database
from storage_worker.engine.records import BatchApplied, Record, SlotTaken
from storage_worker.engine.values import Slot

_UNKNOWN: Final = encode_outcomes([])
"""No outcomes, which fit no batch. None would mean that it was refused, with nothing done."""

assert MOST_IN_FLIGHT == 2, "a slot keeps the outcomes of two batches"


class Slots:
    """All slots, by their number."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slots: dict[int, Slot] = {}
        self._changed: set[int] = set()

    def forget(self) -> None:
        """Be as the table is."""
        self._slots = {slot: Slot(*columns) for slot, *columns in self._database.rows(statements.SLOTS)}
        self._changed.clear()

    def replay(self, record: Record) -> None:
        """Do again what a turn did."""
        match record:
            case SlotTaken(slot, epoch, incarnation, earlier):
                self._slots[slot] = Slot(epoch, incarnation, earlier, 0, None, None)
                self._changed.add(slot)
            case BatchApplied(slot, number, outcomes):
                found = self._slots[slot]
                self._slots[slot] = Slot(
                    found.epoch, found.incarnation, found.earlier, number, outcomes, found.outcomes
                )
                self._changed.add(slot)
            case _:
                pass

    def find(self, slot: int) -> Slot | None:
        """The slot; None where no gateway ever greeted on it."""
        return self._slots.get(slot)

    def forget_answers_with(self, client_id: bytes) -> None:
        """Kept answers that name this user are unknown from now on: who asks again has to greet."""
        for number, slot in self._slots.items():
            kept = (slot.outcomes, slot.before)
            outcomes, before = [_UNKNOWN if answers and client_id in answers else answers for answers in kept]
            if (outcomes, before) != kept:
                self._slots[number] = slot._replace(outcomes=outcomes, before=before)
                self._changed.add(number)

    def write(self) -> None:
        """Inside a transaction: give the table what it does not have."""
        for slot in sorted(self._changed):
            self._database.change(statements.WRITE_SLOT, slot, *self._slots[slot])

    def written(self) -> None:
        """That transaction is committed."""
        self._changed.clear()
