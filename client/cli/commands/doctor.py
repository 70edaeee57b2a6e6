"""The command `doctor`: its options, its help, and what it does.

Owns: the command line of `doctor`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call


def _run(call: Call) -> int:
    from client.cli.checks import Doctor

    return Doctor(call.settings, call.output, call.passphrase).run()


COMMAND: Final = Command(
    "doctor",
    "check everything, and explain what is wrong",
    "Server address, file modes, store, passphrase, identity, whether the server answers and what it speaks, "
    "account, changed keys, outbox, messages set aside and clock, one line each. The exit code is that of the first "
    "problem.",
    examples=("messageu doctor", "messageu doctor --json"),
    run=_run,
    json=("check",),
    exit_codes=(3, 4, 6, 10),
)
