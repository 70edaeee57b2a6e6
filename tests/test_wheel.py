"""The wheel, as somebody gets it who installs the package: built from the files that are tracked, in an empty venv."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.version import VERSION
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).parent.parent
PROGRAMS = ("messageu", "messageu-gateway", "messageu-storage-worker", "messageu-admin")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MESSAGEU_"))}
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=HANG_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, from a copy: a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file() and not name.startswith(("tests/", "bench/", "torture/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / "source" / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    done = run(sys.executable, "-m", "pip", "wheel", *options, folder / "source", cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        assert [name for name in names if ".data/" in name] == [
            f"messageu-{VERSION}.data/data/share/man/man1/messageu.1"
        ]
        tops = {name.split("/")[0] for name in names if ".data/" not in name}
        assert tops == {"client", "common", "gateway", "storage_worker"}
        tracked = [path.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob("*.py")]
        assert {str(path) for path in tracked} <= set(file.namelist())


@pytest.mark.slow
def test_its_programs_answer_in_a_fresh_venv(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path).returncode == 0
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    installed = run(
        sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *options, wheel, cwd=tmp_path
    )
    assert installed.returncode == 0, installed.stderr
    # The packages behind it are those of this run; no registry is asked.
    (packages,) = (venv / "lib").glob("python*/site-packages")
    (packages / "those-of-this-run.pth").write_text("\n".join(site.getsitepackages()))
    page = venv / "share" / "man" / "man1" / "messageu.1"
    assert page.read_bytes() == (ROOT / "docs" / "messageu.1").read_bytes()
    for program in PROGRAMS:
        helped = run(venv / "bin" / program, "--help", cwd=tmp_path)
        assert helped.returncode == 0, helped.stderr
        assert "usage: " in helped.stdout
        version = run(venv / "bin" / program, "--version", cwd=tmp_path)
        assert version.returncode == 0, version.stderr
        assert version.stdout.split() == [program, VERSION]
    # Found from anywhere, and without a checkout.
    assert run(venv / "bin" / "messageu", "config", "show", cwd=tmp_path).returncode == 0
