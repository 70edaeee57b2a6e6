"""The command `account`: its options, its help, and what it does.

Owns: the command line of `account`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument(
        "what",
        metavar="delete|recover",
        choices=["delete", "recover"],
        help="delete: your account at the server, for good. recover: after the home was lost",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of `recover`: the name of the account")
    parser.add_argument("--yes", action="store_true", help="delete without the two questions")


def _run(call: Call) -> int:
    from client.cli.account import delete, recover
    from common.errors import SettingRejected

    options = call.options
    if options.what == "recover":
        if options.name is None:
            raise SettingRejected("`account recover` needs the name of the account.")
        with call.registering() as home:
            return recover(home, call.output, options.name, call.settings)
    if options.name is not None:
        raise SettingRejected("`account delete` deletes the account of this home, and takes no name.")
    with call.open_home() as home:
        return delete(home, call.output, yes=options.yes)


COMMAND: Final = Command(
    "account",
    "delete your account at the server, or come back to one whose home is lost",
    "`delete` asks twice. What waits for you at the server is deleted, nobody can send to you any more, and the name "
    "stays taken; the home keeps what was sent and received. `recover` makes a key in a new home and prints it for "
    "the server's operator, who gives it to the account; the same command then completes it. Your contacts are told "
    "that your key has changed, and what was encrypted to the old one can't be read.",
    examples=("messageu account delete", "messageu --home new account recover alice"),
    options=_options,
    run=_run,
    json=("identity", "recovery"),
    exit_codes=(3, 4, 5, 6, 10, 11),
)
