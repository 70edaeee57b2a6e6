"""What the commands block, unblock, mute and unmute share: a name, and one change. Owns: the
options and the run of these commands.
Promises: nothing heavy is imported before they run.

Source: docs/client.md, "Blocking and muting".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from client.cli.command import USER, Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def silencing_command(
    name: str, summary: str, more: str, state: Literal["blocked", "muted"], *, holds: bool
) -> Command:
    """Make a command that puts a sender into this state, or takes them out of it.

    `summary` and `more`: `help` and `more` of the `Command`.
    """

    def run(call: Call) -> int:
        from client.cli.silencing import block, mute  # noqa: PLC0415 - heavy

        with call.open_home() as home:
            if state == "blocked":
                return block(home, call.output, call.options.name, blocked=holds)
            return mute(home, call.output, call.options.name, muted=holds)

    return Command(
        name,
        summary,
        more,
        examples=(f"messageu {name} bob",),
        options=_options,
        run=run,
        json=("silenced",),
        exit_codes=(3, 4, 6, 7, 10),
    )


def _options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help=USER)
