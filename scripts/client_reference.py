#!/usr/bin/env python3
"""Writes the parts of docs/client.md that the program itself knows: commands, options, exit codes,
JSON.

scripts/client_reference.py prints the document as it should be; with --write it takes the old one's
place. Commands and options come from the parser, exit codes from the client's table, JSON from
docs/schemas. What stands between `<!-- made: NAME -->` and `<!-- end -->` is made here, everything
else is kept as it is. A part that is missing, or stands for nothing, is one sentence on stderr.
"""

# ruff: noqa: E402 - what is imported is set up first

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup
from scripts._documents import PartsDiffer, check_parts, main

if __name__ == "__main__":
    _setup.continue_in_venv("run")

from client.cli import exit_codes
from client.cli.parser import parser
from client.cli.table import load, named

PAGE = ROOT / "docs" / "client.md"
SCHEMAS = ROOT / "docs" / "schemas"
WIDTH: Final = 100
PART = re.compile(r"(<!-- made: ([a-z -]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def rewritten(document: str) -> str:
    """Give the document with every part made anew. Raises `PartsDiffer`."""
    made = parts()
    check_parts("docs/client.md", [name for _, name, _, _ in PART.findall(document)], made)
    return PART.sub(lambda part: f"{part[1]}{made[part[2]]}{part[4]}", document)


def parts() -> dict[str, str]:
    """Give every part by its name."""
    top = parser()
    commands = top.commands()
    made = {"options": _table(("option", "meaning"), _options(top))}
    made |= {f"command {name}": _command(name, sub, _common(top)) for name, sub in commands.items()}
    made["exit codes"] = _exit_codes()
    made["json"] = "\n".join(_schema(json.loads(path.read_text())) for path in sorted(SCHEMAS.glob("*.json")))
    return made


# --- the command line
# -------------------------------------------------------------------------------------------


def _common(top: argparse.ArgumentParser) -> set[str]:
    """The options that every command takes."""
    return {option for action in top._actions for option in action.option_strings}


def _options(top: argparse.ArgumentParser) -> list[tuple[str, str]]:
    return [(_code(_forms(action)), _meaning(action)) for action in top._actions if action.option_strings]


def _command(name: str, sub: argparse.ArgumentParser, common: set[str]) -> str:
    own = [action for action in sub._actions if not common & set(action.option_strings)]
    usage = " ".join(["messageu", name, *(_usage(action) for action in own)])
    text = f"### `{usage}`\n\n{_paragraph(sub.description or '')}\n"
    rows = [(_code(_forms(action)), _meaning(action)) for action in own]
    table = f"\n{_table(('argument', 'meaning'), rows)}" if rows else ""
    return f"{text}{table}{_outcome(name)}"


def _outcome(name: str) -> str:
    """Say what a command prints with --json, and how it ends."""
    command = load(named(name))
    said = []
    if command.json:
        said.append(f"With `--json` it prints {' and '.join(f'`{kind}`' for kind in command.json)}.")
    if command.exit_codes:
        codes = [f"`{code}`" for code in command.exit_codes]
        said.append(f"Exit codes beyond those of every command: {', '.join(codes)}.")
    return f"\n{_paragraph(' '.join(said))}\n" if said else ""


def _usage(action: argparse.Action) -> str:
    """Give an argument as it stands in the form of a command."""
    if not action.option_strings:
        value = f"{_value(action)} …" if action.nargs == "*" else _value(action)
        return f"[{value}]" if action.nargs in {"?", "*"} else value
    repeated = " …" if isinstance(action, argparse._AppendAction) else ""
    return f"[{_option(action, action.option_strings[-1])}{repeated}]"


def _forms(action: argparse.Action) -> list[str]:
    return [_option(action, option) for option in action.option_strings] or [_value(action)]


def _option(action: argparse.Action, option: str) -> str:
    return option if action.nargs == 0 else f"{option} {_value(action)}"


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(str(choice) for choice in action.choices or [action.dest])


def _meaning(action: argparse.Action) -> str:
    if not action.help or action.help == argparse.SUPPRESS:
        raise PartsDiffer(f"{_value(action)} has no help")
    return action.help


# --- exit codes and JSON
# ----------------------------------------------------------------------------------------


def _exit_codes() -> str:
    names = exit_codes.names()
    rows = [(str(code), meaning, _code(names[code])) for code, meaning in exit_codes.MEANINGS.items()]
    return _table(("code", "meaning", "`error` in JSON"), rows)


def _schema(schema: dict[str, Any]) -> str:
    always = set(schema["required"])
    rows = [
        (_code([name]), _kind(field) + ("" if name in always else ", optional"), field["description"])
        for name, field in schema["properties"].items()
        if name not in {"v", "type"}
    ]
    table = _table(("field", "value", "meaning"), rows)
    return f"### `{schema['title']}`\n\n{_paragraph(schema['description'])}\n\n{table}"


def _kind(field: dict[str, Any]) -> str:
    """Say what a field's value may be."""
    if "enum" in field:
        return ", ".join(_code([json.dumps(value)]) for value in field["enum"])
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    if kinds == ["array"]:
        return f"array of {field['items']['type']}s"
    return " or ".join(kinds)


# --- Markdown
# --------------------------------------------------------------------------------------------------


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _code(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("|" + "|".join(_cell(cell) for cell in line) + "|\n" for line in lines)


def _cell(text: str) -> str:
    return text if text == "---" else f" {text.replace('|', chr(92) + '|')} "


if __name__ == "__main__":
    sys.exit(main(PAGE, rewritten))
