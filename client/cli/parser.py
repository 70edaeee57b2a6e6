"""The command line of `messageu`, as a parser.

Owns: the subcommands, their options and what `--help` says of them, which is also what
docs/client.md says of them (scripts/client_reference.py writes it there).
Promises: imports nothing heavy, so that `--help` and `--version` answer at once.

Source: docs/client.md.
"""

import argparse
from pathlib import Path
from typing import Final

from client.cli.command_line import LITERALLY, PROGRAM, Line, Parser, ShowVersion, quoted

CONSOLE: Final = "console"
CONTACTS: Final = "contacts"
"""What `completion` prints in the place of a script."""
_USER: Final = "the user's name, as `messageu users` shows it"
VERIFIED: Final = (
    "`verified` says whose key you hold, not who wrote a message: texts and files are neither signed nor "
    "authenticated, so a server can still cut, repeat and alter messages."
)
"""What a comparison is worth while the cipher suite is the published one."""


EXAMPLES: Final = {
    "": ("messageu register alice", "messageu send bob hello", "messageu recv --wait 60"),
    "register": ("messageu register alice", "messageu --home ~/robot --server chat.example.org:1357 register robot"),
    "whoami": ("messageu whoami", "messageu whoami --json"),
    "users": ("messageu users",),
    "key": ("messageu key bob",),
    "verify": (
        "messageu verify bob --qr",
        'messageu verify bob --safety-number "$digits"',
        "messageu verify bob --accept-new",
    ),
    "send": (
        "messageu send bob see you at nine",
        'messageu send bob -- "$text"',
        "make 2>&1 | messageu send bob -",
        "messageu send bob --file report.pdf log.txt",
        'messageu send --to bob --to carol "see you both"',
    ),
    "recv": ("messageu recv", "messageu recv --wait 60 --json"),
    "chat": ("messageu chat bob", "messageu chat"),
    "watch": ("messageu watch", "messageu watch --exec ./on-message"),
    "resend": ("messageu resend", "messageu resend bob --forget"),
    "history": ("messageu history bob", "messageu history --search 'build done' --json"),
    "export": ("messageu export alice.home --passphrase-file secret.txt",),
    "import": ("messageu --home new import alice.home", "messageu --home new import ../other-client/me.info"),
    "passphrase": ("messageu passphrase set", "messageu passphrase change --new-passphrase-command 'pass messageu'"),
    "doctor": ("messageu doctor", "messageu doctor --json"),
    CONSOLE: ("messageu console", "messageu --home alice"),
    "config": ("messageu config show",),
    "completion": (
        "source <(messageu completion bash)",
        "messageu completion fish > ~/.config/fish/completions/messageu.fish",
    ),
}
"""By command; none: of the program as a whole."""


