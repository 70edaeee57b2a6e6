"""Documents with generated parts: printed, or written in place of the old one.

Owns: the command line that the scripts which make them share. Promises: if a document can't be
made, a sentence says why, and the old one stays.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path


class PartsDiffer(Exception):
    """The document lacks parts, or has some that nothing stands for."""


def check_parts(page: str, found: Sequence[str], made: Collection[str]) -> None:
    """Raise `PartsDiffer` where a page does not have each part that is made once, and no other."""
    wrong = [f"{name} is not there" for name in made if name not in found]
    wrong += [f"{name} is there more than once" for name in made if found.count(name) > 1]
    wrong += [f"nothing makes {name}" for name in found if name not in made]
    if wrong:
        raise PartsDiffer(f"{page}, lines `<!-- made: NAME -->`, each with its `<!-- end -->`: {'; '.join(wrong)}")


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
