"""The command `resend`: its options, its help, and what it does.

Owns: the command line of `resend`.
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
    parser.add_argument("name", metavar="NAME", nargs="?", help="to this user only (default: to all)")
    parser.add_argument("--forget", action="store_true", help="remove the marks, and send nothing")


def _run(call: Call) -> int:
    from client.cli.resend_lines import resend

    with call.open_home() as home:
        return resend(home, call.output, call.options.name, forget=call.options.forget)


COMMAND: Final = Command(
    "resend",
    "send again what may be lost since the server was restored from a backup",
    (
        "When the client notices the restore, it marks as possibly lost what the server had acknowledged in "
        "the 7 days before, at most the newest 1,024 messages; symmetric keys and requests for them count. "
        "Each is sent again under its own token, oldest first, so what the server still has is not stored "
        "twice."
    ),
    examples=("messageu resend", "messageu resend bob --forget"),
    options=_options,
    run=_run,
    json=("sent",),
    exit_codes=(3, 4, 5, 6, 7, 10),
)
