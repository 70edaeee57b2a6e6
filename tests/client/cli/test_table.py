"""The table of commands, and what it takes to add one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.cli import exit_codes
from client.cli.table import NAMES, load
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).parents[3]
COMMANDS = ROOT / "client" / "cli" / "commands"
OF_ALL = {"error", "note", "help", "version"}
"""Types of objects that every command may print."""

PROBE = """
from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client.cli.command import USER, Command

if TYPE_CHECKING:
    from client.cli.call import Call
    from client.cli.command_line import Parser


def _options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help=USER)
    parser.add_argument("--depth", metavar="N", help="how deep")


def _run(call: Call) -> int:
    call.output.data("probe", f"probed {call.options.name}", depth=call.options.depth)
    return 5


COMMAND: Final = Command(
    "probe", "probe somebody", "Nothing is changed.", ("messageu probe bob",), _run, _options, ("probe",), (5,)
)
"""


def test_every_file_of_a_command_has_its_row() -> None:
    files = {path.stem.rstrip("_") for path in COMMANDS.glob("*.py")} - {"__init", "__init__"}
    assert files == set(NAMES)
    assert [load(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_says_what_it_is(name: str) -> None:
    command = load(name)  # type: ignore[arg-type]
    assert command.examples
    assert command.help[0].islower()
    assert not command.help.endswith(".")
    assert set(command.exit_codes) < set(exit_codes.MEANINGS)
    assert not {0, 1, 2, 8, 130} & set(command.exit_codes)


def test_every_schema_is_of_a_command_or_of_all() -> None:
    printed = {kind for name in NAMES for kind in load(name).json}
    assert printed | OF_ALL == {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")}
    assert not printed & OF_ALL


@pytest.fixture(scope="module")
def with_a_probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with one command more: a file, and a row in the table."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("client", "common", "scripts", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "client/cli/commands/probe.py").write_text(f'"""The command `probe`."""\n{PROBE}')
    table = copy / "client/cli/table.py"
    text = table.read_text()
    text = text.replace("Name = Literal[\n", 'Name = Literal[\n    "probe",\n')
    row = '        case "probe":\n            from client.cli.commands.probe import COMMAND\n'
    text = text.replace("        case _:\n", f"{row}        case _:\n")
    table.write_text(text)
    return copy


def python(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *words],
        env={**os.environ, "PYTHONPATH": str(copy), "MESSAGEU_CONFIG": "/nonexistent/config.toml"},
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


def test_a_file_and_a_row_make_a_command(with_a_probe: Path) -> None:
    done = python(with_a_probe, "-m", "client", "probe", "bob", "--depth", "2", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"v": 1, "type": "probe", "depth": "2"}
    assert done.returncode == 5
    assert "  probe " in python(with_a_probe, "-m", "client", "--help").stdout
    own = python(with_a_probe, "-m", "client", "probe", "--help").stdout
    assert "--depth N" in own
    assert "  messageu probe bob\n" in own
    assert "There is no command prob. Did you mean probe?" in python(with_a_probe, "-m", "client", "prob").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_it(with_a_probe: Path, shell: str) -> None:
    script = python(with_a_probe, "-m", "client", "completion", shell).stdout
    assert "probe" in script
    assert "depth" in script


def test_the_manual_page_and_the_reference_have_it(with_a_probe: Path) -> None:
    page = python(with_a_probe, "-c", "from scripts.man_page import page; print(page())")
    assert '.SS "messageu probe"' in page.stdout, page.stderr
    part = python(with_a_probe, "-c", "from scripts.client_reference import parts; print(parts()['command probe'])")
    assert part.stdout.startswith("### `messageu probe NAME [--depth N]`"), part.stderr


def test_a_name_without_an_import_is_an_error_of_mypy(with_a_probe: Path, tmp_path: Path) -> None:
    text = (with_a_probe / "client/cli/table.py").read_text()
    lacking = tmp_path / "table.py"
    lacking.write_text(
        text.replace('        case "probe":\n            from client.cli.commands.probe import COMMAND\n', "")
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=skip", "--ignore-missing-imports", str(lacking)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=HANG_SECONDS,
    )
    assert "probe" in checked.stdout
    assert "assert_never" in checked.stdout
