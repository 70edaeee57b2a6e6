"""Ctrl-C wherever a command waits for a person or for the server; and several processes of one home at once.

What it leaves behind at every step of the way is in tests/client/test_interrupts.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.stories.runner import messageu, receives
from tests.stories.terminals import CTRL_C, Terminal
from torture.programs import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        for name in ("alice", "bob"):
            assert messageu(tmp_path, running.port, name, ["register", name]).returncode == 0
        yield running


def test_ctrl_c(server: Server, tmp_path: Path) -> None:
    alice = tmp_path / "alice"

    def interrupted(*words: str, shown: str = "") -> None:
        with Terminal(alice, server.port, *words) as terminal:
            if shown:
                terminal.until(shown)
            else:
                wait_until(lambda: receives(alice), "the lock of the one who receives")
            terminal.types(CTRL_C, end="")
            assert terminal.ends() == 130, words
            terminal.until("Interrupted.")

    interrupted("recv", "--wait", "60")
    interrupted("watch")
    interrupted("send", "bob", shown="Enter the text, then Ctrl-D:")
    interrupted("verify", "bob", shown="Does bob see the same number?")
    interrupted("console", shown="0) Exit client")
    with Terminal(alice, server.port, "console") as terminal:
        # In the midst of a choice it is the menu again.
        terminal.types("150").until("User name:").types(CTRL_C, end="").until("Interrupted.")
        terminal.until("0) Exit client", 2).types("0")
        assert terminal.ends() == 0
    assert messageu(tmp_path, server.port, "bob", ["recv"]).stdout == ""


def test_several_at_once(server: Server, tmp_path: Path) -> None:
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "first"]).returncode == 0
    texts = [f"text {number}" for number in range(4)]
    with ThreadPoolExecutor() as pool:
        sending = [pool.submit(messageu, tmp_path, server.port, "alice", ["send", "bob", text]) for text in texts]
        receiving = [pool.submit(messageu, tmp_path, server.port, "bob", ["recv", "--wait", "1"]) for _ in range(2)]
    assert [one.result().returncode for one in sending] == [0] * 4
    # One receives; the other is told so, or comes after it.
    assert {one.result().returncode for one in receiving} <= {0, 1, 124}
    came = messageu(tmp_path, server.port, "bob", ["recv"]).stdout
    came += "".join(one.result().stdout for one in receiving)
    assert all(came.count(text) == 1 for text in texts)
    assert messageu(tmp_path, server.port, "alice", ["history"]).stdout.count("to bob: text") == 4
