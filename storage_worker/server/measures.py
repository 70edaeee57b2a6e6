"""What the storage worker has done and how long it took, if metrics are on.

Owns: the counts and histograms of turns, and the numbers that are looked up now and then.
Promises: a turn only adds. `look` takes at most a thousandth of the loop's time.
Exposure: strangers choose what is counted; the keys are from tables.
"""

from collections.abc import Callable
from typing import NamedTuple

from common.metrics import Histogram
from common.storage_protocol.frames import Batch, Reply, ToGateway, ToWorker
from common.storage_protocol.operations import OPERATIONS, MessagesStored, Operation, Refused
from common.values import RefusalReason

_LOOK_EVERY = 15.0
_SHARE_OF_TIME = 1000


class StoreSize(NamedTuple):
    """The totals of the database. `with_keys`: users who have published keys."""

    users: int = 0
    messages: int = 0
    content_bytes: int = 0
    disk_free: int = 0
    with_keys: int = 0
    one_time_keys: int = 0


class Measures:
    """`flushes`: how often the journal was flushed into the database; `look_up` reads the store
    between two turns, and returns None if it can't be read. `clock` gives monotonic seconds.
    """

    def __init__(
        self, flushes: Callable[[], int], look_up: Callable[[], StoreSize | None], clock: Callable[[], float]
    ) -> None:
        self.clock = clock
        self._flushes = flushes
        self._look_up = look_up
        self._look_at = clock()
        self._flushed = flushes()
        self.batches = 0
        self.commits = 0
        self.operations: dict[type[Operation], int] = dict.fromkeys(OPERATIONS, 0)
        self.refusals: dict[int, int] = dict.fromkeys(RefusalReason, 0)
        self.commit_seconds = Histogram()
        self.flush_seconds = Histogram()
        self.size = StoreSize()

    def committed(self, began: float, inbound: list[ToWorker], answers: list[ToGateway]) -> None:
        """A turn that `began` then is committed."""
        self.commits += 1
        self.commit_seconds.observe(self.clock() - began)
        for message in inbound:
            if type(message) is Batch:
                self.batches += 1
                for operation in message.operations:
                    self.operations[type(operation)] += 1
        for answer in answers:
            if type(answer) is Reply:
                for outcome in answer.outcomes:
                    if type(outcome) is Refused:
                        self.refusals[outcome.reason] += 1
                    elif type(outcome) is MessagesStored:
                        for refused in outcome.refused:
                            self.refusals[refused.reason] += 1

    def maintained(self, began: float) -> None:
        """Maintenance that `began` then is done."""
        flushed = self._flushes()
        if flushed != self._flushed:
            self._flushed = flushed
            self.flush_seconds.observe(self.clock() - began)

    def look(self) -> None:
        """Between two turns: look up the totals, if it is time to. Raises `StoreFailed`."""
        began = self.clock()
        if began < self._look_at:
            return
        self.size = self._look_up() or self.size
        ended = self.clock()
        self._look_at = ended + max(_LOOK_EVERY, (ended - began) * _SHARE_OF_TIME)
