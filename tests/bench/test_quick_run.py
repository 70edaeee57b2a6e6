"""The quick form with the real server: that it works, not how fast it was."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main


@pytest.mark.slow
def test_the_quick_form_finds_no_error(tmp_path: Path) -> None:
    arguments = ["--quick", "--disk", str(tmp_path / "disk"), "--keep", str(tmp_path / "kept"), "--date", "2026-01-31"]
    assert main(arguments) == 0
    kept = json.loads((tmp_path / "kept" / "2026-01-31.json").read_text())
    loads = [one["load"] for one in kept["rounds"] if one["subject"] == "ours"]
    assert loads == ["1x1", "50x1", "50x32", "drain", "waiting", "large", "idle"]
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
