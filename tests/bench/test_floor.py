import os
from pathlib import Path

import pytest

from bench.floor import measure_floor


def test_the_floor_is_bounded_and_leaves_nothing(tmp_path: Path) -> None:
    measured = measure_floor(tmp_path, group=50, message_size=300, seconds=0.05, file_size=1 << 20)
    assert measured.groups >= 1
    assert measured.messages_per_second > 0
    assert 0 < measured.p50 <= measured.p99 <= measured.slowest
    assert list(tmp_path.iterdir()) == []


def test_at_least_one_group_is_written_even_one_larger_than_the_file(tmp_path: Path) -> None:
    assert measure_floor(tmp_path, group=100, message_size=300, seconds=0, file_size=1).groups == 1


def test_every_group_is_written_inside_the_file_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[tuple[str, int, int]] = []
    write = os.pwrite

    def short_write(descriptor: int, data: bytes, at: int) -> int:
        happened.append(("write", at, len(data)))
        return write(descriptor, data[:250], at)

    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: happened.append(("sync", 0, 0)))
    monkeypatch.setattr(os, "fsync", lambda _descriptor: happened.clear())
    monkeypatch.setattr(os, "pwrite", short_write)
    measured = measure_floor(tmp_path, group=4, message_size=100, seconds=0.01, file_size=1000)
    group = [("write", 250, 150), ("sync", 0, 0)]
    assert happened[:9] == [
        ("write", 0, 400),
        *group,
        ("write", 400, 400),
        ("write", 650, 150),
        ("sync", 0, 0),
        ("write", 0, 400),
        *group,
    ]
    assert happened.count(("sync", 0, 0)) == measured.groups
