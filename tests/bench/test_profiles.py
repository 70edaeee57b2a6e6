import subprocess
from pathlib import Path

import pytest

from bench.profiles import profiled, write_text


def test_a_profiled_program_runs_as_ever_and_leaves_a_text(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("def busy(): return sum(range(1000))\nprint(busy())\n")
    file = tmp_path / "program.profile"
    said = subprocess.run(
        profiled("program", file), env={"PYTHONPATH": str(tmp_path)}, check=True, capture_output=True, text=True
    )
    assert said.stdout == "499500\n"
    text = write_text(file)
    assert text == tmp_path / "program.txt"
    assert "program.py:1(busy)" in text.read_text()


def test_a_program_that_wrote_no_profile_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="was not written"):
        write_text(tmp_path / "killed.profile")
