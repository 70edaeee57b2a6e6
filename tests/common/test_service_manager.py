"""What the service manager hears: a datagram socket in its place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.errors import SettingRejected
from common.service_manager import ServiceManager
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS = 4711


class Manager:
    """Hears what it is told. `address`: as systemd writes it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address.replace("@", "\0", 1))
        self.sock.settimeout(HANG_SECONDS)

    def hears(self) -> bytes:
        return self.sock.recv(4096)

    def hears_more(self) -> bool:
        self.sock.setblocking(False)
        try:
            self.sock.recv(4096)
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(HANG_SECONDS)
        return True


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = (
        str(tmp_path / "notify") if request.param == "path" else f"@messageu-test-{os.getpid()}-{os.urandom(4).hex()}"
    )
    found = Manager(address)
    yield found
    found.sock.close()


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_what_is_told(manager: Manager) -> None:
    clock = Clock()
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(PROCESS)}
    told = ServiceManager.named_in(environment, PROCESS, clock)
    assert told.wants_beats
    told.ready()
    assert manager.hears() == b"READY=1"
    for seconds, beats in ((29.0, False), (1.0, True), (0.0, False), (29.0, False), (1.5, True)):
        clock.time += seconds
        told.beat()
        assert manager.hears_more() is beats
    told.stopping()
    assert manager.hears() == b"STOPPING=1"
    assert not manager.hears_more()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"WATCHDOG_USEC": "60000000"},
        {"NOTIFY_SOCKET": "/run/nobody", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
    ],
)
def test_who_asked_for_no_beats_gets_none(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    told = ServiceManager.named_in(environment, PROCESS, clock)
    clock.time += 1000
    told.beat()
    assert not told.wants_beats
    if "/" not in environment.get("NOTIFY_SOCKET", ""):
        told.ready()
        told.stopping()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("NOTIFY_SOCKET", "notify"), ("NOTIFY_SOCKET", "@"), ("NOTIFY_SOCKET", "vsock:2:1"), ("WATCHDOG_USEC", "30s"),
     ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "-1"), ("WATCHDOG_USEC", "²")],
)  # fmt: skip
def test_what_makes_no_sense_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingRejected, match=f"{variable} is '"):
        ServiceManager.named_in({variable: value}, PROCESS, Clock())


def test_who_can_not_be_told_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = ServiceManager.named_in({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, PROCESS, Clock())
    for _ in range(2):
        told.ready()
    assert caplog.messages == ["the service manager could not be told READY=1: [Errno 2] No such file or directory"]


def test_nobody_waits_for_a_manager_that_does_not_read(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    told = ServiceManager(manager.address, 60.0, clock)
    while not caplog.messages:
        clock.time += 60
        told.beat()
    assert "Resource temporarily unavailable" in caplog.messages[0]


def test_both_programs_tell_that_they_serve_that_they_turn_and_that_they_stop(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        for program in server.programs:
            manager = Manager(str(tmp_path / f"{program.module}.notify"))
            with manager.sock:
                # So short a period makes each beat of the loop one that is told.
                program.extra_environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000"}
                program.start()
                assert manager.hears() == b"READY=1"
                if program is server.gateway:
                    # Whoever is told that it serves can connect at once.
                    socket.create_connection(("127.0.0.1", server.port)).close()
                else:
                    assert (server.data / "mail.db").stat().st_size
                assert manager.hears() == b"WATCHDOG=1"
                program.send_signal(signal.SIGTERM)
                told = {manager.hears()}
                while b"STOPPING=1" not in told:
                    told.add(manager.hears())
                assert told <= {b"WATCHDOG=1", b"STOPPING=1"}
                assert program.process.wait(HANG_SECONDS) == 0


@pytest.mark.parametrize("module", ["gateway", "storage_worker"])
def test_a_senseless_environment_ends_both_programs(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, "--data-folder", str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": "nowhere"}, cwd=tmp_path,
        capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "NOTIFY_SOCKET is 'nowhere'" in done.stderr
