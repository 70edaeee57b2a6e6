"""Latencies counted in buckets of at most 1.6 % width.

Owns: which latency belongs to which bucket, and percentiles of bucket counts.
Promises: a percentile is never reported smaller than it was, and at most 1/64 larger.
`loadgen/loadgen.c`, `record`, has the same rule for the bucket.
"""

from collections.abc import Mapping
from typing import Final

LINEAR: Final = 64
"""Below this many nanoseconds each value has a bucket of its own; above, each power of
two has this many.
"""


def bucket_of(nanoseconds: int) -> int:
    """The number of the bucket that a latency of `nanoseconds` (>= 0) is counted in."""
    if nanoseconds < LINEAR:
        return nanoseconds
    shift = nanoseconds.bit_length() - 7
    return shift * LINEAR + (nanoseconds >> shift)


def bucket_end(bucket: int) -> int:
    """The largest latency, in nanoseconds, that bucket number `bucket` counts."""
    if bucket < 2 * LINEAR:
        return bucket
    shift = bucket // LINEAR - 1
    return ((bucket - shift * LINEAR + 1) << shift) - 1


def percentile(counts: Mapping[int, int], percent: float, largest: int) -> int:
    """The latency in nanoseconds that `percent` (0 to 100) of all counted ones do not exceed; 0
    where none was counted.

    `counts`: how many latencies each bucket holds; `largest`: the largest of them, in nanoseconds.
    """
    total = sum(counts.values())
    reached = 0
    for bucket in sorted(counts):
        reached += counts[bucket]
        if reached * 100 >= total * percent and reached > 0:
            return min(bucket_end(bucket), largest)
    return 0
