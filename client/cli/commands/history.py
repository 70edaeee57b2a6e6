"""The command `history`: its options, its help, and what it does.

Owns: the command line of `history`.
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
    parser.add_argument("name", metavar="NAME", nargs="?", help="with this user only (default: all)")
    parser.add_argument(
        "--search",
        metavar="WORDS",
        help="messages that contain all of these words, in any case and any form of Unicode",
    )


def _run(call: Call) -> int:
    from client.cli.message_lines import history

    with call.reading() as home:
        return history(home, call.output, call.options.name, call.options.search)


COMMAND: Final = Command(
    "history",
    "list what was received and sent, without asking the server",
    "Shows when the server accepted each message, where that is known. `[suite 1]` is behind the name where the "
    "message went under the modern cipher suite.",
    examples=("messageu history bob", "messageu history --search 'build done' --json"),
    options=_options,
    run=_run,
    json=("message",),
)
