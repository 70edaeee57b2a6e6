"""The wheel, as a user installs it: built from the files that are tracked, in an empty venv."""

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
FOLDERS = ("client", "common", "gateway", "storage_worker")
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
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is tracked: a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        file = ROOT / name
        if file.is_file() and not name.startswith(("tests/", "bench/", "torture/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    done = run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_one_import_name_and_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    page = f"messageu-{VERSION}.data/data/share/man/man1/messageu.1"
    assert page in names
    names.remove(page)
    assert {name.split("/")[0] for name in names} == {"messageu"}
    modules = {f"messageu/{path.relative_to(ROOT)}" for top in FOLDERS for path in (ROOT / top).rglob("*.py")}
    own = {str(path.relative_to(ROOT)) for path in (ROOT / "messageu").glob("*.py")}
    assert names == modules | own | {"messageu/py.typed"}


def install(folder: Path, *what: str | Path) -> Path:
    """Make a venv with what pip is given, and the packages behind it out of this run's;
    returns its `bin` folder.
    """
    venv = folder / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder).returncode == 0
    # No registry is asked.
    (packages,) = (venv / "lib").glob("python*/site-packages")
    (packages / "those-of-this-run.pth").write_text("\n".join(site.getsitepackages()))
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    python = venv / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=folder)
    assert done.returncode == 0, done.stderr
    return venv / "bin"


@pytest.mark.slow
def test_its_programs_answer_in_a_fresh_venv(wheel: Path, tmp_path: Path) -> None:
    programs = install(tmp_path, wheel)
    page = programs.parent / "share" / "man" / "man1" / "messageu.1"
    assert page.read_bytes() == (ROOT / "docs" / "messageu.1").read_bytes()
    for program in PROGRAMS:
        helped = run(programs / program, "--help", cwd=tmp_path)
        assert helped.returncode == 0, helped.stderr
        assert "usage: " in helped.stdout
        version = run(programs / program, "--version", cwd=tmp_path)
        assert version.returncode == 0, version.stderr
        assert version.stdout.split() == [program, VERSION]
    # Found from anywhere, and without a checkout.
    assert run(programs / "messageu", "config", "show", cwd=tmp_path).returncode == 0


IMPORTS_ALL = """
import pkgutil, sys, messageu
for module in pkgutil.walk_packages(messageu.__path__, "messageu."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
for name in messageu.__all__:
    getattr(messageu, name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"client", "common", "gateway", "storage_worker"}))
"""


@pytest.mark.slow
def test_every_module_of_it_imports_and_none_by_another_name(wheel: Path, tmp_path: Path) -> None:
    done = run(install(tmp_path, wheel) / "python", "-P", "-W", "error", "-c", IMPORTS_ALL, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_an_editable_install_is_the_checkout(source: Path, tmp_path: Path) -> None:
    programs = install(tmp_path, "--editable", source)
    code = "import messageu; print(messageu.Messenger.__module__, messageu.__file__)"
    found = run(programs / "python", "-P", "-c", code, cwd=tmp_path)
    assert found.stdout.split() == ["client.messenger", str(source / "messageu" / "__init__.py")], found.stderr
    assert run(programs / "messageu", "--version", cwd=tmp_path).stdout.split() == ["messageu", VERSION]
