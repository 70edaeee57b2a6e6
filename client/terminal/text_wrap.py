"""Breaking lines at spaces, where a terminal would break them anywhere.

Owns: how wide a text is on a terminal, and where a line that is too long is broken. Promises: only
spaces at a break are lost; a word that is wider than the terminal is left to the terminal, so that
paths and addresses can be copied whole.

Source: docs/screens.md.
"""

import os
import re
import unicodedata
from typing import Final, TextIO

INDENT: Final = "    "
"""The indent of a continued line: a message, or a sentence, begins at the left."""
_UNKNOWN: Final = 80
_TAB: Final = 8
_PARTS: Final = re.compile(r" *[^ ]+| +$")
"""Words, each with the spaces before it."""


def columns_of(stream: TextIO) -> int | None:
    """Return the width of a stream's terminal; None if it is not a terminal."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _UNKNOWN
    except (OSError, ValueError):
        return _UNKNOWN


def width(text: str) -> int:
    """Return the columns that a text of one line takes: two for a wide letter, none for one that
    joins another.
    """
    return sum(map(_width, text))


def wrapped(text: str, columns: int | None, indent: str = INDENT) -> str:
    """Break each line that is wider than `columns`; its rest continues after `indent`. None: no
    terminal.
    """
    if columns is None:
        return text
    return "\n".join([_line(line, columns, indent) for line in text.split("\n")])


def _line(line: str, columns: int, indent: str) -> str:
    rows: list[str] = []
    row, filled = "", 0
    for part in _PARTS.findall(line):
        size = width(part)
        if row.strip() and filled + size > columns:
            rows.append(row)
            row = indent + part.lstrip(" ")
            filled = width(row)
        else:
            row += part
            filled += size
    return "\n".join([*rows, row])


def _width(letter: str) -> int:
    if letter.isascii():
        return _TAB if letter == "\t" else 1
    if unicodedata.combining(letter) or unicodedata.category(letter) in {"Cf", "Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1
