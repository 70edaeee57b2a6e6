"""Gateway and storage worker with a data folder each, as on two machines: over TCP, by keys."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage_worker import admin
from torture.caller import Caller, new_account, persistently
from torture.programs import ROOT, Program, Server, free_port, wait_until

pytestmark = pytest.mark.slow


class Machines(Server):
    """The gateway has a data folder of its own. `key`: what it knows of the worker; none: plain."""

    def __init__(self, folder: Path, key: str | None) -> None:
        port = free_port()
        super().__init__(folder, worker_arguments=("--link", f"tcp://127.0.0.1:{port}"))
        named = f"{key}@" if key else ""
        self.gateway_data = folder / "data-of-the-gateway"
        words = ("--worker", f"tcp://{named}127.0.0.1:{port}", "--data-folder", str(self.gateway_data))
        self.gateway = Program("gateway", folder, self.environment, words, kept=False)
        self.programs = (self.worker, self.gateway)


def told(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    capsys.readouterr()
    assert admin.main(["--data-folder", str(folder), "link-key", *words, "--json"]) == 0
    return capsys.readouterr().out.split('"key": "')[1][:43]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path


def test_mail_goes_over_it_and_a_restart_of_either_is_survived(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = told(capsys, folder / "data", "worker")
    machines = Machines(folder, key)
    told(capsys, folder / "data", "allow", told(capsys, machines.gateway_data, "gateway"))
    with machines.start():
        alice = new_account(machines.port, "alice")
        for program in machines.programs:
            program.kill()
            program.start()
            machines.await_ready()
            content = f"after {program.module}".encode() * 10_000
            with Caller(machines.port) as caller:
                caller.send(alice.client_id, alice.client_id, content)
                # A gateway that is killed may not have settled what it handed out.
                assert content in [mail.content for mail in caller.pull(alice.client_id)]


def test_a_gateway_that_is_not_allowed_gets_nothing_until_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = told(capsys, folder / "data", "worker")
    machines = Machines(folder, key)
    own = told(capsys, machines.gateway_data, "gateway")
    with machines:
        for program in machines.programs:
            program.start()
        wait_until(lambda: f"link-key allow {own}" in machines.gateway.said(), "the gateway's line")
        wait_until(lambda: f"its key {own} is not allowed" in machines.worker.said(), "the worker's line")
        assert not machines.answers()
        assert "connected to the storage worker" not in machines.gateway.said()
        told(capsys, folder / "data", "allow", own)
        machines.await_ready()
        assert persistently(lambda: new_account(machines.port, "alice")).name == "alice"


def test_a_gateway_that_knows_another_worker_gets_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, folder / "data", "worker")
    machines = Machines(folder, "A" * 42 + "0")
    told(capsys, folder / "data", "allow", told(capsys, machines.gateway_data, "gateway"))
    with machines:
        for program in machines.programs:
            program.start()
        wait_until(lambda: "has another key than --worker says" in machines.gateway.said(), "the gateway's line")
        wait_until(lambda: "a connection to --link was refused" in machines.worker.said(), "the worker's")
        assert not machines.answers()


@pytest.mark.parametrize(
    ("program", "words", "sentence"),
    [
        (
            "storage_worker",
            ("--link", "tcp://0.0.0.0:1360"),
            "other machines could reach it, and this worker has no key",
        ),
        ("gateway", ("--worker", "tcp://10.0.0.5:1360"), "is on another machine and names no key"),
        (
            "gateway",
            ("--worker", f"tcp://{'A' * 42}0@10.0.0.5:1360"),
            "this gateway has none: `messageu-admin link-key",
        ),
    ],
)
def test_what_would_be_open_is_refused(tmp_path: Path, program: str, words: tuple[str, ...], sentence: str) -> None:
    command = [sys.executable, "-P", "-m", program, *words, "--data-folder", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert sentence in done.stderr
