"""The command `block`: its help.

Owns: the words of `block`; what it does is in `client.cli.silencing_command`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import Final

from client.cli.silencing_command import silencing_command

COMMAND: Final = silencing_command(
    "block",
    "get nothing of a sender any more",
    "The server keeps their messages from your mailbox, and answers the sender as before: nothing tells them. Where it "
    "can't do that, or is not reached, they are dropped when they are fetched. What came before stays in the "
    "history.",
    "blocked",
    holds=True,
)
