import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bench.histogram import bucket_end, bucket_of, percentile

NANOSECONDS = st.integers(0, 2**63 - 1) | st.integers(0, 200)


@given(NANOSECONDS)
def test_a_bucket_is_at_most_a_64th_wide(value: int) -> None:
    end = bucket_end(bucket_of(value))
    assert value <= end <= value + value // 64
    assert bucket_of(end) == bucket_of(value)
    assert bucket_of(end + 1) == bucket_of(value) + 1


def test_buckets_fit_into_the_table_of_the_c_generator() -> None:
    assert bucket_of(2**64 - 1) == 64 + 58 * 64 - 1


@given(st.lists(NANOSECONDS, min_size=1), st.floats(0, 100))
def test_a_percentile_is_never_smaller_than_the_exact_one(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
    told = percentile(Counter(map(bucket_of, values)), percent, max(values))
    assert exact <= told <= exact + exact // 64


def test_known_percentiles() -> None:
    counts = Counter(map(bucket_of, range(1, 101)))
    assert percentile(counts, 50, 100) == 50
    assert percentile(counts, 99, 100) == 99
    assert percentile(counts, 100, 100) == 100
    assert percentile({bucket_of(1_000_000): 1}, 50, 1_000_000) == 1_000_000


def test_nothing_counted_is_zero() -> None:
    assert percentile({}, 50, 0) == 0
