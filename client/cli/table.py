"""The table of commands, in the order in which help and reference list them.

Owns: which commands there are. A new one is a file in client/cli/commands and a row here: its name
and its import.
Promises: the file of a command is imported when that command is asked for. A name without an import
is an error of mypy; a file without a row fails in tests/client/cli/test_table.py.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, assert_never, get_args

if TYPE_CHECKING:
    from client.cli.command import Command

Name = Literal[
    "register",
    "whoami",
    "users",
    "key",
    "verify",
    "block",
    "unblock",
    "mute",
    "unmute",
    "blocked",
    "send",
    "recv",
    "chat",
    "watch",
    "resend",
    "history",
    "export",
    "import",
    "passphrase",
    "account",
    "address",
    "doctor",
    "console",
    "config",
    "completion",
]
NAMES: Final[tuple[Name, ...]] = get_args(Name)


def load(name: Name) -> Command:
    """Import a command's file and return the command."""
    match name:
        case "register":
            from client.cli.commands.register import COMMAND
        case "whoami":
            from client.cli.commands.whoami import COMMAND
        case "users":
            from client.cli.commands.users import COMMAND
        case "key":
            from client.cli.commands.key import COMMAND
        case "verify":
            from client.cli.commands.verify import COMMAND
        case "block":
            from client.cli.commands.block import COMMAND
        case "unblock":
            from client.cli.commands.unblock import COMMAND
        case "mute":
            from client.cli.commands.mute import COMMAND
        case "unmute":
            from client.cli.commands.unmute import COMMAND
        case "blocked":
            from client.cli.commands.blocked import COMMAND
        case "send":
            from client.cli.commands.send import COMMAND
        case "recv":
            from client.cli.commands.recv import COMMAND
        case "chat":
            from client.cli.commands.chat import COMMAND
        case "watch":
            from client.cli.commands.watch import COMMAND
        case "resend":
            from client.cli.commands.resend import COMMAND
        case "history":
            from client.cli.commands.history import COMMAND
        case "export":
            from client.cli.commands.export import COMMAND
        case "import":
            from client.cli.commands.import_ import COMMAND
        case "passphrase":
            from client.cli.commands.passphrase import COMMAND
        case "account":
            from client.cli.commands.account import COMMAND
        case "address":
            from client.cli.commands.address import COMMAND
        case "doctor":
            from client.cli.commands.doctor import COMMAND
        case "console":
            from client.cli.commands.console import COMMAND
        case "config":
            from client.cli.commands.config import COMMAND
        case "completion":
            from client.cli.commands.completion import COMMAND
        case _:
            assert_never(name)
    return COMMAND


def named(word: str) -> Name:
    """Check that a word is in `NAMES`."""
    assert word in NAMES
    return word
