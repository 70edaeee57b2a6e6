"""The command `users`: its options, its help, and what it does.

Owns: the command line of `users`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call


def _run(call: Call) -> int:
    from client.cli.identity_lines import users

    with call.open_home() as home:
        return users(home, call.output)


COMMAND: Final = Command(
    "users",
    "list everybody else who is registered",
    "One name per line, with `[verified]` after users that you have verified.",
    examples=("messageu users",),
    run=_run,
    json=("user",),
    exit_codes=(3, 4, 6, 10),
)
