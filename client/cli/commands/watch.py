"""The command `watch`: its options, its help, and what it does.

Owns: the command line of `watch`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import Command
from client.cli.values import count, some_seconds

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument(
        "--exec",
        metavar="CMD",
        help=(
            "a command that gets each message as one JSON object on its standard input; it is split into "
            "words as in a shell, but no shell runs it"
        ),
    )
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=some_seconds,
        help="stop the command after S seconds, which counts as a failure (default: no limit)",
    )
    parser.add_argument(
        "--tries",
        metavar="N",
        type=count,
        help="set a message aside when the command has failed on it N times (default: 10)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--set-aside", action="store_true", help="list the messages that were set aside, and exit")
    what.add_argument(
        "--retry",
        action="store_true",
        help="handle the messages that were set aside, each once, and exit: with 1 if one failed again",
    )


def _run(call: Call) -> int:
    from client.cli import watching

    options, output = call.options, call.output
    with call.open_home(asks_server=not (options.set_aside or options.retry)) as home:
        if options.set_aside:
            return watching.set_aside(home, output)
        hook = watching.hook_of(options.exec, options.timeout, options.tries)
        if options.retry:
            return watching.retry(home, output, hook)
        tries = options.tries or watching.TRIES
        return watching.watch(home, output, hook, tries, call.settings.answer_key_requests())


COMMAND: Final = Command(
    "watch",
    "print every message as it arrives, or pass it to a command, until Ctrl-C",
    (
        "Each message is handled once: a cursor in the home advances when it was printed, or when the command"
        " exited with 0. A message on which the command fails too often is set aside. If the server goes "
        "away, watch waits until it is back."
    ),
    examples=("messageu watch", "messageu watch --exec ./on-message"),
    options=_options,
    run=_run,
    exit_codes=(4, 10),
    json=("message", "set-aside"),
)
