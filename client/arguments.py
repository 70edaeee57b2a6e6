"""The command line of `messageu`, as a parser.

Owns: the subcommands, their options and what `--help` says of them.
Promises: imports nothing heavy, so that `--help` and `--version` answer at once.

Source: docs/client.md.
"""

import argparse
from pathlib import Path
from typing import Final

from common.version import VERSION

CONSOLE: Final = "console"


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    top = argparse.ArgumentParser(
        prog="messageu",
        description="MessageU: end-to-end encrypted messages. Without a command, the numbered console.",
        epilog="Data goes to stdout, prose to stderr. What the exit codes mean is in docs/client.md.",
    )
    top.add_argument("--version", action="version", version=f"messageu {VERSION}")
    _common(top, default=None)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        _common(made, default=argparse.SUPPRESS)
        return made

    command("register", "register under a name").add_argument("name", metavar="NAME")
    command("whoami", "say who this home's user is")
    command("users", "list everybody else who is registered")
    command("key", "fetch a user's public key and show its fingerprint").add_argument("name", metavar="NAME")
    verify = command("verify", "show the safety number with a user, compare it, accept a changed key")
    verify.add_argument("name", metavar="NAME")
    verify.add_argument("--safety-number", metavar="N", help="the number that the other side sees: verified if equal")
    verify.add_argument("--qr", action="store_true", help="show the number as a QR code too")
    verify.add_argument("--accept-new", action="store_true", help="trust the key that the server names now")
    send = command("send", "send a text or files; a key is made and sent first where there is none")
    send.add_argument("name", metavar="NAME")
    send.add_argument("text", metavar="TEXT", nargs="?", help="the text; - or nothing: from standard input")
    send.add_argument(
        "--file", metavar="PATH", type=Path, action="append", default=[], help="send a file; may be repeated"
    )
    recv = command("recv", "fetch and show what waits")
    recv.add_argument("--wait", metavar="S", type=_seconds, default=0.0, help="wait up to S seconds for mail")
    recv.add_argument("--max", metavar="N", type=_count, dest="most", help="at most N messages; the others stay")
    command("chat", "talk with a user: what comes appears while you type").add_argument("name", metavar="NAME")
    watch = command("watch", "print every message as it comes, or hand it to a command, until Ctrl-C")
    watch.add_argument("--exec", metavar="CMD", help="a command that gets each message as JSON on its standard input")
    history = command("history", "list what was received and sent, without asking the server")
    history.add_argument("name", metavar="NAME", nargs="?", help="with this user alone")
    history.add_argument("--search", metavar="WORDS", help="what holds all of these words, in any case")
    for name, what in (
        ("export", "write the whole home into one encrypted file"),
        ("import", "make a home out of an exported file; nothing is overwritten"),
    ):
        carry = command(name, what)
        carry.add_argument("file", metavar="FILE", type=Path)
    passphrase = command("passphrase", "encrypt the private key and the store under a passphrase, or no longer")
    passphrase.add_argument("what", choices=["set", "change", "remove"], help="set the first one, change it, remove it")
    passphrase.add_argument(
        "--new-passphrase-file", metavar="PATH", type=Path, help="its first line is the new one; else it is asked"
    )
    passphrase.add_argument(
        "--new-passphrase-command", metavar="CMD", help="the first line that it prints is the new one"
    )
    command("doctor", "check everything, and say what is wrong in words")
    command(CONSOLE, "the numbered menu, as published")
    config = command("config", "look at the settings")
    config.add_argument("what", choices=["show"], help="show: every setting, and where it came from")
    completion = command("completion", "print the completion script for a shell")
    completion.add_argument("shell", metavar="SHELL", choices=["bash", "zsh", "fish"], help="bash, zsh or fish")
    return top


def _common(to: argparse.ArgumentParser, default: str | None) -> None:
    """Options that may stand before the command or behind it."""
    to.add_argument(
        "--home", type=Path, metavar="DIR", default=default, help="the folder of your identity (default: this folder)"
    )
    to.add_argument(
        "--server", metavar="HOST:PORT", default=default, help="the server's address (default: from server.info)"
    )
    to.add_argument(
        "--save-dir",
        type=Path,
        metavar="DIR",
        default=default,
        help="where received files go (default: MESSAGEU_SAVE_DIR, or the temporary folder)",
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
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return value
