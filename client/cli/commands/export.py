"""The command `export`: its options, its help, and what it does.

Owns: the command line of `export`.
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
        "file", metavar="FILE", type=Path, help="a new file, made with mode 0600; an existing one is not overwritten"
    )
    may_be_weak(parser)


def _run(call: Call) -> int:
    from client.cli.export_import import export_home

    options = call.options
    return export_home(
        call.output, call.settings.home, options.file, call.given_passphrase(), may_be_weak=options.weak_passphrase
    )


COMMAND: Final = Command(
    "export",
    "write the whole home into one encrypted file",
    "Identity, contacts, keys, outbox, inbox, history and server.info; received files stay where they are. The "
    "file's passphrase is asked for at a terminal, or comes from --passphrase-file or --passphrase-command.",
    examples=("messageu export alice.home --passphrase-file secret.txt",),
    options=_options,
    run=_run,
)
