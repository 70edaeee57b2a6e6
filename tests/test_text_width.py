"""Paragraphs wrap at 100 columns: docstrings, comments and documents.

Tables, drawings and code may be as wide as code is. Pictures of screens and the manual page, which
scripts make, are not looked at.
"""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
WIDTH: Final = 100
MADE: Final = frozenset({"docs/screens.md", "docs/messageu.1"})
"""Written by scripts out of the programs themselves."""
DRAWING: Final = re.compile(r"[│─┌└├═→↓┐┘┤┬▶]|   |^\s*(\||#|<|\$|>>>)")


def wide_lines_of_python(source: str) -> Iterator[int]:
    """Numbers of the lines of docstrings and comments that are too wide, from 1."""
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and before in {
            tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
        }  # fmt: skip
        is_comment = token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
        if is_docstring or is_comment:
            for number, line in enumerate(source.splitlines()[token.start[0] - 1 : token.end[0]], token.start[0]):
                if len(line) > WIDTH and (is_comment or not DRAWING.search(line.strip())):
                    yield number
        if token.type not in {tokenize.NL, tokenize.COMMENT, tokenize.ENCODING}:
            before = token.type


def wide_lines_of_markdown(text: str) -> Iterator[int]:
    """Numbers of the lines of paragraphs and lists that are too wide, from 1."""
    in_block = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            in_block = not in_block
        elif not in_block and len(line) > WIDTH and not DRAWING.search(line) and " " in line.strip(" -*"):
            yield number


def tracked(*suffixes: str) -> list[Path]:
    """What git knows, with one of these suffixes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name.endswith(suffixes) and name not in MADE]
    return [file for file in files if file.is_file()]


@pytest.mark.slow
def test_paragraphs_of_the_sources() -> None:
    wide = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py")
        for number in wide_lines_of_python(path.read_text(encoding="utf-8"))
    }
    assert wide == set()


def test_paragraphs_of_the_documents() -> None:
    wide = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".md")
        for number in wide_lines_of_markdown(path.read_text(encoding="utf-8"))
    }
    assert wide == set()


def test_what_is_too_wide_is_found() -> None:
    long = "word " * 25
    assert list(wide_lines_of_python(f'"""Short.\n\n{long}\n"""\nx = "{long}"\n# {long}\n')) == [3, 6]
    assert list(wide_lines_of_python(f'"""Table.\n\n    a   {long}\n"""\n')) == []
    assert list(wide_lines_of_markdown(f"# {long}\n\n{long}\n\n```\n{long}\n```\n- {long}\n| {long} |\n")) == [3, 8]
