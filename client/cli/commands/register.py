"""The command `register`: its options, its help, and what it does.

Owns: the command line of `register`.
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
        "name",
        metavar="NAME",
        help=(
            "your name: 1 to 254 characters, no space at either end; letters beyond ASCII where the server accepts them"
        ),
    )


def _run(call: Call) -> int:
    from client.cli.identity_lines import register
    from common.errors import SettingRejected, ValueRejected
    from common.name_rule import registrable
    from common.names import normal_form

    name, settings = call.options.name, call.settings
    # A name that nobody can have leaves no trace.
    try:
        registrable(normal_form(name))
    except ValueRejected as error:
        raise SettingRejected(f"Not registered: {error}. Choose another name.") from error
    with call.registering() as home:
        return register(home, call.output, name, settings)


COMMAND: Final = Command(
    "register",
    "register under a name",
    (
        "Prints your new identity. A home has one identity, which is never replaced. Run the same command "
        "again to complete a registration that was interrupted, or to register an account again that the "
        "server lost when it was restored from a backup: the name and key stay the same, and the id where it "
        "is free. If the server needs an invitation, give the link that holds it, in quotes: --server "
        "'messageu://PIN@HOST:PORT#INVITATION'."
    ),
    examples=("messageu register alice", "messageu --home ~/robot --server chat.example.org:1357 register robot"),
    options=_options,
    run=_run,
    json=("identity",),
    exit_codes=(3, 4, 5, 6, 10, 11),
)