def parser(*, as_json: bool = False) -> Parser:
    """Make the parser; `as_json`: its complaints are objects."""
    top = Parser(
        as_json=as_json,
        prog=PROGRAM,
        usage=f"{PROGRAM} [OPTION ...] [COMMAND ...]",
        add_help=False,
        description="MessageU: end-to-end encrypted messages. Without a command, the numbered console.",
        epilog="Data goes to stdout, prose to stderr. `messageu COMMAND --help` tells more of a command, "
        "docs/client.md all of it, and what the exit codes mean.",
    )
    _common(top, default=None)
    top.epilog = f"{_examples('')}\n\n{top.epilog}"
    commands = top.add_subparsers(dest="command", metavar="COMMAND", prog=PROGRAM)

    def command(name: str, what: str, more: str = "") -> Parser:
        about = f"{what[0].upper()}{what[1:]}. {more}".rstrip()
        made = commands.add_parser(
            name, help=what, description=about, epilog=_examples(name), as_json=as_json, add_help=False
        )
        made_commands.append(made)
        return made

    made_commands: list[Parser] = []

    register = command(
        "register",
        "register under a name",
        "Prints who you are now. A home has one identity; it is never replaced. A registration that broke off is "
        "completed by the same command. An account that the server lost when it was put back to a backup is registered "
        "again by it: with the same name and key, and the same id where that is free.",
    )
    register.add_argument(
        "name", metavar="NAME", help="your name: 1 to 254 characters of printable ASCII, no space at either end"
    )
    command(
        "whoami",
        "say who this home's user is",
        "Prints name, id, the SHA-256 of your public key, and whether the account has proven itself to its server. "
        "Asks no server.",
    )
    command(
        "users", "list everybody else who is registered", "One name a line; `[verified]` behind those you compared."
    )
    key = command(
        "key",
        "fetch a user's public key and show its fingerprint",
        "The first key that the server names is kept and trusted; another one later is refused (exit code 4).",
    )
    key.add_argument("name", metavar="NAME", help=_USER)
    verify = command(
        "verify",
        "show the safety number with a user, compare it, accept a changed key",
        "Both sides see the same 60 digits; compare them by voice, or face to face. At a terminal you are asked "
        f"whether they were the same. {VERIFIED}",
    )
    verify.add_argument("name", metavar="NAME", help=_USER)
    verify.add_argument(
        "--safety-number",
        metavar="N",
        help="the number that the other side sees: equal digits make the user verified, others change nothing (exit "
        "code 4); spaces do not count",
    )
    verify.add_argument("--qr", action="store_true", help="show the number as a QR code too")
    verify.add_argument(
        "--accept-new",
        action="store_true",
        help="trust the key that the server names now; with --safety-number only where the new number is that one",
    )
    send = command(
        "send",
        "send a text or files; a key is made and sent first where there is none",
        "With both, the text goes first. What can't be sent now is kept and sent later, once and before anything else, "
        "where the account proves itself; other accounts are told that it was not sent, or that nobody knows. "
        "Your own name as NAME makes it a note to yourself.",
    )
    send.add_argument("name", metavar="NAME", nargs="?", help=f"{_USER}; without it, --to names the recipients")
    send.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        default=[],
        help="the text; several words are joined by a space each. - or, without --file, nothing: it comes from "
        "standard input. Behind -- all words are text, whatever they begin with",
    )
    # What argparse would write has the paths before the name, where they would swallow it.
    send.usage = (
        "messageu send [OPTION ...] NAME [TEXT ...] [--file PATH ...]\n"
        "       messageu send [OPTION ...] --to NAME [--to NAME ...] [TEXT ...] [--file PATH ...]"
    )
    send.add_argument(
        "--to",
        metavar="NAME",
        action="append",
        default=[],
        help="a recipient, in the place of NAME and before the text; may be repeated: each gets it once, whatever "
        "becomes of the others",
    )
    send.add_argument(
        "--file",
        metavar="PATH",
        type=to_send,
        nargs="+",
        action="extend",
        default=[],
        help="send files, behind NAME and TEXT; may be repeated. - is standard input (./- a file of that name); pipes, "
        "`<(COMMAND)` and files of /proc are read to their end",
    )
    send.add_argument(
        "--name",
        metavar="NAME",
        dest="called",
        help="what the one file that is sent is called in your history (default: its path)",
    )
    send.text_behind = frozenset({"--to"})
    send.arrange = _what_is_sent
    recv = command(
        "recv",
        "fetch and show what waits",
        "The oldest first, one message a line. What can't be decrypted is named with its reason, kept, and shown as "
        "soon as its key is there (exit code 9). Files are saved where --save-dir says and never overwrite anything.",
    )
    recv.add_argument(
        "--wait",
        metavar="S",
        type=_seconds,
        default=0.0,
        help="wait up to S seconds for mail; exit code 124 when none came (default: 0)",
    )
    recv.add_argument(
        "--max", metavar="N", type=_count, dest="most", help="at most N messages; the others stay (default: all)"
    )
    chat = command(
        "chat",
        "talk with a user: what comes appears while you type",
        "In a terminal alone. /help shows what can be typed; /quit or Ctrl-D leaves.",
    )
    chat.add_argument(
        "name", metavar="NAME", nargs="?", help=f"{_USER} (default: your conversations are listed, and you are asked)"
    )
    watch = command(
        "watch",
        "print every message as it comes, or hand it to a command, until Ctrl-C",
        "Each message is given once: a cursor in the home moves on when it was printed, or when the command ended with "
        "0. A message that the command fails on too often is set aside. A server that goes away is waited for.",
    )
    watch.add_argument(
        "--exec",
        metavar="CMD",
        help="a command that gets each message as one JSON object on its standard input; split into words as a shell "
        "would, no shell runs it",
    )
    watch.add_argument(
        "--timeout",
        metavar="S",
        type=_some_seconds,
        help="end the command when it takes longer than S seconds; it has failed then (default: no limit)",
    )
    watch.add_argument(
        "--tries",
        metavar="N",
        type=_count,
        help="set a message aside when the command has failed on it N times (default: 10)",
    )
    what = watch.add_mutually_exclusive_group()
    what.add_argument("--set-aside", action="store_true", help="list the messages that were set aside, and end")
    what.add_argument(
        "--retry",
        action="store_true",
        help="hand out the messages that were set aside, each once, and end: with 1 where one was not taken",
    )
    resend = command(
        "resend",
        "send again what is possibly lost since the server was put back to a backup",
        "Whatever the server had acknowledged within the 7 days before it was noticed, the newest 1,024 messages, is "
        "marked as possibly lost then; symmetric keys, and requests for them, count. Each goes again under its own "
        "token, the oldest first: what the server still has is not stored twice.",
    )
    resend.add_argument("name", metavar="NAME", nargs="?", help="to this user alone (default: to all)")
    resend.add_argument("--forget", action="store_true", help="take the marks away, and send nothing")
    history = command(
        "history",
        "list what was received and sent, without asking the server",
        "With the time at which the server accepted it where it told.",
    )
    history.add_argument("name", metavar="NAME", nargs="?", help="with this user alone (default: all)")
    history.add_argument(
        "--search", metavar="WORDS", help="what holds all of these words, in any case and in any form of Unicode"
    )
    export = command(
        "export",
        "write the whole home into one encrypted file",
        "Identity, contacts, keys, outbox, inbox, history and server.info; received files stay where they are. The "
        "file's passphrase is asked at a terminal, or comes from --passphrase-file or --passphrase-command.",
    )
    export.add_argument("file", metavar="FILE", type=Path, help="a new file, of mode 0600; none is overwritten")
    export.add_argument(
        "--weak-passphrase",
        action="store_true",
        help="take a new passphrase of fewer than 8 characters without a question",
    )
    load = command(
        "import",
        "make a home out of an exported file, or of another client's identity; nothing is overwritten",
        "Refused where there is an identity or a store already, and for a wrong passphrase (exit code 2). Use one of "
        "the two homes from then on: each would fetch a part of the mail. Of another client's my.info or me.info the "
        "identity is taken, with the server.info beside it; what was imported is shown as by `whoami`.",
    )
    load.add_argument(
        "file", metavar="FILE", type=Path, help="what `messageu export` wrote, or another client's my.info or me.info"
    )
    passphrase = command(
        "passphrase",
        "encrypt the private key and the store under a passphrase, or no longer",
        "All of it happens or nothing. The present passphrase comes as for every command; the new one is asked for "
        "twice at a terminal where no option gives it.",
    )
    passphrase.add_argument(
        "what",
        metavar="set|change|remove",
        choices=["set", "change", "remove"],
        help="set the first one, change it, remove it",
    )
    passphrase.add_argument("--new-passphrase-file", metavar="PATH", type=Path, help="its first line is the new one")
    passphrase.add_argument(
        "--new-passphrase-command", metavar="CMD", help="the first line that it prints is the new one"
    )
    passphrase.add_argument(
        "--weak-passphrase",
        action="store_true",
        help="take a new passphrase of fewer than 8 characters without a question",
    )
    command(
        "doctor",
        "check everything, and say what is wrong in words",
        "Server address, file modes, store, passphrase, identity, whether the server answers and what it speaks, "
        "account, changed keys, outbox and clock, one line each. The exit code is that of the first thing that is "
        "wrong.",
    )
    command(CONSOLE, "the numbered menu, as published", "The same as no command at all. It speaks no JSON.")
    config = command("config", "look at the settings", "A line for each: its value, and where that came from.")
    config.add_argument("what", metavar="show", choices=["show"], help="every setting, and where it came from")
    completion = command(
        "completion",
        "print the completion script for a shell",
        "The scripts offer names too, which `completion contacts` prints, one a line: those that the server listed "
        "when it was asked last, up to 100. That asks nobody, and gives none where the home has a passphrase.",
    )
    completion.add_argument(
        "shell", metavar="SHELL", choices=["bash", "zsh", "fish", CONTACTS], help="bash, zsh or fish; or contacts"
    )
    completion.add_argument(
        "prefix", metavar="PREFIX", nargs="?", default="", help="with contacts: the names that begin so (default: all)"
    )
    # Behind the command's own, which are what its help is asked for.
    for made in made_commands:
        _common(made, default=argparse.SUPPRESS)
    return top


