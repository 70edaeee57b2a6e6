"""Values on the command line, checked. Owns: the checks, and the sentences for values that fail
them.
Promises: imports nothing heavy.

Source: docs/client.md.
"""

import argparse
from pathlib import Path
from typing import Final

CONTACTS: Final = "contacts"
"""What `completion` prints instead of a script."""


def to_send(text: str) -> Path:
    """Convert a path after --file; - is standard input."""
    return Path("/dev/stdin") if text == "-" else Path(text)


def seconds(text: str) -> float:
    """Convert a number of seconds, 0 or more. Raises `ArgumentTypeError`, as do those below."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
    return value


def some_seconds(text: str) -> float:
    """Convert a number of seconds above 0."""
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"more than 0 seconds, not {text!r}")
    return value


def count(text: str) -> int:
    """Convert a whole number, 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return int(text)
