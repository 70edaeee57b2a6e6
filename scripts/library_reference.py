#!/usr/bin/env python3
"""Writes the parts of docs/library.md that the program itself knows: classes, methods, values,
failures.

scripts/library_reference.py prints the document as it should be; with --write it takes the old
one's place. Everything comes from the names in `__all__` of the library's modules, their signatures
and docstrings, and from client/errors.py and common/errors.py. What stands between `<!-- made: NAME
-->` and `<!-- end -->` is made here, everything else is kept.
"""

# ruff: noqa: E402 - what is imported is set up first

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup
from scripts._documents import PartsDiffer, check_parts, main

if __name__ == "__main__":
    _setup.continue_in_venv("run")

from client import async_messenger, messenger, open_home
from client import errors as client_errors
from common import errors

PAGE = ROOT / "docs" / "library.md"
PART = re.compile(r"(<!-- made: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
WIDTH: Final = 100
WITH_METHODS: Final = ("Messenger", "Messages", "AsyncMessenger", "AsyncMessages")
OF_ERRORS: Final = (errors.__name__, client_errors.__name__)
NOT_RAISED: Final = {"PeerError", "TableIncomplete"}
"""Of the servers' programs, and of a program that is broken."""


def rewritten(document: str) -> str:
    """Give the document with every part made anew. Raises `PartsDiffer`."""
    made = parts()
    check_parts("docs/library.md", [name for _, name, _, _ in PART.findall(document)], made)
    return PART.sub(lambda part: f"{part[1]}{made[part[2]]}{part[4]}", document)


def parts() -> dict[str, str]:
    """Give every part by its name."""
    made = {name.lower(): _class(public()[name]) for name in WITH_METHODS}
    made["values"] = "".join(
        f"### `{name}{_fields(value)}`\n\n{_field_types(value)}{_text(value)}\n\n"
        for name, value in public().items()
        if name not in WITH_METHODS
    )
    made["failures"] = "| failure | when |\n|---|---|\n" + "".join(
        f"| `{one.__name__}` | {' '.join(_text(one).split())} |\n" for one in failures()
    )
    return made


def public() -> dict[str, Any]:
    """Every public name of the library, and what it stands for."""
    modules = (messenger, async_messenger)
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def methods(of: type) -> dict[str, Any]:
    """Every public method and property of a class, and those that `for` and `with` call
    where it has its own.
    """
    return {name: member for name, member in vars(of).items() if not name.startswith("_") and member.__doc__}


def failures() -> list[type[errors.MessageUError]]:
    """Every failure that the library raises on purpose, each behind the one that it is a
    kind of.
    """
    found: list[type[errors.MessageUError]] = []

    def add(kind: type[errors.MessageUError]) -> None:
        if kind.__name__ not in NOT_RAISED and kind.__module__ in OF_ERRORS:
            found.append(kind)
            for one in kind.__subclasses__():
                add(one)

    add(errors.MessageUError)
    return found


def _class(of: type) -> str:
    return f"{_text(of)}\n\n" + "".join(
        f"### `{_call(of.__name__, name, member)}`\n\n{_typed(member)}{_text(member)}\n\n"
        for name, member in methods(of).items()
    )


def _call(owner: str, name: str, member: Any) -> str:
    """Give a method as it is called; `_typed` has the types."""
    if isinstance(member, property):
        return f"{owner}.{name}"
    function: Callable[..., object] = getattr(member, "__func__", member)
    given = [one.replace(annotation=inspect.Parameter.empty) for one in inspect.signature(function).parameters.values()]
    # The object itself, or its class.
    shown = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", str(inspect.Signature(given[1:])))
    wait = "await " if inspect.iscoroutinefunction(function) else ""
    return f"{wait}{owner}.{name}{shown}"


def _typed(member: Any) -> str:
    """What a method takes and returns, with the types that the source names."""
    function: Callable[..., object] = getattr(member, "fget", None) or getattr(member, "__func__", member)
    [node] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    # Without the object itself, or its class.
    taken = [f"`{ast.unparse(one)}`" for one in [*node.args.posonlyargs, *node.args.args][1:] + node.args.kwonlyargs]
    returned = "None" if node.returns is None else ast.unparse(node.returns)
    said = [f"Takes {', '.join(taken)}."] if taken else []
    said += [f"Returns `{returned}`."] if returned != "None" else []
    return f"{_wrapped(' '.join(said))}\n\n" if said else ""


def _field_types(value: Any) -> str:
    """The fields of a value with their types."""
    if not hasattr(value, "_fields"):
        return ""
    [node] = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    assert isinstance(node, ast.ClassDef)
    fields = [
        f"`{ast.unparse(one.target)}: {ast.unparse(one.annotation)}`"
        for one in node.body
        if isinstance(one, ast.AnnAssign)
    ]
    return f"{_wrapped('Fields: ' + ', '.join(fields) + '.')}\n\n" if fields else ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _fields(value: Any) -> str:
    names = getattr(value, "_fields", None)
    return "" if names is None else f"({', '.join(names)})"


def _text(of: object) -> str:
    """Give a docstring as Markdown: lines of a paragraph joined, indented examples kept."""
    text = inspect.getdoc(of)
    if not text:
        raise PartsDiffer(f"{of} has no docstring")
    elsewhere = re.search(r"\bSee\s+`(\w+)\.(\w+)`\.", text)
    if elsewhere is not None:
        # Which says more: the messenger hands the call on.
        return _text(getattr(getattr(open_home, elsewhere[1]), elsewhere[2]))
    paragraphs = [part if part.startswith("    ") else _wrapped(" ".join(part.split())) for part in text.split("\n\n")]
    return "\n\n".join(part for part in paragraphs if part.strip())


if __name__ == "__main__":
    sys.exit(main(PAGE, rewritten))
