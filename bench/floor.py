"""The floor: how fast this disk writes the same bytes in the same groups, without a server.

Owns: writing groups of bytes and `fdatasync` after each.
Promises: the file is made and filled before the clock starts, so that neither its size nor its
place changes while it is measured; bounded in time and size; it leaves nothing behind.

A load of 50x32 has 1,600 messages in flight, so no server that syncs before it answers can bring
more than 1,600 to the disk with one sync. The floor's group is exactly that: all messages in
flight, written at once, synced at once.
"""

import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.histogram import bucket_of, percentile

FILE_SIZE: Final = 64 * 1024 * 1024
_BLOCK: Final = bytes(1024 * 1024)


@dataclass(frozen=True, slots=True)
class Floor:
    """What the disk alone did. Latencies are those of one group, in nanoseconds."""

    messages_per_second: float
    p50: int
    p99: int
    slowest: int
    groups: int
    cpu_seconds: float
    """Processor time of the whole measurement, user and system."""


def measure_floor(folder: Path, group: int, message_size: int, seconds: float, file_size: int = FILE_SIZE) -> Floor:
    """Write and sync `group` messages of `message_size` bytes at a time, for `seconds`, at least
    one group.

    The file in `folder` has `file_size` bytes, at least one group's, and is written over again and
    again.
    """
    data = os.urandom(message_size) * group
    file_size = max(file_size, len(data))
    latencies: Counter[int] = Counter()
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        descriptor = file.fileno()
        for at in range(0, file_size, len(_BLOCK)):
            os.pwrite(descriptor, _BLOCK, at)
        os.fsync(descriptor)
        slowest = at = 0
        cpu = time.process_time()
        begin = now = time.monotonic_ns()
        while now - begin < seconds * 1e9 or not latencies:
            if at + len(data) > file_size:
                at = 0
            _write_all(descriptor, data, at)
            os.fdatasync(descriptor)
            at += len(data)
            before, now = now, time.monotonic_ns()
            latencies[bucket_of(now - before)] += 1
            slowest = max(slowest, now - before)
        cpu = time.process_time() - cpu
    groups = latencies.total()
    return Floor(
        messages_per_second=groups * group / ((now - begin) / 1e9),
        p50=percentile(latencies, 50, slowest),
        p99=percentile(latencies, 99, slowest),
        slowest=slowest,
        groups=groups,
        cpu_seconds=cpu,
    )


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    written = os.pwrite(descriptor, data, at)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], at + written)
