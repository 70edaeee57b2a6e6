"""Every program's command line: no option may be abbreviated, whatever is added later.

`--port 27031` was once taken for `--port-file 27031`, and the gateway listened on another port than
was asked for.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import bench.__main__
import bench.shards.__main__
import bench.suite
import client.__main__
import cluster.__main__
import gateway.__main__
import storage_worker.__main__
import storage_worker.admin
import tests.fuzz.__main__
import torture.__main__
from scripts import captures, keep_running, long_history, name_table, trace_request
from tests.storage_worker import failing_disk, power_cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
PROGRAMS: dict[str, Callable[[list[str]], object]] = {
    "bench/__main__.py": bench.__main__.main,
    "bench/shards/__main__.py": bench.shards.__main__.main,
    "bench/suite.py": bench.suite.main,
    "client/cli/command_line.py": client.__main__.main,
    "cluster/__main__.py": cluster.__main__.main,
    "gateway/options.py": gateway.__main__.main,
    "scripts/captures.py": captures.arguments,
    "scripts/keep_running.py": keep_running.main,
    "scripts/long_history.py": long_history.rows,
    "scripts/name_table.py": lambda _: name_table.main(),
    "scripts/trace_request.py": trace_request.main,
    "storage_worker/admin.py": storage_worker.admin.main,
    "storage_worker/settings.py": storage_worker.__main__.main,
    "tests/fuzz/__main__.py": tests.fuzz.__main__.main,
    "tests/storage_worker/failing_disk.py": lambda _: failing_disk.main(),
    "tests/storage_worker/power_cut.py": lambda _: power_cut.main(),
    "torture/__main__.py": torture.__main__.main,
}
"""By the file that makes its parser."""


class Caught(Exception):
    """The parser that a program reads its command line with."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


def parser_of(program: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    def catch(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise Caught(parser)

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", catch)
        patched.setattr(argparse.ArgumentParser, "parse_known_args", catch)
        with pytest.raises(Caught) as caught:
            PROGRAMS[program]([])
    return caught.value.parser


def with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from with_subparsers(sub)


@pytest.mark.slow
def test_every_parser_is_walked() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    making = set()
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ArgumentParser")
            derived = isinstance(node, ast.ClassDef) and any("ArgumentParser" in ast.unparse(b) for b in node.bases)
            if called or derived:
                making.add(name)
    assert making == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_option_is_abbreviated(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for parser in with_subparsers(parser_of(program, monkeypatch)):
        assert not parser.allow_abbrev, parser.prog


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("gateway/options.py", ["--por", "27031"]),
        ("gateway/options.py", ["--conn=5"]),
        ("storage_worker/settings.py", ["--data", "x"]),
        ("storage_worker/admin.py", ["check", "--dro"]),
        ("client/cli/command_line.py", ["--versio"]),
        ("client/cli/command_line.py", ["whoami", "--hom=x"]),
    ],
)
def test_an_abbreviation_is_refused(program: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program](words)
    assert ended.value.code == 2
    assert next(word for word in words if word.startswith("-")).partition("=")[0] in capsys.readouterr().err
