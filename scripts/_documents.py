"""Documents of which a program makes parts: printed, or written in the old one's place.

Owns: the command line that the scripts share which make them. Promises: a document that can't be
made is a sentence, and the old one stays.
"""

import sys
from collections.abc import Callable
from pathlib import Path


class PartsDiffer(Exception):
    """The document lacks parts, or has some that nothing stands for."""


def main(page: Path, rewritten: Callable[[str], str]) -> int:
    """Print what `rewritten` makes of the page's text; with --write it takes the old
    text's place.
    """
    before = page.read_text(encoding="utf-8")
    try:
        document = rewritten(before)
    except PartsDiffer as problem:
        print(problem, file=sys.stderr)
        return 1
    if "--write" in sys.argv:
        page.write_text(document, encoding="utf-8")
        print(f"{page.parent.name}/{page.name} {'was up to date' if document == before else 'is brought up to date'}.")
    else:
        print(document, end="")
    return 0
