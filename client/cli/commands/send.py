"""The command `send`: its options, its help, and what it does.

Owns: the command line of `send`.
Promises: nothing heavy is imported before it runs.

Source: docs/client.md.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from client.cli.command import USER, Command
from client.cli.command_line import LITERALLY, quoted
from client.cli.values import to_send

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Line, Parser


def _options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"{USER}; without it, --to names the recipients")
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        default=[],
        help=(
            "the text; several words are joined by spaces. If it is -, or if neither TEXT nor --file is "
            "given, it is read from standard input. After --, all words are text, whatever they begin with"
        ),
    )
    # What argparse would write has the paths before the name, where they would swallow it.
    parser.usage = (
        "messageu send [OPTION ...] NAME [TEXT ...] [--file PATH ...]\n"
        "       messageu send [OPTION ...] --to NAME [--to NAME ...] [TEXT ...] [--file PATH ...]"
    )
    parser.add_argument(
        "--to",
        metavar="NAME",
        action="append",
        default=[],
        help=(
            "a recipient, instead of NAME and before the text; may be repeated: each gets the message once, "
            "even if sending to another fails"
        ),
    )
    parser.add_argument(
        "--file",
        metavar="PATH",
        type=to_send,
        nargs="+",
        action="extend",
        default=[],
        help="send files, after NAME and TEXT; may be repeated. - is standard input (./- a file of that name); pipes, "
        "`<(COMMAND)` and files of /proc are read to their end",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        dest="called",
        help="the file's name in your history, if just one file is sent (default: its path)",
    )
    parser.text_behind = frozenset({"--to"})
    parser.arrange = _what_is_sent


def _what_is_sent(options: argparse.Namespace, line: Line) -> list[str]:
    """Tell recipients, text and options of `send` apart; gives no word that might be something else
    than it seems.

    Raises `argparse.ArgumentTypeError` if an option might be the text: a script may have put it
    there.
    """
    named = [at for at, seen in enumerate(line.seen) if seen.option == "--to"]
    if named:
        if line.seen[named[0]].words_before:
            raise argparse.ArgumentTypeError(
                "With --to every recipient is named so, and the text goes last: `messageu send --to A --to B TEXT`."
            )
        text, begun = line.words, named[0]
    elif line.words:
        options.to, text = line.words[:1], line.words[1:]
        begun = next((at for at, seen in enumerate(line.seen) if seen.words_before), len(line.seen))
    else:
        swallowed = "; --file takes every word after it, so NAME goes before it" if options.file else ""
        raise argparse.ArgumentTypeError(f"The argument NAME is missing{swallowed}.")
    options.to = list(dict.fromkeys(options.to))
    recipients = [word for to in options.to for word in ("--to", to)] if named else options.to
    way = f"messageu send {quoted([*recipients, LITERALLY])}"
    if not text and line.literal == len(line.words):
        raise argparse.ArgumentTypeError(f"There is no text after `--`. To send `--` itself: `{way} --`.")
    behind = next((seen.option for seen in line.seen[begun:] if seen.option != "--to"), "--file")
    # Both take what comes after them, so that neither can be the text and go unnoticed.
    if not text and behind not in {"--file", "--name"}:
        raise argparse.ArgumentTypeError(
            f"{behind} is in the place of the text. To send it: `{way} {behind}`. As an option it goes before the "
            "name, or after the text, `-` for standard input, or the files."
        )
    dashed = line.literal is not None and line.literal < len(line.words)
    options.from_input = (text == ["-"] and not dashed) or not (text or options.file)
    return [options.to[0], *([] if options.from_input else text)]


def _run(call: Call) -> int:
    from client.cli.sending import send

    options = call.options
    text = " ".join(options.text) if options.text else None
    with call.open_home() as home:
        return send(
            home,
            call.output,
            options.to,
            text,
            options.file,
            from_input=options.from_input,
            called=options.called,
        )


COMMAND: Final = Command(
    "send",
    "send a text or files; if there is no key yet, one is made and sent first",
    (
        "With both, the text goes first. If the account signs in to its server, what can't be sent now is "
        "kept and sent later, once and before anything else. For other accounts the command fails, and says "
        "whether the message was not sent or may have been sent. To write a note to yourself, give your own "
        "name as NAME."
    ),
    examples=(
        "messageu send bob see you at nine",
        'messageu send bob -- "$text"',
        "make 2>&1 | messageu send bob -",
        "messageu send bob --file report.pdf log.txt",
        'messageu send --to bob --to carol "see you both"',
    ),
    options=_options,
    run=_run,
    json=("sent",),
    exit_codes=(3, 4, 5, 6, 7, 10),
    sends=True,
)
