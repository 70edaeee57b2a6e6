"""The command `unmute`: its help.

Owns: the words of `unmute`; what it does is in `client.cli.silencing_command`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import Final

from client.cli.silencing_command import silencing_command

COMMAND: Final = silencing_command(
    "unmute",
    "announce a muted sender's messages again",
    "What came meanwhile is in the history.",
    "muted",
    holds=False,
)
