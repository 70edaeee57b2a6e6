"""The simulation: what it does with costs that are known."""

import random

import pytest

from bench.shards.model import MOST_SHARDS, Costs, Model, latencies, loads, of_shards, percentile

USERS = 60_000
GATEWAY = Costs(0.0, 1e-4, 4e-6)
SHARD = Costs(2e-3, 3e-5, 1e-5)


@pytest.fixture(scope="module")
def by_first_byte() -> list[float]:
    return loads(USERS, random.Random(1))


def test_shards_have_about_as_much_each(by_first_byte: list[float]) -> None:
    assert len(by_first_byte) == MOST_SHARDS
    assert sum(by_first_byte) == pytest.approx(1.0)
    for shards in (1, 2, 16, 256):
        shares = of_shards(by_first_byte, shards)
        assert len(shares) == shards
        assert sum(shares) == pytest.approx(1.0)
    assert max(of_shards(by_first_byte, 2)) * 2 < max(by_first_byte) * 256


def test_a_turn_is_as_long_as_what_came_during_the_one_before() -> None:
    costs = Costs(1e-3, 0.0, 1e-5)
    found = latencies(costs, 50_000, 1, 4000, random.Random(1))
    # Half of the time is for messages: turns are twice what they cost by themselves.
    assert percentile(found, 0.0) == pytest.approx(2e-3, rel=0.5)
    assert sum(found) / len(found) == pytest.approx(3e-3, rel=0.1)


def test_throughput_is_linear_and_latency_is_what_grows(by_first_byte: list[float]) -> None:
    model = Model(GATEWAY, SHARD)
    points = [model.at(shards, by_first_byte, 60, random.Random(1)) for shards in (1, 4, 64)]
    assert [round(point.accepted / point.offered, 6) for point in points] == [1.0, 1.0, 1.0]
    assert [point.offered / point.shards for point in points] == [points[0].offered] * 3
    assert points[0].p99 < points[1].p99 < points[2].p99
    assert points[0].p50 < points[0].p99
    assert points[2].gateways == pytest.approx(64 * 0.6 * 4e-6 / 1e-5 / 0.3, abs=1)
    assert points[2].capacity == pytest.approx(1 / points[2].imbalance)


def test_one_dead_shard_takes_its_share_and_nothing_else(by_first_byte: list[float]) -> None:
    point = Model(GATEWAY, SHARD).at(16, by_first_byte, 200, random.Random(1))
    assert point.goodput_one_dead == pytest.approx(15 / 16, abs=0.01)
    assert point.p99_one_dead == pytest.approx(point.p99, rel=0.15)


def test_a_shard_that_gets_more_than_it_can_do_loses_the_rest() -> None:
    shares = [0.5] + [0.5 / 255] * 255
    point = Model(GATEWAY, SHARD).at(256, shares, 5, random.Random(1))
    assert point.accepted < 0.6 * point.offered
    assert point.capacity < 0.01


def test_the_same_seed_gives_the_same() -> None:
    model = Model(GATEWAY, SHARD)
    one, other = [model.at(8, loads(1000, random.Random(3)), 50, random.Random(4)) for _ in range(2)]
    assert one == other
