"""The command `unmute`: its help, and what it does.

Owns: the command line of `unmute`.
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
    from client.cli.silencing import mute

    with call.open_home() as home:
        return mute(home, call.output, call.options.name, muted=False)


COMMAND: Final = Command(
    "unmute",
    "announce a muted sender's messages again",
    "What came meanwhile is in the history.",
    examples=("messageu unmute bob",),
    options=_options,
    run=_run,
    json=("silenced",),
    exit_codes=(3, 4, 6, 7, 10),
)
