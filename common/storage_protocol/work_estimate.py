"""How much of the worker's time goes into one batch, so that no batch takes long.

Owns: the bound. The estimates are in the table of operations. Promises: a batch takes a fraction of
a second, however many operations wait. Exposure: strangers choose which operations, and how many.

An estimate is in microseconds on a slow machine. It may be wrong by a few times: the deadline of a
batch is 15 s.

Source: docs/storage-protocol.md, "Batches".
"""

from collections.abc import Sequence
from typing import Final

from common.storage_protocol.operations import OPERATIONS, Operation

MOST: Final = 250_000
"""Microseconds of work in a batch. One operation alone may be more."""


def work(operation: Operation) -> int:
    """Microseconds that the worker may need for it."""
    return OPERATIONS[type(operation)].work(operation)


def fitting(operations: Sequence[Operation], most: int) -> int:
    """How many of the first `most` operations go into one batch: at least one."""
    total = 0
    for count in range(most):
        operation = operations[count]
        total += OPERATIONS[type(operation)].work(operation)
        if total > MOST and count:
            return count
    return most
