"""The command `passphrase`: its options, its help, and what it does.

Owns: the command line of `passphrase`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from client.cli.command import Command, may_be_weak

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument(
        "what",
        metavar="set|change|remove",
        choices=["set", "change", "remove"],
        help="set a passphrase, change it, or remove it",
    )
    parser.add_argument(
        "--new-passphrase-file", metavar="PATH", type=Path, help="a file whose first line is the new passphrase"
    )
    parser.add_argument(
        "--new-passphrase-command", metavar="CMD", help="a command that prints the new passphrase as its first line"
    )
    may_be_weak(parser)


def _run(call: Call) -> int:
    from client.cli.passphrase_change import passphrase_command

    options = call.options
    return passphrase_command(
        call.output,
        call.settings.home,
        options.what,
        call.passphrase,
        options.new_passphrase_file,
        options.new_passphrase_command,
        may_be_weak=options.weak_passphrase,
    )


COMMAND: Final = Command(
    "passphrase",
    "encrypt the private key and the store under a passphrase, or decrypt them",
    (
        "Either all of it is changed or nothing. The current passphrase is given as for every command; the "
        "new one is asked for twice at a terminal if no option gives it."
    ),
    examples=("messageu passphrase set", "messageu passphrase change --new-passphrase-command 'pass messageu'"),
    options=_options,
    run=_run,
)
