"""Power cuts over the worker's storage code: FULL loses nothing acknowledged, and the
check can fail: NORMAL does.
"""

from random import Random

import pytest

from tests.storage_worker.power_cut import Image, run


@pytest.mark.slow
def test_full_loses_nothing() -> None:
    tally = run(60, seed=1)
    assert tally.cuts == 60
    assert tally.acknowledged > 500
    assert tally.clean, tally


@pytest.mark.slow
def test_normal_loses_acknowledged_mail() -> None:
    assert run(40, seed=1, synchronous="NORMAL").lost > 0


def test_what_is_left_of_a_file() -> None:
    image = Image()
    image.pending += [(0, b"a" * 1024)]
    fates = {image.after_cut(Random(seed)) for seed in range(200)}
    halves = {b"", b"a" * 1024, b"a" * 512, bytes(512) + b"a" * 512}
    assert fates == {None, *halves}
    image.sync()
    image.exists = True
    assert image.after_cut(Random(1)) == b"a" * 1024
    image.pending += [512, (512, b"b" * 512)]
    fates = {image.after_cut(Random(seed)) for seed in range(200)}
    assert fates == {b"a" * 1024, b"a" * 512, b"a" * 512 + b"b" * 512}
