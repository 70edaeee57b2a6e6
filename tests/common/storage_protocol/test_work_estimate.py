"""How much goes into one batch: its work is bounded, whatever waits."""

import pytest

from common.storage_protocol.batch_sender import LEAST_SIZE, BatchSender, LinkChange
from common.storage_protocol.frames import Batch, Hello, StoreFacts, Welcome, decode_to_worker
from common.storage_protocol.operations import (
    Chunk,
    Fetch,
    GetPublicKey,
    ListUsers,
    Operation,
    Pull,
    PullPage,
    Register,
    Release,
    StoreMessages,
)
from common.storage_protocol.work_estimate import MOST, fitting, work

ID = bytes(16)


@pytest.mark.parametrize(
    "operation",
    [
        GetPublicKey(ID, False, ID),
        ListUsers(ID, False),
        Pull(1, ID, False, 2**40, 9, 2**32 - 1),
        PullPage(ID, False, 1, 0, 2**40, 2**32 - 1),
        Fetch(ID, True, 0, 2**40, 54, 2**32 - 1, False),
        Register("a", bytes(160)),
        StoreMessages(False, bytes(100_000)),
        Chunk(1, bytes(1_000_000)),
        Release(1),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_a_batch_of_one_kind_is_bounded(operation: Operation) -> None:
    many = [operation] * 50_000
    count = fitting(many, len(many))
    assert 1 <= count < len(many)
    assert work(operation) * count <= MOST < work(operation) * (count + 1)


def test_one_operation_goes_however_large_it_is() -> None:
    assert fitting([StoreMessages(False, bytes(32_000_000)), Release(1)], 2) == 1


def test_what_waits_leaves_in_bounded_batches_and_what_comes_later_behind_it() -> None:
    sender: BatchSender[int, int] = BatchSender(0, lambda: bytes(16))

    def leaving() -> bytes:
        outgoing = sender.data_to_send(0)
        return outgoing.frame if outgoing is not None else b""

    sender.receive([LinkChange.UP], 0)
    hello = decode_to_worker(leaving())
    assert isinstance(hello, Hello)
    sender.receive([Welcome(0, 1, hello.incarnation, bytes(16), StoreFacts(bytes(16), 1, 0))], 0)
    for number in range(40_000):
        sender.submit(GetPublicKey(ID, False, ID), number, 0)
    batches = [decode_to_worker(leaving()) for _ in range(2)]
    sizes = [len(batch.operations) for batch in batches if isinstance(batch, Batch)]
    assert sizes == [MOST // work(GetPublicKey(ID, False, ID))] * 2
    assert leaving() == b""
    assert sender.size == 40_000 * LEAST_SIZE, "nothing is lost"
