"""docs/glossary.md is short, sorted, and holds only words that the project uses; the paths that
CONTRIBUTING.md names exist.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
GLOSSARY: Final = "docs/glossary.md"
MOST: Final = 40


def terms() -> list[str]:
    page = (ROOT / GLOSSARY).read_text(encoding="utf-8")
    rows = page.partition("|---|---|\n")[2].partition("\n\n")[0].splitlines()
    return [row.split("|")[1].strip() for row in rows]


def test_the_list_is_short_and_sorted() -> None:
    found = terms()
    assert 0 < len(found) <= MOST
    assert found == sorted(set(found))


def test_each_term_is_used() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.decode().split("\0") if name.endswith((".py", ".md")) and name != GLOSSARY]
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names if (ROOT / name).is_file())
    words = " ".join(text.lower().split())
    assert [term for term in terms() if not re.search(rf"\b{re.escape(term)}", words)] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_readers_are_led_to_it(page: str) -> None:
    assert GLOSSARY in (ROOT / page).read_text(encoding="utf-8")


def test_what_contributing_names_exists() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {*re.findall(r"`([\w./-]+/[\w./-]*)", page), *re.findall(r"\]\(([\w./-]+)\)", page)}
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
