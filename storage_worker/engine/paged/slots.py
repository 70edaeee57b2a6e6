"""The gateways' slots: the current epoch, the batches that were applied last, and their answers.

Owns: in memory, all slots, and which of them the table does not have as they are.
Promises: `replay` of the records after a start gives the same state. `take` gives what the table
lacks; until `written` says that it has it, a later `take` gives it again.
Exposure: none; gateways of this server name the slots.
"""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from common.storage_protocol.batch_order import MOST_IN_FLIGHT
from common.storage_protocol.frames import encode_outcomes
from storage_worker.engine.records import BatchApplied, Record, SlotTaken
from storage_worker.engine.values import Slot

_UNKNOWN: Final = encode_outcomes([])
"""No outcomes, which fit no batch. None would mean that it was refused, with nothing done."""

assert MOST_IN_FLIGHT == 2, "a slot keeps the outcomes of two batches"

SlotRow = tuple[Any, ...]
"""The number of a slot, then the columns of `Slot`."""


class SlotTable(Protocol):
    """The table `slot`."""

    def rows(self) -> Iterable[SlotRow]:
        """All of it."""


class Slots:
    """All slots, by their number. `forget` before anything else."""

    def __init__(self, table: SlotTable) -> None:
        self._table = table
        self._slots: dict[int, Slot] = {}
        self._changed: set[int] = set()
        self._taken: set[int] = set()

    def forget(self) -> None:
        """Return to the state of the table."""
        self._slots = {slot: Slot(*columns) for slot, *columns in self._table.rows()}
        self._changed.clear()
        self._taken.clear()

    def replay(self, record: Record) -> None:
        """Apply a turn's record, at its time or again."""
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

    def take(self) -> list[SlotRow]:
        """What the table does not have."""
        self._taken |= self._changed
        self._changed.clear()
        return [(slot, *self._slots[slot]) for slot in sorted(self._taken)]

    def written(self) -> None:
        """The table has what was taken last."""
        self._taken.clear()
