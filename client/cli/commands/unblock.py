"""The command `unblock`: its help.

Owns: the words of `unblock`; what it does is in `client.cli.silencing_command`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import Final

from client.cli.silencing_command import silencing_command

COMMAND: Final = silencing_command(
    "unblock",
    "let a blocked sender write again",
    "What they sent meanwhile is gone.",
    "blocked",
    holds=False,
)
