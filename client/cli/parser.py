"""The command line of `messageu`, as a parser.

Owns: the general options, and a parser for each command of `client.cli.table`.
Promises: imports nothing heavy, and a command's file only when its parser is needed, so that
`--help` and `--version` answer at once.

Source: docs/client.md.
"""

import argparse
from pathlib import Path
from typing import Final

from client.cli.command_line import PROGRAM, Parser, ShowVersion
from client.cli.table import NAMES, load, named

CONSOLE: Final = "console"
_EXAMPLES: Final = ("messageu register alice", "messageu send bob hello", "messageu recv --wait 60")


def parser(*, as_json: bool = False) -> Parser:
    """Make the parser; `as_json`: it reports errors as objects."""
    top = Parser(
        as_json=as_json,
        prog=PROGRAM,
        usage=f"{PROGRAM} [OPTION ...] [COMMAND ...]",
        add_help=False,
        description="MessageU: end-to-end encrypted messages. Without a command, the numbered console.",
    )
    top.examples = _EXAMPLES
    top.epilog = (
        f"{_listed(_EXAMPLES)}\n\nData goes to stdout, prose to stderr. `messageu COMMAND --help` describes a "
        "command; docs/client.md describes them all, and the exit codes."
    )
    _common(top, default=None)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", prog=PROGRAM)

    def make(name: str) -> None:
        command = load(named(name))
        made = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}. {command.more}".rstrip(),
            epilog=_listed(command.examples),
            as_json=as_json,
            add_help=False,
        )
        made.examples = command.examples
        command.options(made)
        # After the command's own, for which its help is read.
        _common(made, default=argparse.SUPPRESS)

    top.take_commands(NAMES, make)
    return top


def _listed(examples: tuple[str, ...]) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in examples)])


def _common(of: Parser, default: str | None) -> None:
    """Options that may be before or after the command."""
    to = of.general_options()
    to.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help="show this help and exit")
    to.add_argument("--version", action=ShowVersion, default=argparse.SUPPRESS, help="print the version")
    to.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        default=default,
        help="the folder of your identity (default: this folder if it has me.info or my.info, else your data folder)",
    )
    to.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=default,
        help="the server's address, or its link, messageu://PIN@HOST:PORT, for TLS with that pin; a server of "
        "several gateways has HOST:PORT,HOST:PORT in either, tried in this order; remembered by `register` "
        "(default: from server.info)",
    )
    to.add_argument(
        "--save-dir",
        type=Path,
        metavar="DIR",
        default=default,
        help="where received files go (default: the temporary folder)",
    )
    to.add_argument(
        "--published-only",
        action=argparse.BooleanOptionalAction,
        default=default,
        help=(
            "keep to the published protocol, so that other MessageU programs work for this account too; "
            "remembered (--no-published-only: use the extension)"
        ),
    )
    to.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="PATH",
        default=default,
        help="a file whose first line is the home's passphrase (for export and import: the exported file's)",
    )
    to.add_argument(
        "--passphrase-command",
        metavar="CMD",
        default=default,
        help="a command that prints that passphrase as its first line",
    )
    switch = False if default is None else default
    to.add_argument("--json", action="store_true", default=switch, help="one JSON object per line, on both streams")
    to.add_argument("--quiet", "-q", action="store_true", default=switch, help="no prose except failures")
