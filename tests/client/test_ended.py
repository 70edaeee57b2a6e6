"""A program that is ended by a signal while a file is received: no decrypted content stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torture.patience import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.messenger import Messenger
    from tests.client.fake_gateway import FakeGateway

ROOT = Path(__file__).parent.parent.parent
STANDS_STILL = """
import sys, time
from client.mail import received_files
from client.__main__ import main

def half(sealed, progress):
    yield b"plain words" * 100
    print("half", flush=True)
    time.sleep(60)

received_files._decrypted = half
sys.exit(main())
"""
"""The command, which stands still in the midst of a file."""


@pytest.fixture
def ready(alice: Messenger, bob: Messenger, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"plain words" * 1000)
    alice.home.directory.meet("bob")
    alice.send_key("bob")
    alice.home.sending.send_file("bob", tmp_path / "file")
    list(bob.receive(most=1))
    bob.close()


def command(tmp_path: Path, gateway: FakeGateway, *words: str) -> list[str]:
    folders = ["--home", str(tmp_path / "bob"), "--save-dir", str(tmp_path / "in")]
    return [*folders, "--server", str(gateway.address), *words]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(tmp_path / "none.toml")}


def ended(tmp_path: Path, gateway: FakeGateway, number: signal.Signals) -> int:
    """Receive, and send a signal in the midst of the file; how it ended."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", STANDS_STILL, *command(tmp_path, gateway, "recv")],
        stdout=subprocess.PIPE,
        env=environment(tmp_path),
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line == "half\n":
                    break
            assert len(list((tmp_path / "in").iterdir())) == 1
            process.send_signal(number)
            return process.wait(HANG_SECONDS)
        finally:
            process.kill()


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_end_leaves_nothing_half_written(
    tmp_path: Path, gateway: FakeGateway, number: signal.Signals
) -> None:
    assert ended(tmp_path, gateway, number) == -number
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.usefixtures("ready")
def test_what_a_kill_left_is_removed_at_the_next_start(tmp_path: Path, gateway: FakeGateway) -> None:
    assert ended(tmp_path, gateway, signal.SIGKILL) == -signal.SIGKILL
    (left,) = (tmp_path / "in").iterdir()
    assert left.name.startswith(".messageu-")
    again: Iterator[str] = iter(["whoami", "recv"])
    for word, there in zip(again, ([], ["messageu-alice-2.txt"]), strict=True):
        subprocess.run(
            [sys.executable, "-P", "-m", "client", *command(tmp_path, gateway, word)],
            env=environment(tmp_path),
            check=True,
            capture_output=True,
            timeout=HANG_SECONDS,
        )
        assert [path.name for path in (tmp_path / "in").iterdir()] == there
