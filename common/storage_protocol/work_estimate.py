"""How much work an operation is for the worker, so that no batch takes long.

Owns: the estimates, and how much goes into one batch. Promises: a batch takes a fraction of a
second, however many operations wait. Exposure: strangers choose which operations, and how many.

An estimate is in microseconds on a slow machine. It may be wrong by a few times: the deadline of a
batch is 15 s.

Source: docs/storage-protocol.md, "Batches".
"""

from collections.abc import Sequence
from typing import Final

from common.storage_protocol.operations import (
    Chunk,
    Fetch,
    ListUsers,
    Operation,
    Pull,
    PullPage,
    Register,
    StoreMessages,
)

MOST: Final = 250_000
"""Microseconds of work in a batch. One operation alone may be more."""
_ANY: Final = 20
_REGISTER: Final = 200
_USERS: Final = 3_000
_FETCH: Final = 200
_BYTES_READ: Final = 200
_BYTES_SENT: Final = 64
_BYTES_OF_CHUNK: Final = 200


def work(operation: Operation) -> int:
    """Microseconds that the worker may need for it."""
    kind = type(operation)
    if kind is StoreMessages:
        assert isinstance(operation, StoreMessages)
        return _ANY + len(operation.frames) // _BYTES_SENT
    if kind is ListUsers:
        return _USERS
    if isinstance(operation, Pull | PullPage | Fetch):
        return _FETCH + min(operation.page_bytes, 4 * 1024 * 1024) // _BYTES_READ
    if kind is Register:
        return _REGISTER
    if isinstance(operation, Chunk):
        return _ANY + len(operation.content) // _BYTES_OF_CHUNK
    return _ANY


def fitting(operations: Sequence[Operation], most: int) -> int:
    """How many of the first `most` operations go into one batch: at least one."""
    total = work(operations[0])
    for count in range(1, most):
        total += work(operations[count])
        if total > MOST:
            return count
    return most
