#!/usr/bin/env python3
"""Writes common/name_table.py, the characters of names and what they look like, from the data of
Unicode that the library ICU carries.

scripts/name_table.py prints the module as it should be; with --write it takes the old one's place.
It needs a package with ICU (`pip install icukit-pyicu`), which nothing else here uses. A new table
changes what stored names look like: the server's schema then needs an upgrade that computes the
looks of all users again (storage_worker/engine/sqlite/schema.py).
"""

# ruff: noqa: E402 - what is imported is set up first

import argparse
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup

if __name__ == "__main__":
    _setup.continue_in_venv("run")

TABLE = ROOT / "common" / "name_table.py"
HEAD = '''"""Characters of names: which are allowed, their scripts, and what they look like.

Owns: data of Unicode {version}. Promises: made by `scripts/name_table.py`, never by hand.
Exposure: constants only.

Sources: Unicode Technical Standard 39: IdentifierStatus.txt (Allowed), confusables.txt; Unicode
Standard Annex 24: ScriptExtensions.txt. A line is code points in hexadecimal.
"""

from typing import Final

UNICODE_VERSION: Final = "{version}"

'''
SCRIPTS_SAY = '''"""The scripts that characters beyond ASCII are used in -> the allowed ones of these, as ranges."""
'''
PROTOTYPES_SAY = '''"""A character, then what it looks like, of ASCII, `SCRIPTS`, their parts and other cases."""
'''


def module(icu: Any) -> str:
    """Give the whole module."""
    chosen = allowed(icu)
    by_scripts: dict[str, list[int]] = defaultdict(list)
    for code in chosen:
        by_scripts[" ".join(sorted(_scripts(icu, code)))].append(code)
    lines = [HEAD.format(version=icu.UNICODE_VERSION), "SCRIPTS: Final = {\n"]
    for scripts in sorted(by_scripts):
        lines += [f'    "{scripts}": """\n', wrapped(ranges(by_scripts[scripts])), '    """,\n']
    looks = "\n".join(prototypes(icu, chosen))
    lines += ["}\n", SCRIPTS_SAY, f'PROTOTYPES: Final = """\n{looks}\n"""\n', PROTOTYPES_SAY]
    return "".join(lines)


def allowed(icu: Any) -> list[int]:
    """Give the characters beyond ASCII that may be in a name."""
    recommended = icu.SpoofChecker.getRecommendedUnicodeSet()
    included = icu.SpoofChecker.getInclusionUnicodeSet()
    codes = [code for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    return [code for code in codes if recommended.contains(chr(code)) or included.contains(chr(code))]


def prototypes(icu: Any, chosen: Iterable[int]) -> list[str]:
    """Give a line for each character that looks like something else."""
    checker = icu.SpoofChecker()
    decomposed = icu.Normalizer2.getNFDInstance().normalize
    waiting = {part for code in (*range(0x20, 0x7F), *chosen) for part in str(decomposed(chr(code)))}
    reached: dict[str, str] = {}
    while waiting:
        letter = waiting.pop()
        reached[letter] = looks = str(checker.getSkeleton(0, letter))
        for text in (looks, str(icu.UnicodeString(letter).foldCase()), str(icu.UnicodeString(looks).foldCase())):
            waiting |= set(str(decomposed(text))) - reached.keys()
    return [
        f"{ord(letter):X} {' '.join(f'{ord(part):X}' for part in looks)}"
        for letter, looks in sorted(reached.items())
        if looks != letter
    ]


def _scripts(icu: Any, code: int) -> list[str]:
    return [icu.Script(script).getShortName() for script in icu.Script.getScriptExtensions(code)]


def ranges(codes: Iterable[int]) -> list[str]:
    """Give growing numbers as ranges."""
    found: list[list[int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return [f"{first:X}" if first == last else f"{first:X}-{last:X}" for first, last in found]


def wrapped(words: Iterable[str]) -> str:
    """Give words in lines."""
    return textwrap.fill(" ".join(words), 116, break_on_hyphens=False) + "\n"


def main() -> None:
    """Print it, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="write it in the place of the old one")
    write = parser.parse_args().write
    try:
        import icu  # noqa: PLC0415 - help comes without it
    except ImportError:
        sys.exit("name_table: ICU is not installed here: pip install icukit-pyicu")
    if write:
        TABLE.write_text(module(icu), encoding="utf-8")
    else:
        sys.stdout.write(module(icu))


if __name__ == "__main__":
    main()
