"""docs/messageu.1 says what the program itself knows, and is a manual page that the usual
programs read.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from client.cli.exit_codes import MEANINGS
from client.cli.parser import parser
from scripts import man_page
from torture.patience import HANG_SECONDS

PAGE = man_page.PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_program_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert man_page.page() == PAGE, "scripts/man_page.py --write brings it up to date"


def test_what_roff_would_take_for_its_own_is_escaped() -> None:
    assert man_page.escaped(r"a\b -x ~") == r"a\eb \-x \(ti"
    assert man_page.escaped(".TH") == r"\&.TH"
    assert man_page.escaped("'br") == r"\&\(aqbr"


@pytest.mark.parametrize(
    "command",
    [
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", str(man_page.PAGE)],
        ["man", "--warnings", "-P", "cat", "-l", str(man_page.PAGE)],
    ],
    ids=["groff", "man"],
)
def test_it_is_rendered_without_a_warning(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"takes {command[0]}")
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=HANG_SECONDS,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
    )  # fmt: skip
    assert done.stderr == ""
    shown = re.sub(r".\x08", "", done.stdout)
    words = " ".join(shown.split())
    for name in parser().commands():
        assert f"messageu {name}" in words
    assert 'messageu send bob -- "$text"' in words
    assert "--safety-number N" in words
    for section in ("NAME", "SYNOPSIS", "GENERAL OPTIONS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES"):
        assert f"\n{section}\n" in shown
    for code in MEANINGS:
        assert re.search(rf"^ +{code} ", shown, re.MULTILINE)
