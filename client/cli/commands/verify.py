"""The command `verify`: its options, its help, and what it does.

Owns: the command line of `verify`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import USER, VERIFIED, VERIFIED_OF_PUBLISHED, Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"{USER}; or the user's link, as their `messageu whoami` shows it")
    parser.add_argument(
        "--safety-number",
        metavar="N",
        help=(
            "the number that the other side sees: if it matches, the user becomes verified; if not, nothing "
            "changes (exit code 4). Spaces are ignored"
        ),
    )
    parser.add_argument("--qr", action="store_true", help="show the number as a QR code too")
    parser.add_argument(
        "--accept-new",
        action="store_true",
        help="trust the key that the server gives now; with --safety-number, only if the new number matches",
    )


def _run(call: Call) -> int:
    from client.cli.verifying import verify

    options = call.options
    with call.open_home() as home:
        return verify(
            home, call.output, options.name, options.safety_number, qr=options.qr, accept_new=options.accept_new
        )


COMMAND: Final = Command(
    "verify",
    "show the safety number with a user, compare it, accept a changed key",
    "Both sides see the same 60 digits; compare them by voice, or face to face. At a terminal you are asked "
    f"whether they were the same. A link that the user gave you by another way does it without digits, also before "
    f"the first message. {VERIFIED} {VERIFIED_OF_PUBLISHED}",
    examples=(
        "messageu verify bob --qr",
        'messageu verify bob --safety-number "$digits"',
        "messageu verify bob --accept-new",
    ),
    options=_options,
    run=_run,
    json=("verification",),
    exit_codes=(3, 4, 6, 7, 10),
)
