"""The command `console`: its options, its help, and what it does.

Owns: the command line of `console`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call


def _run(call: Call) -> int:
    from common.errors import SettingRejected

    # Without --json, client/__main__.py starts it.
    assert call.options.json
    raise SettingRejected("The console speaks no JSON; for scripts there are the commands of `messageu --help`.")


COMMAND: Final = Command(
    "console",
    "the numbered menu, as published",
    "The same as `messageu` without a command. Has no JSON output.",
    examples=("messageu console", "messageu --home alice"),
    run=_run,
)
