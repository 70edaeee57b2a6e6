#!/usr/bin/env python3
"""Writes the manual page docs/messageu.1 from what the program itself knows: commands, options,
settings, exit codes.

scripts/man_page.py prints the page as it should be; with --write it takes the old one's place. The
wheel installs it (pyproject.toml), and a test holds it to the program. It bears no date, so that it
changes only with the program.
"""

# ruff: noqa: E402 - what is imported is set up first

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup

if __name__ == "__main__":
    _setup.continue_in_venv("run")

from client.cli import exit_codes
from client.cli.command_line import PROGRAM, Parser
from client.cli.parser import parser
from client.settings import KNOWN
from common.version import VERSION

PAGE = ROOT / "docs" / "messageu.1"
FILES = (
    ("me.info, my.info", "the identity, as other MessageU programs read it; in the home"),
    ("store.db", "contacts, keys, the outbox, and what was received and sent; in the home"),
    ("server.info", "the server's address, HOST:PORT; in the home, or in the folder of the call"),
    ("config.toml", "settings, in the user's configuration folder; `messageu config show` names it"),
)


def page() -> str:
    """Give the whole manual page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    top = parser()
    commands = top.commands()
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {VERSION}" "User Commands"'
    yield from (".SH NAME", rf"{PROGRAM} \- send and receive end\-to\-end encrypted messages")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", r"[\fIOPTION\fR ...] [\fICOMMAND\fR ...]")
    yield from (".SH DESCRIPTION", _text(top.description or ""), ".PP")
    yield _text(
        "Data goes to stdout, prose to stderr. Options may stand before the command, behind it, and between its other "
        "words. None may be abbreviated. Behind `--` every word is taken as it is."
    )
    yield ".SH COMMANDS"
    for name, command in commands.items():
        yield from _command(name, command)
    yield ".SH GENERAL OPTIONS"
    for action in _general(top):
        yield from _argument(action)
    yield ".SH ENVIRONMENT"
    for name in KNOWN:
        option = f"--{name.replace('_', '-')}"
        known = option in top._option_string_actions
        meaning = f"replaces `{option}`" if known else f"the setting `{name}`"
        yield from (".TP", rf"\fBMESSAGEU_{name.upper()}\fR", _text(meaning))
    yield ".SH FILES"
    for name, meaning in FILES:
        yield from (".TP", rf"\fI{escaped(name)}\fR", _text(meaning))
    yield ".SH EXIT STATUS"
    for code, meaning in exit_codes.MEANINGS.items():
        yield from (".TP", rf"\fB{code}\fR", _text(meaning))
    yield ".SH EXAMPLES"
    yield from _examples(line for one in (top, *commands.values()) for line in one.examples)


def _command(name: str, command: Parser) -> Iterator[str]:
    yield f'.SS "{PROGRAM} {name}"'
    yield ".nf"
    usage = command.format_usage().removeprefix("usage: ")
    # One that argparse writes is wrapped to the terminal of whoever makes the page.
    for line in usage.splitlines() if command.usage else [usage]:
        yield rf"\fB{escaped(' '.join(line.split()))}\fR"
    yield from (".fi", ".PP", _text(command.description or ""))
    general = _general(command)
    for action in command._actions:
        if action not in general:
            yield from _argument(action)


def _general(of: Parser) -> list[argparse.Action]:
    return of.general_options()._group_actions


def _argument(action: argparse.Action) -> Iterator[str]:
    yield ".TP"
    value = "" if action.nargs == 0 else rf" \fI{escaped(str(action.metavar))}\fR"
    forms = [rf"\fB{escaped(form)}\fR{value}" for form in action.option_strings]
    yield ", ".join(forms) if forms else value.strip()
    yield _text(action.help or "")


def _examples(lines: Iterator[str]) -> Iterator[str]:
    yield ".EX"
    for line in lines:
        yield escaped(line)
    yield ".EE"


def _text(text: str) -> str:
    """Prose, with what stands in backquotes in bold."""
    return re.sub("`([^`]*)`", r"\\fB\1\\fR", escaped(text))


def escaped(text: str) -> str:
    """Text as roff takes it: a hyphen that can be copied, no backslash and no control line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("~", r"\(ti")
    return rf"\&{escaped}" if escaped.startswith((".", r"\(aq")) else escaped


def main() -> int:
    """Write the page, or print it."""
    made = page()
    if "--write" in sys.argv:
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(made, encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} {'was up to date' if made == before else 'is brought up to date'}.")
    else:
        print(made, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
