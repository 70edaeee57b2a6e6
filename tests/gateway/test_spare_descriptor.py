"""The descriptor that is kept: there is one more while it is lent, and it comes back."""

import os
import resource
from collections.abc import Iterator

import pytest

from gateway.spare_descriptor import SpareDescriptor


@pytest.fixture
def no_more() -> Iterator[SpareDescriptor]:
    """A spare descriptor, of a process that has no other one left."""
    spare = SpareDescriptor()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    yield spare
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    spare.close()


def test_one_more_is_open_while_it_is_lent(no_more: SpareDescriptor) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        os.dup(0)
    for _ in range(3):
        with no_more.lent():
            os.close(os.dup(0))
    with pytest.raises(OSError, match="Too many open files"):
        os.dup(0)


def test_one_that_does_not_come_back_is_had_again_later(no_more: SpareDescriptor) -> None:
    with no_more.lent():
        taken = os.dup(0)
    with no_more.lent(), pytest.raises(OSError, match="Too many open files"):
        os.dup(0)
    os.close(taken)
    with no_more.lent():
        pass
    with no_more.lent():
        os.close(os.dup(0))
