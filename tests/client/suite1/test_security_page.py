"""docs/security.md: each test that it names for a claim exists, and the table of cipher suite 1
names one for each.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def section() -> str:
    return PAGE.partition("\n## What cipher suite 1 protects, and from whom\n")[2].partition("\n## ")[0]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]*test_\w+\.py)`((?:[:,]\s+`test_\w+`)+)", PAGE)
    found = set[str]()
    for file, tests in named:
        source = (ROOT / file if "/" in file else HERE / file).read_text(encoding="utf-8")
        for test in re.findall(r"`(test_\w+)`", tests):
            assert f"\ndef {test}(" in source, (file, test)
            found.add(test)
    # Nothing is named that this does not see.
    assert set(re.findall(r"`(test_\w+)`", PAGE)) == found


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
