"""docs/security.md, the table of cipher suite 1: each test that it names for a claim exists."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


def section() -> str:
    return PAGE.partition("\n## What cipher suite 1 protects, and from whom\n")[2].partition("\n## ")[0]


def test_every_test_of_the_table_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)`((?:[:,] `test_\w+`)+)", section())
    assert len(named) >= 5
    for file, tests in named:
        source = (HERE / file).read_text(encoding="utf-8")
        for test in re.findall(r"`(test_\w+)`", tests):
            assert f"\ndef {test}(" in source, (file, test)


def test_every_row_has_a_source() -> None:
    rows = [line for line in section().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 6
    footnotes = set(re.findall(r"^(\d+)\. ", section(), re.M))
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 6
        for cell in cells[1:]:
            assert set(re.findall(r"\[(\d+)\]", cell)) <= footnotes
            assert re.search(r"\[\d+\]$", cell), cell
