"""The limits of a process, looked at from inside and from outside of processes that set them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

_OPEN_FILES = """
import resource, sys
from common.process_limits import raise_open_files
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_open_files(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def outcome(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "limit"),
    [(60, 200, 100, 100), (60, 200, 200, 200), (60, 200, 201, 200), (100, 200, 60, 100), (60, 60, 61, 60)],
)
def test_open_files_are_raised_as_far_as_allowed(soft: int, hard: int, wanted: int, limit: int) -> None:
    assert outcome(_OPEN_FILES, str(soft), str(hard), str(wanted)) == f"{limit} {limit} {hard}"


def test_no_core_file_and_no_look_into_the_memory() -> None:
    program = """
import ctypes, resource
from common.process_limits import forbid_core_dumps, forbid_looking
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
forbid_core_dumps()
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
forbid_looking()
print(*resource.getrlimit(resource.RLIMIT_CORE), before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    assert outcome(program) == "0 0 1 0"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"


def test_the_client_forbids_both_before_it_reads_a_key(home: Path) -> None:
    program = """
import ctypes, resource, runpy, sys
sys.argv = ["messageu", "--home", sys.argv[1], "whoami"]
try:
    runpy.run_module("client", run_name="__main__")
except SystemExit:
    pass
print()
print(*resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    assert outcome(program, str(home)).splitlines()[-1] == "0 0 0"


def test_what_looks_after_the_store_leaves_no_core_file(home: Path) -> None:
    program = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
sys.argv = ["messageu-admin", "--data-folder", sys.argv[1], "stats"]
try:
    runpy.run_module("storage_worker.admin", run_name="__main__")
except SystemExit:
    pass
print(*resource.getrlimit(resource.RLIMIT_CORE))
"""
    assert outcome(program, str(home)) == "0 0"
