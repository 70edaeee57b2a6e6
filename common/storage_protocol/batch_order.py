"""What a batch's epoch and number mean to the worker: recognising what was applied already.

Owns: `judge`, the rule of the worker's end of the storage link, and how many batches a gateway may
have in flight, which is how many answers the worker keeps.
Promises: pure; a batch is applied once, however often and however late it comes.
Exposure: none of its own; it sees numbers of decoded frames only.

Source: docs/storage-protocol.md, "Batches".
"""

from enum import Enum, auto
from typing import Final, NamedTuple

MOST_IN_FLIGHT: Final = 2
"""Batches that were not answered. The worker keeps what it answered to so many."""


class SlotState(NamedTuple):
    """What the worker has on disk of a slot: its epoch, and the last number it applied under it."""

    epoch: int
    number: int


class Verdict(Enum):
    """What the worker does with a batch."""

    APPLY = auto()
    """The next number: apply it and keep its outcomes."""
    ANSWER_AGAIN = auto()
    """One of the last numbers once more: answer with what was kept."""
    IGNORE = auto()
    """A late copy of an older number, whose answer arrived: say nothing."""
    SUPERSEDED = auto()
    """An epoch of the past."""
    GREET_AGAIN = auto()
    """An epoch nobody was given, or a number whose predecessor is missing."""


def judge(state: SlotState | None, epoch: int, number: int) -> Verdict:
    """What the worker does with batch (`epoch`, `number`) of a slot in `state` (None:
    never greeted).
    """
    if state is None or epoch > state.epoch:
        return Verdict.GREET_AGAIN
    if epoch < state.epoch:
        return Verdict.SUPERSEDED
    if number == state.number + 1:
        return Verdict.APPLY
    if number > state.number:
        return Verdict.GREET_AGAIN
    return Verdict.ANSWER_AGAIN if number > max(state.number - MOST_IN_FLIGHT, 0) else Verdict.IGNORE
