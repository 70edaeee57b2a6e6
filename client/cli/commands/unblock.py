"""The command `unblock`: its help, and what it does.

Owns: the command line of `unblock`.
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
    from client.cli.silencing import block

    with call.open_home() as home:
        return block(home, call.output, call.options.name, blocked=False)


COMMAND: Final = Command(
    "unblock",
    "let a blocked sender write again",
    "What they sent meanwhile is gone.",
    examples=("messageu unblock bob",),
    options=_options,
    run=_run,
    json=("silenced",),
    exit_codes=(3, 4, 6, 7, 10),
)
