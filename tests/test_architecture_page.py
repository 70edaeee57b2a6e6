"""docs/architecture.md agrees with the code: its tree, its tables, and each arrow of its pictures.

An arrow with a single line stands for a call inside one program: one of the two packages imports
the other, and the import table allows it. An arrow with a double line crosses the network: both
packages hold an adapter to the same outside thing, and neither may import the other.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.test_code_rules import ROOT, RULES, imports_of, is_any_within, is_within, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROGRAMS: Final = ("common", "gateway", "storage_worker", "client")
NAME: Final = re.compile(rf"\b(?:{'|'.join(PROGRAMS)})(?:\.\w+)+")
ACROSS: Final = re.compile(rf"({NAME.pattern}) ([─═]+)(?: [\w ]+ )?\2?[─═]*▶ ({NAME.pattern})")
BACK: Final = re.compile(rf"({NAME.pattern}) ◀([─═])+(?: [\w ]+ )?[─═]* ({NAME.pattern})")
OUTSIDE: Final = {
    "ZeroMQ": "zmq",
    "SQLite": "apsw",
    "PostgreSQL": "psycopg",
    "sockets, epoll": "socket",
    "asyncio": "asyncio",
    "`ioctl`": "fcntl",
    "cryptography": "Crypto",
}
"""What the page calls an outside thing, and the module by which its row of the rules is known."""


class Arrow(NamedTuple):
    """From one package to another; `crosses`: it is the network, not a call."""

    source: str
    target: str
    crosses: bool


def pictures(page: str) -> list[list[str]]:
    """The lines of each picture, all as long as the longest."""
    found = []
    for block in re.findall(r"<!-- picture -->\n```\n(.*?)^```", page, re.M | re.S):
        lines = block.splitlines()
        width = max(map(len, lines))
        found.append([line.ljust(width) for line in lines])
    return found


def arrows(lines: list[str]) -> list[Arrow]:
    """Every arrow of a picture, to the right, to the left and down."""
    found: list[Arrow] = []
    for number, line in enumerate(lines):
        found += [Arrow(one, two, "═" in how) for one, how, two in ACROSS.findall(line)]
        found += [Arrow(two, one, "═" in how) for one, how, two in BACK.findall(line)]
        for name in NAME.finditer(line):
            for column in range(*name.span()):
                below = number + 1
                while below < len(lines) and lines[below][column] == "│":
                    below += 1
                if below > number + 1 and lines[below][column] == "▼":
                    [target] = [n[0] for n in NAME.finditer(lines[below + 1]) if n.start() <= column < n.end()]
                    found.append(Arrow(name[0], target, crosses=False))
    return found


@functools.cache
def calls(source: str, target: str) -> bool:
    """Whether a module of the one package imports something of the other."""
    return any(
        is_within(name, target)
        for module, path in modules()
        if is_within(module, source)
        for name in imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    )


def may_import(source: str, target: str) -> bool:
    rule = next(rule for rule in RULES if rule.covers(source))
    return is_any_within(target, rule.may_import) and not is_any_within(target, rule.never)


def adapters() -> Iterator[tuple[str, str]]:
    """Each outside thing with a module that alone may use it."""
    for rule in RULES:
        for things, keepers in rule.adapters:
            # Some modules of the project itself are for few others.
            if all(thing.partition(".")[0] in PROGRAMS for thing in things):
                continue
            # asyncio is among the modules of sockets where both have the same adapters.
            # What is of this project, such as the event loop's masks, is nothing outside.
            for outside in [name for name, module in OUTSIDE.items() if module in things][:1]:
                yield from ((outside, keeper) for keeper in keepers)


def reaches(package: str) -> set[str]:
    """The outside things to which a module of this package is the adapter."""
    return {outside for outside, module in adapters() if is_within(module, package)}


def wrong(arrow: Arrow) -> str:
    """What is untrue of an arrow, or nothing."""
    one, two, crosses = arrow
    if not all(any(module == package for module, _ in modules()) for package in (one, two)):
        return "not a package"
    if crosses:
        if may_import(one, two) or may_import(two, one):
            return "one program, not two"
        return "" if reaches(one) & reaches(two) & {"ZeroMQ", "sockets, epoll"} else "no adapter at both ends"
    if (calls(one, two) and may_import(one, two)) or (calls(two, one) and may_import(two, one)):
        return ""
    return "neither imports the other"


@pytest.mark.parametrize("lines", pictures(PAGE), ids=["in", "out"])
def test_the_arrows_are_true(lines: list[str]) -> None:
    found = arrows(lines)
    assert {arrow: why for arrow in found if (why := wrong(arrow))} == {}
    assert any(arrow.crosses for arrow in found)
    # The test has read all that a reader sees.
    assert len(found) == sum(line.count(head) for line in lines for head in "▶◀▼")


@pytest.mark.parametrize(
    ("arrow", "expected"),
    [
        (Arrow("gateway.connection", "gateway.nowhere", False), "not a package"),
        (Arrow("gateway.connection", "storage_worker.rules", False), "neither imports the other"),
        (Arrow("gateway.delivery", "gateway.storage", True), "one program, not two"),
        (Arrow("gateway.handlers", "storage_worker.server", True), "no adapter at both ends"),
        (Arrow("gateway.connection", "storage_worker.server", True), "no adapter at both ends"),
        (Arrow("client.crypto", "client.mail", False), ""),
        (Arrow("client.crypto", "client.chat", False), "neither imports the other"),
    ],
)
def test_an_arrow_that_is_not_true_is_found(arrow: Arrow, expected: str) -> None:
    assert wrong(arrow) == expected


def packages() -> set[str]:
    """The packages of the programs, and the other folders that hold code or documents."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [Path(name) for name in listed.stdout.decode().split("\0") if "/" in name]
    inside = {str(path.parent) for path in files if path.parts[0] in PROGRAMS and path.name == "__init__.py"}
    return inside | {path.parts[0] for path in files if not path.parts[0].startswith(".")}


def test_the_tree_is_the_real_one() -> None:
    [block] = re.findall(r"^## The tree\n\n```\n(.*?)^```", PAGE, re.M | re.S)
    above: list[str] = []
    drawn = []
    for line in block.splitlines():
        indent, folder = re.match(r"( *)(\w+)/ ", line).groups()  # type: ignore[union-attr]
        above = [*above[: len(indent) // 2], folder]
        drawn.append("/".join(above))
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == packages()


def table(heading: str) -> dict[str, list[str]]:
    """The rows under this header row, with what stands in backticks in the second column."""
    rows = PAGE.partition(f"{heading}\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.strip("|").split("|") for line in rows.splitlines()]
    return {first.strip(): re.findall(r"`([\w.]+)`", second) for first, second in cells}


def test_the_import_table_is_the_rules() -> None:
    rows = table("| part | may import |")
    assert set(rows) == {f"`{rule.part}`" for rule in RULES}
    for rule in RULES:
        tops = {name.partition(".")[0] for name in rule.may_import if not is_within(name, rule.part)}
        assert set(rows[f"`{rule.part}`"]) == tops, rule.part


def test_what_reaches_out_is_where_the_page_says() -> None:
    keepers: dict[str, set[str]] = {outside: set() for outside in OUTSIDE}
    for outside, module in adapters():
        keepers[outside].add(module.rpartition(".")[0])
    assert {outside: set(named) for outside, named in table("| outside | packages |").items()} == keepers


def test_every_path_of_the_page_exists() -> None:
    named = re.findall(r"`([\w./]+/[\w./]*)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
