"""What a command of `messageu` is: one value, made in the command's own file.

Owns: the form of that value, and words that several commands' help has in common.
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
VERIFIED: Final = (
    "`verified` says whose key you hold, not who wrote a message: texts and files are neither signed nor "
    "authenticated, so a server can still cut, repeat and alter messages."
)
"""What a comparison is worth while the cipher suite is the published one."""


def may_be_weak(parser: Parser) -> None:
    """Add the option of commands that take a new passphrase."""
    parser.add_argument(
        "--weak-passphrase",
        action="store_true",
        help="accept a new passphrase of fewer than 8 characters without asking",
    )


def _no_options(_: Parser) -> None:
    """Of a command that has none but the general ones."""


@dataclass(frozen=True)
class Command:
    """One command. What is left out has nothing to say."""

    name: str
    help: str
    """One line for the list of commands; small letters, no full stop."""
    more: str
    """What `messageu NAME --help` says behind that line."""
    examples: tuple[str, ...]
    run: Callable[[Call], int]
    """Does it, and gives the exit code. Imports what it needs when it runs."""
    options: Callable[[Parser], None] = _no_options
    """Adds its arguments and options to its parser."""
    json: tuple[str, ...] = ()
    """The types of the objects of `--json`, as in docs/schemas, but for `error` and `note`."""
    exit_codes: tuple[int, ...] = ()
    """Beyond 0, 1, 2, 8 and 130, which any command may give."""
    sends: bool = False
    """It sends messages, so that a failure says whether one was kept."""
