"""The measurement itself, with a load that takes a second: all programs start, and every answer is
counted.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rivals.postgres import Postgres
from bench.shards.measure import Plan, cost, death, percentile

pytestmark = pytest.mark.slow


def test_a_percentile() -> None:
    values = [float(number) for number in range(100)]
    assert (percentile(values, 0.0), percentile(values, 0.5), percentile(values, 0.99)) == (0.0, 50.0, 99.0)
    assert percentile([1.0], 0.99) == 1.0


@pytest.fixture
def place() -> Iterator[Path]:
    if Postgres().missing:
        pytest.skip("takes the system's PostgreSQL")
    # Not in pytest's own folder, through which PostgreSQL's user can't pass.
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "measured"
        place.mkdir()
        yield place


def test_the_cost_of_a_message_with_two_shards(place: Path) -> None:
    found = cost(place, 2, Plan(burst=40, period=0.25, seconds=1.0, warm_up=0.5))
    assert (found.shards, found.messages) == (2, 2 * 40 * 4)
    assert min(found.gateway, found.worker, found.postgresql, found.batches, found.median) > 0
    assert found.all == found.gateway + found.worker + found.postgresql


def test_a_dead_shard_costs_its_own_messages(place: Path) -> None:
    found = death(place, 2, Plan(burst=40, period=0.25, seconds=1.0, warm_up=3.0))
    assert found.before == 1.0
    assert found.accepted == pytest.approx(0.5, abs=0.2)
    assert found.accepted + found.refused == 1.0
