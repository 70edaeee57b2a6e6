"""The command `import`: its options, its help, and what it does.

Owns: the command line of `import`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="what `messageu export` wrote, or another client's my.info or me.info"
    )


def _run(call: Call) -> int:
    from client.cli.export_import import import_home, remember_server

    settings, given = call.settings, call.given_passphrase()
    # Before anything is imported, so that an address that is none is refused.
    server = settings.server() if settings.remembers_server() else None
    code = import_home(call.output, settings.home, call.options.file, given)
    # What the file brought along counts more than what lies in the present folder.
    if server is not None and settings.remembers_server():
        remember_server(call.output, settings.home, server)
    return code


COMMAND: Final = Command(
    "import",
    "make a home from an exported file, or from another client's identity; nothing is overwritten",
    (
        "Refused if the home already has an identity or a store, and for a wrong passphrase (exit code 2). "
        "From then on use only one of the two homes, because each would fetch a part of the mail. From "
        "another client's my.info or me.info it takes the identity, and the server.info beside it. Prints "
        "what was imported, as `whoami` does."
    ),
    examples=("messageu --home new import alice.home", "messageu --home new import ../other-client/me.info"),
    options=_options,
    run=_run,
    json=("identity",),
)
