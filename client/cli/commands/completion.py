"""The command `completion`: its options, its help, and what it does.

Owns: the command line of `completion`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command
from client.cli.values import CONTACTS

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", choices=["bash", "zsh", "fish", CONTACTS], help="bash, zsh or fish; or contacts"
    )
    parser.add_argument(
        "prefix",
        metavar="PREFIX",
        nargs="?",
        default="",
        help="with contacts: only names that begin with this (default: all)",
    )


def _run(call: Call) -> int:
    from client.cli import completion_scripts
    from client.cli.parser import parser

    if call.options.shell == CONTACTS:
        return completion_scripts.contacts(call.output, call.settings.home, call.options.prefix)
    return completion_scripts.completion(call.output, parser(), call.options.shell)


COMMAND: Final = Command(
    "completion",
    "print the completion script for a shell",
    (
        "The scripts complete names of users too. `completion contacts` prints these, one per line: up to 100"
        " from the last list of users that was fetched. It asks no server, and prints nothing if the home has"
        " a passphrase."
    ),
    examples=(
        "source <(messageu completion bash)",
        "messageu completion fish > ~/.config/fish/completions/messageu.fish",
    ),
    options=_options,
    run=_run,
    json=("completion", "contact"),
)
