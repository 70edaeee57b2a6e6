"""The command `chat`: its options, its help, and what it does.

Owns: the command line of `chat`.
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
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help=f"{USER} (default: choose from your conversations)",
    )


def _run(call: Call) -> int:
    from client.cli.chatting import Signs, chat

    settings = call.settings
    with call.open_home() as home:
        signs = Signs(settings.bell(), settings.title())
        return chat(home, call.output, call.options.name, settings.answer_key_requests(), signs)


COMMAND: Final = Command(
    "chat",
    "chat with a user: messages appear while you type",
    "Needs a terminal. /help lists the commands; /quit or Ctrl-D leaves.",
    examples=("messageu chat bob", "messageu chat"),
    options=_options,
    run=_run,
    exit_codes=(3, 4, 6, 7, 10),
)
