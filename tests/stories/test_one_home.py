"""Several processes on one home, one of them with another wish than the others, one of them dead."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.stories.runner import messageu
from tests.stories.test_watch import watching
from torture.programs import Server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running.start()


class Lines:
    """What a process prints, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.seen: list[str] = []
        self._stdout = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # Its end is the process's, also where that was killed.
        with contextlib.suppress(ValueError):
            for line in self._stdout:
                self.seen.append(line)


def until(lines: list[Lines], text: str) -> None:
    """Wait until one of several processes printed a text."""
    end = time.monotonic() + 30
    while not any(text in line for one in lines for line in one.seen):
        assert time.monotonic() < end, f"nobody printed {text!r}: {[one.seen for one in lines]}"
        time.sleep(0.05)


def test_one_receives_others_follow_and_take_over(server: Server, tmp_path: Path) -> None:
    def alice_sends(text: str) -> None:
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", text]).returncode == 0

    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    alice_sends("first")
    passphrase = tmp_path / "pass"
    passphrase.write_text("correct horse")
    with contextlib.ExitStack() as stack:
        watches = [stack.enter_context(watching(tmp_path / "bob")) for _ in range(2)]
        lines = [Lines(watch) for watch in watches]

        # One cursor for the home: whoever is first hands a message out.
        until(lines, "first")
        alice_sends("together")
        until(lines, "together")
        # Nobody changes the passphrase under them, and they go on.
        refused = messageu(
            tmp_path, server.port, "bob", ["passphrase", "set", "--new-passphrase-file", str(passphrase), "--json"]
        )
        assert refused.returncode == 1
        assert json.loads(refused.stderr.splitlines()[-1])["error"] == "home-in-use"
        # The one that receives dies without a word; the other takes over.
        watches[0].kill()
        watches[0].wait()
        alice_sends("second")
        until(lines, "second")
        both = "".join([*lines[0].seen, *lines[1].seen])
        assert [both.count(text) for text in ("first", "together", "second")] == [1, 1, 1]
        # Sending works beside it.
        assert messageu(tmp_path, server.port, "bob", ["send", "alice", "an answer"]).returncode == 0
    done = messageu(tmp_path, server.port, "bob", ["passphrase", "set", "--new-passphrase-file", str(passphrase)])
    assert done.returncode == 0, done.stderr
    history = messageu(tmp_path, server.port, "bob", ["history", "--passphrase-file", str(passphrase)])
    assert [text for text in ("first", "second", "an answer") if history.stdout.count(text) != 1] == []
