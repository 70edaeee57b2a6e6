"""A few seconds of every drill; scripts/torture runs them for as long as one likes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torture import failing_disk, lying_server, power_cuts, stale_worker
from torture.__main__ import DRILLS
from torture.patience import HANG_SECONDS
from torture.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# tests/storage_worker has short runs of the others.
HERE = [name for name in DRILLS if name not in {power_cuts.NAME, power_cuts.CONTROL, failing_disk.NAME}]


@pytest.mark.slow
@pytest.mark.parametrize("drill", HERE)
def test_a_short_drill_passes(tmp_path: Path, drill: str) -> None:
    # A process of its own, for drills fork.
    rows = tmp_path / "rows.json"
    command = [sys.executable, "-P", "-m", "torture", "--quick", "--only", drill]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path / "work"), "--json", str(rows)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS * 2,
    )
    (row,) = json.loads(rows.read_text())
    if row["note"].startswith("not run"):
        pytest.skip(row["note"])
    assert row["drill"] == drill
    assert row["passed"], f"{row}\n{done.stderr}"
    assert done.returncode == 0
    assert row["acknowledged"] > 0
    if drill in {lying_server.CONTROL, stale_worker.CONTROL}:
        # They count attacks and rows that there must be. Whether a message is certainly lost by
        # these depends on what comes behind it.
        assert row["unexpected"] > 0
    else:
        assert (row["lost"] > 0) == drill.startswith("control")
    assert f"\n{drill} " in done.stdout
