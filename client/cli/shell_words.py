"""A command that a user gives as one text, split into words as a shell would; no shell runs it.

Owns: what the text means: quotes, backslashes, and `~`.
Promises: `~` and `~NAME` at the beginning of a word are a home folder, unless quoted, as in a
shell; nothing else is replaced: no variables, no patterns.
Exposure: none: the text is the user's own.

Source: docs/client.md.
"""

import os.path
import shlex
from typing import Final

_TILDE: Final = "\ue07e"
"""Stands for a `~` that no quote protects while the text is split: a private character
that no command has.
"""


def words_of(command: str) -> list[str]:
    """Return the words. Raises `ValueError` for a quote that is never closed, and a backslash at
    the end.
    """
    return [
        os.path.expanduser(f"~{word[1:]}") if word.startswith(_TILDE) else word  # noqa: PTH111 - whole words
        for word in shlex.split(_marked(command))
    ]


def _marked(command: str) -> str:
    """Return the text with each `~` that begins a word, and that no quote or backslash protects,
    replaced.
    """
    marked = ""
    quote = ""
    protected = False
    begins = True
    for character in command:
        if protected:
            protected = False
        elif character == "\\" and quote != "'":
            protected = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "~" and begins:
            marked += _TILDE
            begins = False
            continue
        marked += character
        begins = not quote and not protected and character.isspace()
    return marked
