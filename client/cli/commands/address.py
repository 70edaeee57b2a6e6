"""The command `address`: its options, its help, and what it does.

Owns: the command line of `address`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument("--qr", action="store_true", help="show it as a QR code too")


def _run(call: Call) -> int:
    from client.cli.server_route import show_address

    return show_address(call.settings, call.output, qr=call.options.qr)


COMMAND: Final = Command(
    "address",
    "show the server's address, to give to others",
    (
        "A link with the pins that this home knows, including the next one if the server has announced it; or"
        " HOST:PORT if the server is reached without TLS. Others join with `messageu --server LINK register "
        "NAME`. Asks no server."
    ),
    examples=("messageu address", "messageu address --qr"),
    options=_options,
    run=_run,
    json=("address",),
)
