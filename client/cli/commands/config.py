"""The command `config`: its options, its help, and what it does.

Owns: the command line of `config`.
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
    parser.add_argument("what", metavar="show", choices=["show"], help="every setting, and where it comes from")


def _run(call: Call) -> int:
    from client.cli.identity_lines import config_show

    return config_show(call.settings, call.output)


COMMAND: Final = Command(
    "config",
    "look at the settings",
    "One line per setting: its value, and where it comes from.",
    examples=("messageu config show",),
    options=_options,
    run=_run,
    json=("setting",),
)
