"""The set-up of scripts/run: honcho, the Procfile and the keepers, with the real
programs, in a folder of its own.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from torture.caller import Caller, new_account
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class SetUp:
    """What scripts/run starts, started in a folder that has the Procfile and a port of its own."""

    def __init__(self, folder: Path) -> None:
        # It is asked for nothing but its port, and whether it answers.
        self.server = Server(folder)
        # A machine may be so slow that an orderly end takes longer than the keepers and scripts/run
        # allow.
        patient = f"--kill-after {HANG_SECONDS}"
        procfile = (ROOT / "Procfile").read_text()
        (folder / "Procfile").write_text(procfile.replace("keep_running.py", f"keep_running.py {patient}"))
        (folder / "scripts").symlink_to(ROOT / "scripts")
        (folder / ".venv").symlink_to(sys.prefix)
        lines = (ROOT / "scripts" / "run").read_text().replace("\\\n", " ").splitlines()
        (command,) = [line.removeprefix("exec ") for line in lines if line.startswith("exec ")]
        command = command.replace("--kill-after 4.9", patient)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        # honcho's PORT must not win over myport.info, and the data folder makes itself.
        environment.pop("MESSAGEU_DATA", None)
        self.log = folder / "honcho.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                shlex.split(command), cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def pid_of(self, module: str) -> int | None:
        """The program itself, not what keeps it."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if process.cmdline()[-2:] == ["-m", module] and "scripts/keep_running.py" not in process.cmdline():
                    return process.pid
            except psutil.NoSuchProcess:
                continue
        return None

    def ready(self) -> int:
        """Wait until it answers; the worker's process number."""
        wait_until(self.server.answers, "an answer")
        found = self.pid_of("storage_worker")
        assert found is not None
        return found

    def end(self) -> None:
        everybody = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for process in everybody:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@pytest.fixture
def set_up(tmp_path: Path) -> Iterator[SetUp]:
    made = SetUp(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_to_and_leaves_nothing_running(set_up: SetUp, number: int) -> None:
    set_up.ready()
    everybody = psutil.Process(set_up.process.pid).children(recursive=True)
    assert len(everybody) >= 5
    alice = new_account(set_up.server.port, "alice")
    with Caller(set_up.server.port) as caller:
        caller.send(alice.client_id, alice.client_id, b"kept")
        set_up.process.send_signal(number)
        set_up.process.wait(HANG_SECONDS)
    assert [process for process in everybody if process.is_running()] == []
    log = set_up.log.read_text()
    assert log.count("stopped") >= 2, log
    assert "Traceback" not in log


def test_the_worker_answers_until_its_gateway_has_ended(set_up: SetUp) -> None:
    set_up.ready()
    alice = new_account(set_up.server.port, "alice")
    with Caller(set_up.server.port) as fetching:
        fetching.send(alice.client_id, alice.client_id, b"handed out")
        assert [mail.content for mail in fetching.pull(alice.client_id)] == [b"handed out"]
        # Whether the mail arrived is open: at its end the gateway has something to tell the worker.
        set_up.process.send_signal(signal.SIGTERM)
        set_up.process.wait(HANG_SECONDS)
    log = set_up.log.read_text()
    assert "the storage worker is gone" not in log, log
    assert log.index("INFO gateway: stopped") < log.index("INFO storage_worker: stopped"), log


def test_killed_programs_are_started_again_and_nothing_is_lost(set_up: SetUp) -> None:
    before = set_up.ready()
    assert (set_up.log.parent / "data" / "mail.db").exists()
    alice = new_account(set_up.server.port, "alice")
    with Caller(set_up.server.port) as caller:
        caller.send(alice.client_id, alice.client_id, b"kept")
        os.kill(before, signal.SIGKILL)
        # The same connection goes on: the gateway waits for the worker's return.
        caller.send(alice.client_id, alice.client_id, b"sent meanwhile")
    assert set_up.ready() != before
    gateway = set_up.pid_of("gateway")
    assert gateway is not None
    os.kill(gateway, signal.SIGKILL)
    wait_until(lambda: set_up.pid_of("gateway") not in (None, gateway), "the gateway")
    set_up.ready()
    with Caller(set_up.server.port) as caller:
        assert [mail.content for mail in caller.pull(alice.client_id)] == [b"kept", b"sent meanwhile"]
        # The next request settles what came, so that nothing has to be watched when the end comes.
        assert caller.pull(alice.client_id) == []
    set_up.process.send_signal(signal.SIGINT)
    set_up.process.wait(HANG_SECONDS)
    assert "was ended by SIGKILL; starting it again" in set_up.log.read_text()
