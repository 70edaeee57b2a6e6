"""The command `block`: its help, and what it does.

Owns: the command line of `block`.
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
        return block(home, call.output, call.options.name, blocked=True)


COMMAND: Final = Command(
    "block",
    "get nothing of a sender any more",
    "The server keeps their messages from your mailbox, and answers the sender as before: nothing tells them. Where it "
    "can't do that, or is not reached, they are dropped when they are fetched. What came before stays in the "
    "history.",
    examples=("messageu block bob",),
    options=_options,
    run=_run,
    json=("silenced",),
    exit_codes=(3, 4, 6, 7, 10),
)