def _examples(command: str) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in EXAMPLES[command])])


def to_send(text: str) -> Path:
    """Take a path behind --file; - is standard input."""
    return Path("/dev/stdin") if text == "-" else Path(text)


def _what_is_sent(options: argparse.Namespace, line: Line) -> list[str]:
    """Tell recipients, text and options of `send` apart; gives no word that might be something else
    than it seems.

    Raises `argparse.ArgumentTypeError` where an option might be the text: a script may have put it
    there.
    """
    named = [at for at, seen in enumerate(line.seen) if seen.option == "--to"]
    if named:
        if line.seen[named[0]].words_before:
            raise argparse.ArgumentTypeError(
                "With --to every recipient is named so, and the text stands behind: `messageu send --to A --to B TEXT`."
            )
        text, begun = line.words, named[0]
    elif line.words:
        options.to, text = line.words[:1], line.words[1:]
        begun = next((at for at, seen in enumerate(line.seen) if seen.words_before), len(line.seen))
    else:
        swallowed = "; --file takes every word behind it, so that NAME stands before it" if options.file else ""
        raise argparse.ArgumentTypeError(f"The argument NAME is missing{swallowed}.")
    options.to = list(dict.fromkeys(options.to))
    recipients = [word for to in options.to for word in ("--to", to)] if named else options.to
    way = f"messageu send {quoted([*recipients, LITERALLY])}"
    if not text and line.literal == len(line.words):
        raise argparse.ArgumentTypeError(f"There is no text behind `--`. To send `--` itself: `{way} --`.")
    behind = next((seen.option for seen in line.seen[begun:] if seen.option != "--to"), "--file")
    # Both take what stands behind them, so that neither can be the text and go unnoticed.
    if not text and behind not in {"--file", "--name"}:
        raise argparse.ArgumentTypeError(
            f"{behind} stands where the text does. To send it: `{way} {behind}`. As an option it stands before the "
            "name, or behind the text, `-` for standard input, or the files."
        )
    dashed = line.literal is not None and line.literal < len(line.words)
    options.from_input = (text == ["-"] and not dashed) or not (text or options.file)
    return [options.to[0], *([] if options.from_input else text)]


