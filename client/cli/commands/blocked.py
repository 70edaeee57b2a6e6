"""The command `blocked`: its help, and what it does.

Owns: the command line of `blocked`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call


def _run(call: Call) -> int:
    from client.cli.silencing import show_all

    with call.reading() as home:
        return show_all(home, call.output)


COMMAND: Final = Command(
    "blocked",
    "list who is blocked or muted",
    "One a line. Asks no server.",
    examples=(
        "messageu blocked",
        "messageu blocked --json",
    ),
    run=_run,
    json=("silenced",),
)
