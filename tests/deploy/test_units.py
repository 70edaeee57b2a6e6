"""The units of systemd: what they start, with which options, and that systemd takes them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import gateway.options
import storage_worker.settings
from common.data_folder import DATA_VARIABLE
from gateway.__main__ import EXIT_DONT_RESTART
from storage_worker.__main__ import EXIT_FINAL
from torture.patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PARSERS = {
    "messageu-gateway.service": gateway.options.parse,
    "messageu-storage-worker.service": storage_worker.settings.parse,
}
INSTALLED = "/opt/messageu/bin/"
JUDGED_BY = 252
"""The version of systemd whose figures the page has."""
SHORTEST_PERIOD = 3
"""Seconds: see `ServiceManager.beat`."""
UNITS = [FOLDER / name for name in PARSERS]
SOCKET = FOLDER / "messageu-gateway.socket"


def settings(unit: Path) -> dict[str, list[str]]:
    """What a unit sets, each time that it does."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_every_unit_is_looked_at() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*PARSERS, SOCKET.name, "messageu-storage-worker-metrics.conf"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_it_starts_is_there_and_tells_what_the_unit_waits_for(unit: Path) -> None:
    found = settings(unit)
    [started] = found["ExecStart"]
    program, *words = shlex.split(started)
    assert program == f"{INSTALLED}{unit.stem}"
    assert (ROOT / "scripts" / "bin" / unit.stem).is_file()
    assert words == ["$OPTIONS"]
    assert found["Type"] == ["notify"]
    assert int(found["WatchdogSec"][0]) >= SHORTEST_PERIOD
    assert found["Restart"] == ["always"]
    assert found["RestartPreventExitStatus"] == [str(EXIT_DONT_RESTART)] == [str(EXIT_FINAL)]
    assert found["Environment"] == [f"{DATA_VARIABLE}=/var/lib/messageu/data"]
    assert found["StateDirectory"] == ["messageu"]
    assert found["EnvironmentFile"] == [f"-/etc/messageu/{unit.stem.removeprefix('messageu-')}"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_options_that_the_page_gives_are_taken(unit: Path) -> None:
    file = settings(unit)["EnvironmentFile"][0].removeprefix("-")
    shown = re.findall(rf"^# {file}\nOPTIONS=(.*)$", PAGE, re.MULTILINE)
    assert shown, f"docs/operations.md shows no {file}"
    for words in shown:
        PARSERS[unit.name](shlex.split(words))


def test_the_socket_is_at_an_address_that_the_gateway_is_told() -> None:
    text = (ROOT / "deploy" / "etc" / "gateway").read_text(encoding="utf-8")
    [words] = re.findall(r"^OPTIONS=(.*)$", text, re.MULTILINE)
    places = gateway.options.parse(shlex.split(words)).places
    assert settings(SOCKET)["ListenStream"] == [str(place) for place in places]
    # What `gateway.listener` does itself where nobody hands a socket over.
    assert settings(SOCKET)["BindIPv6Only"] == ["both"]


def test_the_gateway_is_stopped_first() -> None:
    # What is started after another one is stopped before it.
    assert "messageu-storage-worker.service" in settings(FOLDER / "messageu-gateway.service")["After"][0].split()


def systemd_analyze(*words: str | Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def systemd_is(version: int) -> bool:
    if shutil.which("systemd-analyze") is None:
        return False
    return systemd_analyze("--version").startswith(f"systemd {version} ")


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@needs_systemd
def test_systemd_takes_them(tmp_path: Path) -> None:
    for unit in UNITS:
        # It looks whether the program is there.
        text = unit.read_text(encoding="utf-8").replace(INSTALLED, f"{ROOT}/scripts/bin/")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    shutil.copy(SOCKET, tmp_path)
    folder = tmp_path / "messageu-storage-worker.service.d"
    folder.mkdir()
    shutil.copy(FOLDER / "messageu-storage-worker-metrics.conf", folder / "metrics.conf")
    assert systemd_analyze("verify", "--man=no", *(tmp_path / unit.name for unit in (*UNITS, SOCKET))) == ""


@needs_systemd
@pytest.mark.skipif(not systemd_is(JUDGED_BY), reason="other versions judge differently")
def test_how_much_they_are_exposed_is_what_the_page_says() -> None:
    for unit in UNITS:
        said = systemd_analyze("security", "--offline=true", "--no-pager", unit)
        [exposure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert f"| `{unit.name}` | {exposure} |" in PAGE
