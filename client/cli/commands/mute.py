"""The command `mute`: its help.

Owns: the words of `mute`; what it does is in `client.cli.silencing_command`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import Final

from client.cli.silencing_command import silencing_command

COMMAND: Final = silencing_command(
    "mute",
    "announce nothing of a sender's",
    "Their messages come and are kept: `recv` and `history` show them; `watch` does not, nor does a `chat` with "
    "somebody else.",
    "muted",
    holds=True,
)
