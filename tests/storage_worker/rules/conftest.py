import pytest

from storage_worker.engine.memory import Disk
from storage_worker.engine.values import Identity
from tests.storage_worker.rules.days import Opener
from tests.storage_worker.worker_under_test import MemoryWorker


@pytest.fixture(params=["memory", "sqlite"])
def open_one(request: pytest.FixtureRequest) -> Opener:
    """Opens workers on one store, one after the other: over either engine."""
    if request.param == "sqlite":
        open_worker: Opener = request.getfixturevalue("open_worker")
        return open_worker
    disk = Disk(Identity(bytes(16), 1))
    return lambda **settings: MemoryWorker(disk, **settings)
