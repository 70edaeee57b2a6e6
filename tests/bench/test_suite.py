"""bench/suite.py: every figure is made, whatever it is; no time is judged."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import bench.__main__
from bench import suite

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOW = 1_800_000_000_000


def test_the_table_has_a_line_for_each_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.__main__.main(["suite", "--seconds", "0.01", "--rounds", "1", "--megabytes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    firsts = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    texts = ["suite 1, one way", "suite 1, in turn", "published suite"]
    assert {*texts, "suite 1, 1 MiB", "published suite, 1 MiB"} <= {*firsts}


def test_a_text_of_256_bytes_takes_1600_bytes_at_most() -> None:
    _, size = suite.suite1_texts(0.001, in_turn=True)
    assert size == 1594
    assert suite.published_texts(0.001)[1] == 272


def test_a_conversation_goes_on_from_its_bytes() -> None:
    one, other = suite.conversation(NOW)
    for _ in range(3):
        one, content = suite.sealed(one, suite.THERE, NOW)
        other = suite.opened(other, suite.THERE, content)
        other, content = suite.sealed(other, suite.BACK, NOW)
        one = suite.opened(one, suite.BACK, content)


def test_a_file_is_measured_both_ways() -> None:
    for measure in (suite.suite1_file, suite.published_file):
        stream = measure(1)
        assert min(stream.seal, stream.open) > 0


def test_a_rival_that_is_not_installed_is_left_out(tmp_path: Path) -> None:
    assert suite.rival_figures(0.01, tmp_path) is None


def test_a_rival_is_asked_in_its_own_environment(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    answer = '{"name": "a rival 1.0", "texts": {"one way": [0.25, 0.25]}, "size": 5}'
    python.write_text(f"#!{sys.executable}\nimport sys\nassert sys.argv[2] == '0.5'\nprint('{answer}')\n")
    python.chmod(0o755)
    name, figures, size = suite.rival_figures(0.5, tmp_path) or ("", {}, 0)
    assert (name, size, figures["one way"].rate) == ("a rival 1.0", 5, 2)
