"""The comparison of 642 with 603 runs, against the real server, and counts."""

import subprocess
import sys
from pathlib import Path

from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parent.parent.parent


def test_both_loads_are_told_with_their_ratio() -> None:
    options = ["--connections", "2", "--window", "8", "--messages", "64", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench.send_once", *options],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    first, second, ratio = done.stdout.splitlines()
    assert first.startswith("603 ")
    assert second.startswith("642 ")
    assert float(ratio.rsplit(" ", 1)[1]) > 0
