"""Counts and times of turns, and how often the store's size is looked up."""

from common.storage_protocol.frames import Batch, Reply
from common.storage_protocol.operations import GetPublicKey, MessagesStored, Refused, RefusedFrame, StoreMessages
from common.values import RefusalReason
from storage_worker.server.measures import Measures, StoreSize

ID = bytes(16)


class Store:
    """A clock, a number of flushes and a size."""

    def __init__(self) -> None:
        self.now = 100.0
        self.flushes = 0
        self.cost = 0.0
        self.looks = 0

    def look(self) -> StoreSize | None:
        self.looks += 1
        self.now += self.cost
        return None if self.looks == 2 else StoreSize(self.looks, 2, 3, 4)

    def measures(self) -> Measures:
        return Measures(lambda: self.flushes, self.look, lambda: self.now)


def test_a_turn_is_counted_with_its_refusals() -> None:
    store = Store()
    measures = store.measures()
    batch = Batch(0, 1, 1, [StoreMessages(False, b""), GetPublicKey(ID, False, ID)])
    full = RefusedFrame(1, RefusalReason.MAILBOX_FULL, 30)
    reply = Reply(0, 1, 1, ID, [MessagesStored(1, [full, full]), Refused(RefusalReason.RECIPIENT_UNKNOWN)])
    store.now += 0.003
    measures.committed(100.0, [batch], [reply])
    assert (measures.batches, measures.commits) == (1, 1)
    assert {kind: number for kind, number in measures.operations.items() if number} == {
        StoreMessages: 1, GetPublicKey: 1,
    }  # fmt: skip
    assert measures.refusals[RefusalReason.MAILBOX_FULL] == 2
    assert measures.refusals[RefusalReason.RECIPIENT_UNKNOWN] == 1
    assert sum(measures.commit_seconds.counts) == 1
    assert abs(measures.commit_seconds.seconds - 0.003) < 1e-9


def test_only_maintenance_that_flushed_is_timed() -> None:
    store = Store()
    measures = store.measures()
    measures.maintained(99.0)
    assert sum(measures.flush_seconds.counts) == 0
    store.flushes += 1
    measures.maintained(99.0)
    measures.maintained(99.0)
    assert sum(measures.flush_seconds.counts) == 1
    assert measures.flush_seconds.seconds == 1.0


def test_a_look_that_takes_long_is_rare_and_one_that_fails_changes_nothing() -> None:
    store = Store()
    measures = store.measures()
    measures.look()
    assert measures.size == StoreSize(1, 2, 3, 4)
    measures.look()
    assert store.looks == 1
    store.now += 15
    store.cost = 0.1
    measures.look()
    assert store.looks == 2
    assert measures.size.users == 1
    store.now += 99
    measures.look()
    assert store.looks == 2
    store.now += 1
    measures.look()
    assert measures.size.users == 3