def _common(of: Parser, default: str | None) -> None:
    """Options that may stand before the command or behind it."""
    to = of.general_options()
    to.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help="show this help and exit")
    to.add_argument("--version", action=ShowVersion, default=argparse.SUPPRESS, help="print the version")
    to.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        default=default,
        help="the folder of your identity (default: this folder if it has me.info or my.info, else your data folder)",
    )
    to.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=default,
        help="the server's address, remembered by `register` (default: from server.info)",
    )
    to.add_argument(
        "--save-dir",
        type=Path,
        metavar="DIR",
        default=default,
        help="where received files go (default: the temporary folder)",
    )
    to.add_argument(
        "--published-only",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="keep to the published protocol, so that other MessageU programs work for this account too; remembered "
        "(--no-published-only: never mind those)",
    )
    to.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="PATH",
        default=default,
        help="its first line is the home's passphrase (of export and import: the file's)",
    )
    to.add_argument(
        "--passphrase-command", metavar="CMD", default=default, help="the first line that it prints is that passphrase"
    )
    switch = False if default is None else default
    to.add_argument("--json", action="store_true", default=switch, help="one JSON object a line, on both streams")
    to.add_argument("--quiet", "-q", action="store_true", default=switch, help="no prose but failures")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
    return value


def _some_seconds(text: str) -> float:
    value = _seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"more than 0 seconds, not {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return int(text)
