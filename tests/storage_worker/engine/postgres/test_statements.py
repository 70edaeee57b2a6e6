"""Every statement: the server takes it, and it is in the subset that others share with
PostgreSQL.
"""

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.postgres import programs

PACKAGE = Path(__file__).parents[4] / "storage_worker" / "engine" / "postgres"
NOT_PORTABLE = re.compile(
    r"\b(LISTEN|NOTIFY|UNLISTEN|pg_advisory\w*|pg_try_advisory\w*|pg_notify|lo_\w+|pg_largeobject|LOCK TABLE|"
    r"CREATE TRIGGER|CREATE FUNCTION|DO \$|SERIAL|BIGSERIAL|ctid|xmin|oid|TABLESAMPLE|CURSOR|PREPARE|"
    r"TEMP|TEMPORARY|UNLOGGED|SKIP LOCKED)\b",
    re.IGNORECASE,
)
OTHER_SCHEMA = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+(\w+)\.(\w+)", re.IGNORECASE)


def named(module: ModuleType) -> dict[str, str]:
    """The statements of a module, and those that it has by table."""
    found: dict[str, str] = {}
    for name, value in vars(module).items():
        if name.isupper() and not name.startswith("_"):
            found |= {f"{name} {key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def statements() -> dict[str, str]:
    """All of them, by name."""
    programs()
    from storage_worker.engine.postgres import schema, statements

    found = named(statements)
    tables = [one.strip() for one in re.sub(r"--.*", "", schema.TABLES).split(";") if one.strip()]
    return found | {f"TABLES {number}": one for number, one in enumerate(tables)} | {
        f"UPGRADE {version}": one for version, one in schema.UPGRADES.items()
    }  # fmt: skip


def offences(statement: str) -> list[str]:
    """What of a statement is not portable, or reaches out of the shard."""
    found = [match[0] for match in NOT_PORTABLE.finditer(statement)]
    return found + [match[0] for match in OTHER_SCHEMA.finditer(statement) if match[1] != "information_schema"]


def test_each_is_portable_and_within_one_shard() -> None:
    found = statements()
    assert len(found) > 80
    assert {name: wrong for name, one in found.items() if (wrong := offences(one))} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "LISTEN mail",
        "SELECT pg_notify('mail', '')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT lo_create(0)",
        "SELECT * FROM messageu_1.account",
        "INSERT INTO messageu_1.journal VALUES (1)",
        "CREATE TEMP TABLE t (a bigint)",
        "SELECT ctid FROM account",
    ],
)
def test_one_that_is_not_is_found(statement: str) -> None:
    assert offences(statement) != []


def test_the_server_takes_each(url: str) -> None:
    from psycopg import pq

    from storage_worker.engine.postgres import statements as module
    from storage_worker.engine.postgres.connection import Connection
    from storage_worker.engine.postgres.schema import Place, create

    connection = Connection(url, "messageu_0")
    create(connection, Place(0, 1), bytes(16), 1)
    connection.close()
    server = pq.PGconn.connect(url.encode())
    server.exec_(b"SET search_path TO messageu_0")
    refused = {}
    for name, statement in named(module).items():
        result = server.prepare(name.encode(), statement.encode())
        if result.status != pq.ExecStatus.COMMAND_OK:
            refused[name] = result.error_message
    server.finish()
    assert refused == {}


def strings(path: Path) -> list[str]:
    """The strings of a module, but for docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        str(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings
    ]


def test_no_other_module_has_statements_or_a_pipeline() -> None:
    modules = sorted(PACKAGE.glob("*.py"))
    assert len(modules) > 10
    hidden = {
        path.name: found
        for path in modules
        if path.name not in {"statements.py", "schema.py"}
        and (
            found := [
                one
                for one in strings(path)
                if re.match(r"(SELECT (?!set_config|coalesce\(current)|INSERT|UPDATE|DELETE|WITH)\b", one)
            ]
        )
    }
    assert hidden == {}
    names = {
        node.attr
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert {name for name in names if "pipeline" in name} == set()
    assert "exec_prepared" in names
