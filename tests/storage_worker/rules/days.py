"""What tests of rules about days have in common: when they begin, and who opens their workers."""

from collections.abc import Callable

from storage_worker.rules.activity import DAY_MS
from tests.storage_worker.worker_under_test import WorkerUnderTest

NOON = 20_000 * DAY_MS + DAY_MS // 2
Opener = Callable[..., WorkerUnderTest]
"""Opens a worker with the settings of `MemoryWorker`; the store is the same each time."""
