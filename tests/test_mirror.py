"""Tests mirror the tree, and look at a module from outside.

The test of `gateway/storage/link.py` is `tests/gateway/storage/test_link.py`; tests of a subject
that goes through several modules lie beside those. No test reads, replaces or imports a name with a
leading underscore: what a test needs is public, with a docstring, or is shown by what the module
does.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = ("common", "gateway", "storage_worker", "client")
LINES = 150
"""A module with more lines than this has a test of its own."""

ELSEWHERE = {
    "client/errors.py": ("tests/client/cli/test_exit_codes.py", "types alone"),
    "client/messages.py": ("tests/test_public_names.py", "types alone"),
    "client/open_home.py": ("tests/client/test_messenger.py", "puts the client's parts together"),
    "client/store/schema.py": ("tests/client/test_conversion.py", "statements alone"),
    "common/name_table.py": ("tests/common/test_name_rule.py", "data alone"),
    "common/client_protocol/requests.py": ("tests/test_protocol_tables.py", "a table"),
    "common/storage_protocol/operations.py": ("tests/test_protocol_tables.py", "a table"),
    "storage_worker/engine/interface.py": ("tests/engine_conformance/test_engine.py", "an interface"),
    "storage_worker/engine/records.py": ("tests/engine_conformance/test_engine.py", "types alone"),
    "storage_worker/engine/memory.py": ("tests/engine_conformance/test_engine.py", "one of the engines"),
    "storage_worker/engine/sqlite/engine.py": ("tests/engine_conformance/test_engine.py", "one of the engines"),
    "storage_worker/engine/sqlite/send_tokens.py": (
        "tests/storage_worker/engine/paged/test_send_tokens.py",
        "with the part that is of no engine",
    ),
    "storage_worker/engine/postgres/engine.py": ("tests/engine_conformance/test_engine.py", "one of the engines"),
    "storage_worker/engine/postgres/users.py": ("tests/engine_conformance/test_engine.py", "a part of an engine"),
    "storage_worker/engine/sqlite/moving.py": ("tests/storage_worker/test_admin_move.py", "one end of a move"),
    "storage_worker/engine/postgres/moving.py": ("tests/storage_worker/test_admin_move.py", "one end of a move"),
    "storage_worker/engine/paged/moving.py": ("tests/storage_worker/test_admin_move.py", "between both ends"),
    "storage_worker/engine/values.py": ("tests/engine_conformance/test_engine.py", "types alone"),
    "storage_worker/rules/rules.py": ("tests/engine_conformance/test_engine.py", "puts the rules together"),
}
"""Modules that are tested under another name: where, and why."""

OF_OTHERS = frozenset(
    {"_replace", "_asdict", "_fields", "_make", "_actions", "_SubParsersAction", "_option_string_actions", "_exit"}
)
"""Names of the standard library: of named tuples, argparse and os."""


def mirror(module: str) -> str:
    """Where the test of a module is: `__main__.py` has `test_main.py`."""
    path = Path(module)
    return str(Path("tests") / path.parent / f"test_{path.stem.strip('_')}.py")


def weighty(lines: int) -> set[str]:
    """The modules of the programs with more lines than that."""
    return {
        str(path.relative_to(ROOT))
        for program in PROGRAMS
        for path in (ROOT / program).rglob("*.py")
        if path.read_text(encoding="utf-8").count("\n") > lines
    }


def test_a_module_of_weight_has_its_test() -> None:
    modules = weighty(LINES)
    assert len(modules) > 50
    lacking = {module for module in modules if not (ROOT / mirror(module)).exists()}
    assert lacking - set(ELSEWHERE) == set(), "they have no test under their name"
    assert set(ELSEWHERE) - lacking == set(), "these need no exception any more"
    assert [path for path, _ in ELSEWHERE.values() if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("module", "test"),
    [
        ("gateway/storage/link.py", "tests/gateway/storage/test_link.py"),
        ("storage_worker/__main__.py", "tests/storage_worker/test_main.py"),
        ("client/cli/commands/import_.py", "tests/client/cli/commands/test_import.py"),
    ],
)
def test_where_a_mirror_is(module: str, test: str) -> None:
    assert mirror(module) == test


def is_private(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__") and last not in OF_OTHERS


def is_module(package: str | None, name: str) -> bool:
    """Whether that name of a package is a file: its name says that it is no program."""
    return (ROOT / (package or "").replace(".", "/") / f"{name}.py").exists()


def looks_inside(source: str) -> list[str]:
    """What of the source reads, replaces or imports private names of something else."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if is_private(name):
                found.append(ast.unparse(node))
            case ast.ImportFrom(module=package, names=names):
                found += [each.name for each in names if is_private(each.name) and not is_module(package, each.name)]
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=arguments) if called in REPLACING:
                found += [
                    given.value
                    for given in arguments
                    if isinstance(given, ast.Constant) and isinstance(given.value, str) and is_private(given.value)
                ]
            case _:
                pass
    return found


REPLACING = frozenset({"setattr", "delattr", "getattr", "hasattr", "patch", "object"})


def test_no_test_looks_inside() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert len(files) > 200
    found = {
        str(path.relative_to(ROOT)): inside
        for path in files
        if (inside := looks_inside(path.read_text(encoding="utf-8"))) and path != Path(__file__)
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "link._socket",
        "link.socket._fd",
        "links[0]._socket.close()",
        "link()._socket = None",
        "self.link._socket",
        "from gateway.storage.link import _number",
        "from gateway.storage.link import NOBODY, _number as number",
        "from gateway.storage import _link",
        "monkeypatch.setattr(link, '_socket', None)",
        "monkeypatch.setattr('gateway.storage.link._RETRY_SEND', 0)",
        "with patch.object(link, '_socket'): pass",
        "getattr(link, '_socket')",
        "hasattr(link, '_socket')",
    ],
)
def test_a_look_inside_is_found(source: str) -> None:
    assert len(looks_inside(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "self._socket",
        "cls._made",
        "row._replace(number=1)",
        "os._exit(3)",
        "link.__class__",
        "link.socket",
        "from scripts import _setup",
        "from __future__ import annotations",
        "monkeypatch.setattr(link, 'socket', None)",
        "monkeypatch.setattr('gateway.storage.link.NOBODY', None)",
        "say('_socket')",
        "_own = 1",
    ],
)
def test_what_is_no_look_inside(source: str) -> None:
    assert looks_inside(source) == []
