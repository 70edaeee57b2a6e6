"""Series in the text form of Prometheus, and what has none of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.errors import SettingRejected
from common.metrics import BOUNDS, Histogram, counter, gauge, histogram, metrics_text
from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]


def samples(text: bytes) -> dict[str, float]:
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_each_kind_in_the_text_form() -> None:
    took = Histogram()
    codes: Mapping[str, int] = {"603": 7, "604": 0}
    read = metrics_text(
        [
            counter("m_requests", "By code.", lambda: codes, "code"),
            gauge("m_open", "Open.", lambda: 3),
            histogram("m_turn_seconds", "Turns.", took),
        ]
    )
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.5, 7.0):
        took.observe(seconds)
    text, content_type = read()
    assert content_type.startswith("text/plain; version=")
    assert b"# HELP m_requests_total By code.\n# TYPE m_requests_total counter\n" in text
    assert b"# TYPE m_turn_seconds histogram\n" in text
    found = samples(text)
    assert found['m_requests_total{code="603"}'] == 7
    assert found['m_requests_total{code="604"}'] == 0
    assert found["m_open"] == 3
    buckets = [value for name, value in found.items() if name.startswith("m_turn_seconds_bucket")]
    assert buckets == [2, *[3] * (len(BOUNDS) - 1), 4]
    assert found["m_turn_seconds_count"] == 4
    assert found["m_turn_seconds_sum"] == pytest.approx(7 + BOUNDS[0] * 2.5)


def test_without_the_package_metrics_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingRejected, match="--metrics needs the package prometheus_client"):
        metrics_text([])


def test_nothing_loads_the_package_without_the_option() -> None:
    code = "import sys, gateway.__main__, storage_worker.__main__; sys.exit('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=HANG_SECONDS)
    assert done.returncode == 0
