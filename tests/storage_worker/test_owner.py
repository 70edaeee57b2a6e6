"""The data folder has another owner than whoever runs a program: real users where root runs the
tests.

Beside it, for everybody, doubles of what the system says: tests/common/test_data_folder.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
OWNER = 54_321
STRANGER = 54_322
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


AS_USER = """
import encodings.ascii, encodings.idna, importlib, locale, os, stringprep, sys
module = importlib.import_module(sys.argv[2])
from storage_worker.engine.sqlite.database import load_checksums
load_checksums()
user = int(sys.argv[1])
os.setgroups([])
os.setgid(user)
os.setuid(user)
sys.exit(module.main(sys.argv[3:]))
"""
"""Root starts it, for another user may be unable to read this Python."""


def command_line(user: int, module: str, arguments: Sequence[str]) -> list[str]:
    program = {"admin": "storage_worker.admin"}.get(module, f"{module}.__main__")
    return [sys.executable, "-P", "-c", AS_USER, str(user), program, *arguments]


def run(user: int, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line(user, module, arguments),
        cwd="/", env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder of OWNER, with a store, where OWNER can get at it."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    place = Path(tempfile.mkdtemp(prefix="messageu-owner-"))
    place.chmod(0o755)
    data = place / "data of mail"
    data.mkdir(mode=0o700)
    os.chown(data, OWNER, OWNER)
    try:
        start_and_stop(data)
        yield data
    finally:
        shutil.rmtree(place)


def start_and_stop(data: Path) -> None:
    """A worker of OWNER serves, and ends in an orderly way."""
    worker = subprocess.Popen(
        command_line(OWNER, "storage_worker", ["--data-folder", str(data)]),
        cwd="/", env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stderr is not None
    try:
        said = ""
        while "INFO storage_worker: started" not in said:
            line = worker.stderr.readline()
            assert line, said
            said += line
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(HANG_SECONDS) == 0
    finally:
        worker.kill()
        worker.wait()
        worker.stderr.close()


def owners(data: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(data)): (path.lstat().st_uid, path.lstat().st_gid) for path in (data, *data.rglob("*"))
    }


COMMANDS = (
    (["new-generation"], 0),
    (["recover-journal"], 0),
    (["check"], 0),
    (["check", "--drop"], 0),
    (["users"], 0),
    (["stats"], 0),
    (["unprove", "nobody"], 1),
)
NAMES = ("store.generation", "mail.db", "mail.journal", "mail.journal.2", "bodies", "worker.lock", "link")


def test_what_root_does_stays_the_owners(folder: Path) -> None:
    no_worker = f"admin: no storage worker is running on {folder}: the numbers are those of the database\n"
    for command, code in COMMANDS:
        done = run(0, "admin", "--data-folder", str(folder), *command)
        said = no_worker if command[0] in {"users", "stats"} else ""
        assert (done.returncode, done.stderr) == (code, said), command
        assert set(owners(folder).values()) == {(OWNER, OWNER)}, command
    start_and_stop(folder)


def test_what_belongs_to_root_ends_the_worker_for_good(folder: Path) -> None:
    for name in NAMES:
        os.chown(folder / name, 0, 0)
        done = run(OWNER, "storage_worker", "--data-folder", str(folder))
        assert done.returncode == 78, name
        last = done.stderr.splitlines()[-1]
        assert f"{folder / name} " in last
        assert f"As root, `chown -R {OWNER} '{folder}'` gives all that is in there to this user, {OWNER}" in last
        subprocess.run(["chown", "-R", f"{OWNER}:{OWNER}", folder], check=True, timeout=HANG_SECONDS)
    start_and_stop(folder)


@pytest.mark.parametrize("name", ["gateway-0.lock", "link"])
def test_what_belongs_to_root_ends_the_gateway_for_good(folder: Path, name: str) -> None:
    (folder / "gateway-0.lock").touch(mode=0o600)
    os.chown(folder / name, 0, 0)
    done = run(OWNER, "gateway", "--data-folder", str(folder))
    assert done.returncode == 78
    assert f"As root, `chown -R {OWNER} '{folder}'`" in done.stderr.splitlines()[-1]


def test_a_folder_of_somebody_else(folder: Path) -> None:
    for program in ("storage_worker", "gateway"):
        done = run(STRANGER, program, "--data-folder", str(folder))
        assert done.returncode == 78
        assert f"`chown -R {STRANGER} '{folder}'`" in done.stderr.splitlines()[-1]
    done = run(STRANGER, "admin", "--data-folder", str(folder), "stats")
    assert done.returncode == 78
    assert done.stderr == (
        f"admin: the data folder {folder} belongs to {OWNER}: run this command as {OWNER}, or as root\n"
    )


def test_a_folder_that_can_not_be_made(folder: Path) -> None:
    missing = folder.parent / "new"
    for program in ("storage_worker", "gateway"):
        done = run(STRANGER, program, "--data-folder", str(missing))
        assert done.returncode == 78
        assert f"As root, `mkdir -p {missing} && chown {STRANGER} {missing}` makes it" in done.stderr.splitlines()[-1]


def test_admin_makes_no_folder(folder: Path) -> None:
    missing = folder.parent / "new"
    done = run(0, "admin", "--data-folder", str(missing), "stats")
    assert (done.returncode, done.stderr) == (78, f"admin: there is no store in {missing}\n")
    assert not missing.exists()
