"""Writes and syncs that fail once, a sample of them; scripts/torture fails every one."""

import pytest

from tests.storage_worker.failing_disk import operations_of_a_life, run
from tests.storage_worker.faulty_disk import Fault


# Every life syncs hundreds of times, and other programs may keep the disk busy.
@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_operations_fail_once(fault: Fault) -> None:
    total = operations_of_a_life()
    assert total > 300
    # Most are writes of one and the same kind; every tenth of them and the last ones stand for all.
    places = sorted({*range(1, total, 10), *range(total - 12, total + 1)})
    tally = run(fault, places)
    assert tally.clean, tally
    assert tally.failures == len(places)
    assert tally.acknowledged > 0
    if fault is not Fault.EIO:
        assert tally.ended < len(places), "where there is no room the worker goes on where it can"
