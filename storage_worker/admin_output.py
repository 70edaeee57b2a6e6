"""What a command of `scripts/admin` prints: sentences, or with `--json` one object.

Owns: both forms of a result, and where a refusal goes. Promises: with `--json` standard output has
JSON alone, and nothing where nothing was done; its letters are ASCII, so that no name is obeyed by
a terminal.
Exposure: whoever runs the command.

Source: docs/operations.md, "Results as JSON".
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Final

EXIT_UNKNOWN: Final = 1

Say = Callable[[str], object]


def show(say: Say, line: Mapping[str, object], *sentences: str, as_json: bool) -> None:
    """Print a result: `line` as JSON, or the sentences."""
    if as_json:
        say(json.dumps(line))
        return
    for sentence in sentences:
        say(sentence)


def refuse(say: Say, sentence: str, *, as_json: bool) -> int:
    """Say why nothing was done, with `--json` on standard error; the exit code."""
    if as_json:
        sys.stderr.write(f"admin: {sentence}\n")
    else:
        say(sentence)
    return EXIT_UNKNOWN


def refuse_unknown_user(say: Say, name: str, *, as_json: bool) -> int:
    """Nobody has that name, or who had it is being deleted; the exit code."""
    return refuse(say, f"There is no user named {name!r}.", as_json=as_json)
