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
