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
        help="set the first one, change it, remove it",
    )
    parser.add_argument("--new-passphrase-file", metavar="PATH", type=Path, help="its first line is the new one")
    parser.add_argument("--new-passphrase-command", metavar="CMD", help="the first line that it prints is the new one")
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
    "encrypt the private key and the store under a passphrase, or no longer",
    "All of it happens or nothing. The present passphrase comes as for every command; the new one is asked for "
    "twice at a terminal where no option gives it.",
    examples=("messageu passphrase set", "messageu passphrase change --new-passphrase-command 'pass messageu'"),
    options=_options,
    run=_run,
)
