"""The command `key`: its options, its help, and what it does.

Owns: the command line of `key`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import USER, Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help=USER)


def _run(call: Call) -> int:
    from client.cli.identity_lines import key

    with call.open_home() as home:
        return key(home, call.output, call.options.name)


COMMAND: Final = Command(
    "key",
    "fetch a user's public key and show its fingerprint",
    "The first key that the server gives is kept and trusted; a different one later is refused (exit code 4).",
    examples=("messageu key bob",),
    options=_options,
    run=_run,
    json=("key",),
    exit_codes=(3, 4, 6, 7, 10),
)
