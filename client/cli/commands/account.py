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
        metavar="delete|recover|move",
        choices=["delete", "recover", "move"],
        help="delete: your account at the server, for good. recover: after the home was lost. move: to another server",
    )
    parser.add_argument(
        "name",
        metavar="NAME|ADDRESS",
        nargs="?",
        help="of `recover`: the name of the account; of `move`: the address of the new server, HOST:PORT or a link",
    )
    parser.add_argument("--yes", action="store_true", help="delete or move without a question")
    parser.add_argument("--name", dest="new_name", metavar="NEW", help="of `move`: the name at the new server")
    parser.add_argument(
        "--delete-old", action="store_true", help="of `move`: delete the account at the old server afterwards"
    )
    parser.add_argument(
        "--leave-waiting",
        action="store_true",
        help="of `move`: where the old server can't be reached, leave what waits there; set aside what is not sent",
    )


def _run(call: Call) -> int:
    from client.cli.account import delete, recover
    from common.errors import SettingRejected

    options = call.options
    if options.what != "move" and (options.new_name is not None or options.delete_old or options.leave_waiting):
        raise SettingRejected("--name, --delete-old and --leave-waiting are options of `account move`.")
    if options.what == "move":
        return _move(call)
    if options.what == "recover":
        if options.name is None:
            raise SettingRejected("`account recover` needs the name of the account.")
        with call.registering() as home:
            return recover(home, call.output, options.name, call.settings)
    if options.name is not None:
        raise SettingRejected("`account delete` deletes the account of this home, and takes no name.")
    with call.open_home() as home:
        return delete(home, call.output, yes=options.yes)


def _move(call: Call) -> int:
    from client.cli import exit_codes
    from client.cli.account import move, moved_in
    from client.moving import Wanted
    from client.settings import address_of
    from common.errors import SettingRejected, ValueRejected
    from common.name_rule import registrable
    from common.names import normal_form

    options = call.options
    if options.name is None:
        raise SettingRejected("`account move` needs the address of the new server, HOST:PORT or a link.")
    address = address_of("`account move`", options.name)
    try:
        if options.new_name is not None:
            registrable(normal_form(options.new_name))
    except ValueRejected as error:
        raise SettingRejected(f"Nothing was moved: {error}. Choose another name.") from error
    wanted = Wanted(address, options.new_name, options.leave_waiting, options.delete_old)
    with call.open_home() as home:
        there = move(home, call.output, wanted, yes=options.yes)
    if there is None:
        return exit_codes.UNEXPECTED
    source = call.settings.server_setting().source
    if source == "MESSAGEU_SERVER":
        call.output.say(f"{source} names the server of before: take it out of your environment.")
    with call.open_home(at=there) as home:
        return moved_in(home, call.output, delete_old=options.delete_old)


COMMAND: Final = Command(
    "account",
    "delete your account at the server, come back to one whose home is lost, or move it to another server",
    "`delete` asks twice. What waits for you at the server is deleted, nobody can send to you any more, and the name "
    "stays taken; the home keeps what was sent and received. `recover` makes a key in a new home and prints it for "
    "the server's operator, who gives it to the account; the same command then completes it. Your contacts are told "
    "that your key has changed, and what was encrypted to the old one can't be read. `move` registers the same name "
    "and key at another server, and this home uses that one from then on; it asks once. What waits at the old server "
    "is fetched first.",
    examples=(
        "messageu account delete",
        "messageu --home new account recover alice",
        "messageu account move 'messageu://PIN@HOST:PORT#INVITATION'",
        "messageu account move chat.example.org:1357 --name alice2 --delete-old",
    ),
    options=_options,
    run=_run,
    json=("identity", "recovery"),
    exit_codes=(3, 4, 5, 6, 10, 11),
)
