"""Several processes on one home: at the same time, with other wishes than the others, one of them
dead.

A chat beside a watch is in test_chat.py.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.stories.runner import messageu, receives
from tests.stories.test_watch import watching
from torture.patience import HANG_SECONDS
from torture.programs import Server, wait_until

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
    end = time.monotonic() + HANG_SECONDS
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


def test_all_at_the_same_time(server: Server, tmp_path: Path) -> None:
    def at_once(*commands: tuple[str, list[str]]) -> list[subprocess.CompletedProcess[str]]:
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda one: messageu(tmp_path, server.port, *one), commands))

    # Two register: there is one identity, and the server knows no other.
    codes = [done.returncode for done in at_once(*[("alice", ["register", "alice"])] * 2)]
    assert sorted(codes) in ([0, 1], [0, 2])
    assert at_once(("bob", ["register", "bob"]))[0].stdout
    assert at_once(("bob", ["users"]))[0].stdout == "alice\n"

    # Four send to somebody who has no key of theirs yet, while the other side sends and receives
    # twice.
    texts = [f"text {number}" for number in range(4)]
    done = at_once(
        *(("alice", ["send", "bob", text]) for text in texts),
        ("bob", ["send", "alice", "and back"]),
        ("bob", ["recv", "--wait", "1"]),
        ("bob", ["recv", "--wait", "1"]),
    )
    assert [one.returncode for one in done[:5]] == [0] * 5
    # One receives; the other is told so, or comes after it.
    received = done[5:]
    assert {one.returncode for one in received} <= {0, 1, 124}
    came = "".join(one.stdout for one in (*received, *at_once(("bob", ["recv"]))))
    assert [came.count(f": {text}\n") for text in texts] == [1] * 4
    assert "can't be decrypted" not in came
    assert at_once(("alice", ["history"]))[0].stdout.count("to bob [suite 1]: text") == 4
    assert at_once(("alice", ["recv"]))[0].stdout.endswith(" bob: and back\n")


def test_two_want_to_receive(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(messageu, tmp_path, server.port, "bob", ["recv", "--wait", "30"])
        wait_until(lambda: receives(tmp_path / "bob"), "one to receive")
        told = messageu(tmp_path, server.port, "bob", ["recv"])
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr == (
            "messageu: Another process receives for this home. Use that one, or end it and try again.\n"
        )
        told = messageu(tmp_path, server.port, "bob", ["recv", "--json"])
        assert json.loads(told.stderr)["error"] == "home-in-use"
        (tmp_path / "pass").write_text("correct horse")
        backup = ["export", str(tmp_path / "backup"), "--passphrase-file", str(tmp_path / "pass")]
        assert messageu(tmp_path, server.port, "bob", backup).returncode == 1
        assert not (tmp_path / "backup").exists()
        # What asks nobody, and what sends, goes on beside it.
        assert messageu(tmp_path, server.port, "bob", ["history"]).returncode == 0
        assert messageu(tmp_path, server.port, "bob", ["send", "alice", "in between"]).returncode == 0
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "hello"]).returncode == 0
        assert " alice: hello" in waiting.result().stdout
