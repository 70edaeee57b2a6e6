"""The command `recv`: its options, its help, and what it does.

Owns: the command line of `recv`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command
from client.cli.values import count, seconds

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument(
        "--wait",
        metavar="S",
        type=seconds,
        default=0.0,
        help="wait up to S seconds for mail; exit code 124 if none arrived (default: 0)",
    )
    parser.add_argument(
        "--max", metavar="N", type=count, dest="most", help="at most N messages; the others stay (default: all)"
    )


def _run(call: Call) -> int:
    from client.cli.message_lines import receive

    answer = call.settings.answer_key_requests()
    with call.open_home() as home:
        return receive(home, call.output, call.options.wait, call.options.most, answer)


COMMAND: Final = Command(
    "recv",
    "fetch and show pending messages",
    (
        "Oldest first, one message per line. A message that can't be decrypted is reported with the reason "
        "(exit code 9), kept, and shown as soon as its key arrives. Files are saved in --save-dir and never "
        "overwrite anything."
    ),
    examples=("messageu recv", "messageu recv --wait 60 --json"),
    options=_options,
    run=_run,
    json=("message",),
    exit_codes=(3, 4, 6, 9, 10, 124),
)
