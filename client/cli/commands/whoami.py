"""The command `whoami`: its options, its help, and what it does.

Owns: the command line of `whoami`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call


def _run(call: Call) -> int:
    from client.cli.identity_lines import whoami

    with call.reading() as home:
        return whoami(home, call.output, call.settings)


COMMAND: Final = Command(
    "whoami",
    "show who this home's user is",
    "Prints name, id, the SHA-256 of your public key, and whether the account has signed in to its server. "
    "With --json, also how its server is reached. Asks no server.",
    examples=("messageu whoami", "messageu whoami --json"),
    run=_run,
    json=("identity",),
)
