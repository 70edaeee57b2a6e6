"""`scripts/cluster` as people use it: up, mail, kills of each kind, Ctrl-C, and nothing left."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import __main__ as command
from cluster.postgres import programs
from torture.caller import Caller, new_account
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, wait_until


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cluster of the user who runs the tests is left alone."""
    monkeypatch.setenv("MESSAGEU_CLUSTER", str(tmp_path / "c"))
    yield tmp_path / "c"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("up", "--workers", "3"), "--workers is a power of two"),
        (("up", "--gateways", "0"), "--gateways is 1 to 32"),
        (("kill", "worker"), "kill worker needs a number"),
        (("kill", "primary", "1"), "kill primary takes no number"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(words)
    assert sentence in capsys.readouterr().err


def test_nothing_runs_yet(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("status",), ("down",), ("kill", "standby")):
        assert command.main(words) == 1
        assert "no cluster of this user runs" in capsys.readouterr().err
    assert not home.exists()


class Running:
    """`up` in the foreground of another process, and what it has said."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "said"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cluster", "up", "--workers", "2", "--gateways", "2"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def await_word(self, sentence: str) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None or sentence in self.log.read_text(), self.log.read_text()
            return re.search(sentence, self.log.read_text()) is not None

        wait_until(is_there, sentence)


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="the wheel of PostgreSQL is not installed: scripts/test does that")
def test_up_mail_kills_and_down(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert command.main(words) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    running = Running(tmp_path)
    everything: list[psutil.Process] = []
    try:
        running.await_word("Up. Clients: --server")
        everything = psutil.Process(running.process.pid).children(recursive=True)
        assert command.main(["up"]) == 1
        assert "runs already" in capsys.readouterr().err
        status = told("status")
        ports = [int(port) for port in re.findall(r"gateway \d: process \d+, 127.0.0.1:(\d+), every worker", status)]
        assert len(ports) == 2
        assert len(re.findall(r"worker \d: process \d+", status)) == 2
        assert "standby: PostgreSQL two, runs, each commit waits for it" in status
        people = [new_account(ports[0], name) for name in ("alice", "bob", "carol")]
        sent = 0
        for words in (("worker", "0"), ("worker", "1"), ("gateway", "0"), ("primary",)):
            with Caller(ports[1]) as caller:
                caller.hello()
                for one in people:
                    caller.send(people[0].client_id, one.client_id, str(sent).encode())
            sent += 1
            assert "killed" in told("kill", *words)
            wait_until(lambda: told("status").count(", every worker answers") == 2, f"all of it after kill {words}")
        assert "two is the primary now" in running.log.read_text()
        running.await_word("one is back as the standby")
        assert "killed" in told("kill", "standby")
        running.await_word("one, the standby, is gone: two acknowledges alone")
        with Caller(ports[0]) as caller:
            for one in people:
                found = {mail.content for mail in caller.pull(one.client_id)}
                assert found == {str(number).encode() for number in range(sent)}
        assert command.main(["kill", "worker", "2"]) == 1
        assert "there is no worker 2" in capsys.readouterr().err
        everything += psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(HANG_SECONDS) == 0
        assert running.log.read_text().rstrip().endswith("Nothing of it runs any more.")
    finally:
        running.process.kill()
        running.process.wait()
    left = [one for one in everything if one.is_running()]
    assert left == []
    assert not home.exists()
