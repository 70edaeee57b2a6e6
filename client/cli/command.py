"""A command of `messageu`: one value, made in the command's own file.

Owns: the fields of that value, and words that the help of several commands shares.
Promises: imports nothing heavy. The parser, completion, docs/client.md and the manual page are made
from these values.

Source: docs/client.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.cli.call import Call
    from client.cli.command_line import Parser

USER: Final = "the user's name, as `messageu users` shows it"
VERIFIED: Final = "`verified` says who wrote a message: nobody else, the server included, can write or alter one."
"""What a comparison of keys proves under cipher suite 1."""
VERIFIED_OF_PUBLISHED: Final = (
    "Under the published cipher suite that says whose key you hold, not who wrote a message: texts and files are "
    "neither signed nor authenticated there, so a server can still cut, repeat and alter messages."
)
"""The same under the published one."""


def may_be_weak(parser: Parser) -> None:
    """Add the option of commands that take a new passphrase."""
    parser.add_argument(
        "--weak-passphrase",
        action="store_true",
        help="accept a new passphrase of fewer than 8 characters without asking",
    )


def _no_options(_: Parser) -> None:
    """For a command without options of its own."""


@dataclass(frozen=True)
class Command:
    """One command. A field that is left out has no effect."""

    name: str
    help: str
    """One line for the list of commands; small letters, no full stop."""
    more: str
    """What `messageu NAME --help` says after that line."""
    examples: tuple[str, ...]
    run: Callable[[Call], int]
    """Runs the command, and returns the exit code. Imports what it needs when it runs."""
    options: Callable[[Parser], None] = _no_options
    """Adds its arguments and options to its parser."""
    json: tuple[str, ...] = ()
    """The types of the objects of `--json`, as in docs/schemas, except for `error` and `note`."""
    exit_codes: tuple[int, ...] = ()
    """Exit codes besides 0, 1, 2, 8 and 130, which any command may return."""
    sends: bool = False
    """Whether it sends messages; then a failure says whether one was kept."""
