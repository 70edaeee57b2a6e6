"""The quick form with the real server: that it works, not how fast it was."""

import json
import tempfile
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.rivals.postgres import Postgres


@pytest.mark.slow
def test_the_quick_form_finds_no_error(tmp_path: Path) -> None:
    arguments = ["--quick", "--disk", str(tmp_path / "disk"), "--keep", str(tmp_path / "kept"), "--date", "2026-01-31"]
    assert main(arguments) == 0
    kept = json.loads((tmp_path / "kept" / "2026-01-31.json").read_text())
    for subject in ("ours", "ours 642/643"):
        loads = [one["load"] for one in kept["rounds"] if one["subject"] == subject]
        assert loads == ["1x1", "50x1", "50x32", "drain", "waiting", "large", "idle"]
    compared = [one["subject"] for one in kept["rounds"] if one["to_first"] is not None]
    assert set(compared) == {"ours 642/643"}
    assert all(one["rate"] > 0 for one in kept["rounds"] if one["load"] not in {"waiting", "large", "idle"})
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.slow
def test_tls_is_measured_beside_plain_tcp(tmp_path: Path) -> None:
    arguments = ["--quick", "--tls", "--disk", str(tmp_path / "disk"), "--keep", str(tmp_path / "kept")]
    assert main([*arguments, "--date", "2026-01-31", "--only", "50x32", "--only", "drain", "--only", "idle"]) == 0
    kept = json.loads((tmp_path / "kept" / "2026-01-31.json").read_text())
    both = [(one["load"], one["subject"]) for one in kept["rounds"] if one["subject"] != "floor"]
    assert sorted(both) == sorted((load, name) for load in ("50x32", "drain", "idle") for name in ("ours", "ours TLS"))
    assert not any(one["errors"] for one in kept["rounds"])
    plain, tls = (
        one["values"]["gateway"]
        for name in ("ours", "ours TLS")
        for one in kept["rounds"]
        if (one["load"], one["subject"]) == ("idle", name)
    )
    assert tls > plain + 8000, "a connection with TLS has what OpenSSL keeps of it"


@pytest.mark.slow
def test_limits_that_refuse_nothing_are_measured_beside_none(tmp_path: Path) -> None:
    arguments = ["--quick", "--limits", "--disk", str(tmp_path / "disk"), "--keep", str(tmp_path / "kept")]
    assert main([*arguments, "--date", "2026-01-31", "--only", "50x32", "--only", "drain"]) == 0
    kept = json.loads((tmp_path / "kept" / "2026-01-31.json").read_text())
    both = [(one["load"], one["subject"]) for one in kept["rounds"] if one["subject"] != "floor"]
    names = ("ours", "ours with limits")
    assert sorted(both) == sorted((load, name) for load in ("50x32", "drain") for name in names)
    assert not any(one["errors"] for one in kept["rounds"])


@pytest.mark.slow
@pytest.mark.skipif(bool(Postgres().missing), reason=Postgres().missing)
def test_a_store_in_postgresql_is_measured_beside_the_embedded_one(tmp_path: Path) -> None:
    # PostgreSQL, which may run as a user of its own, may not enter a test's folder.
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name)
        disk.chmod(0o755)
        _measure_both(tmp_path, disk)


def _measure_both(tmp_path: Path, disk: Path) -> None:
    arguments = ["--quick", "--store", "postgresql", "--disk", str(disk), "--keep", str(tmp_path / "kept")]
    assert main([*arguments, "--date", "2026-01-31", "--only", "50x32", "--only", "drain", "--only", "waiting"]) == 0
    kept = json.loads((tmp_path / "kept" / "2026-01-31.json").read_text())
    found = [(one["load"], one["subject"]) for one in kept["rounds"] if one["subject"] != "floor"]
    names = ("ours", "ours PostgreSQL")
    assert sorted(found) == sorted((load, name) for load in ("50x32", "drain", "waiting") for name in names)
    [cost] = [one["cpu_us"] for one in kept["rounds"] if (one["load"], one["subject"]) == ("50x32", names[1])]
    assert {"gateway", "worker", "postgresql"} <= set(cost)
    assert list(disk.iterdir()) == []
