"""Blocking and muting with real programs: the sender sees nothing of it, and neither the numbered
console nor a published client beside it is any different.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.journeys.consoles import one_message
from tests.journeys.test_dialects import OURS, Program
from torture.patience import HANG_SECONDS
from torture.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.conftest import OpenConsole
    from torture.programs import Server

pytestmark = pytest.mark.slow


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(folder / "none.toml")}


def words_of(server: Server, folder: Path, name: str, *words: str) -> list[str]:
    address = f"127.0.0.1:{server.port}"
    return [sys.executable, "-P", "-m", "client", "--home", str(folder / name), "--server", address, *words]


def done(server: Server, folder: Path, name: str, *words: str) -> tuple[str, str]:
    """Run a command to its end; what it printed, and what it said."""
    ended = subprocess.run(
        words_of(server, folder, name, *words),
        env=environment(folder),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


def received(server: Server, folder: Path, name: str) -> list[str]:
    """What `recv` gives, but for symmetric keys."""
    printed, _ = done(server, folder, name, "recv", "--json")
    found = [one for one in map(json.loads, printed.splitlines()) if one["kind"] != "key"]
    return [f"{one['name']}: {one['text'] if one['kind'] == 'text' else one['kind']}" for one in found]


@pytest.fixture
def dora(server: Server) -> Iterator[Program]:
    program = Program(server, OURS, "dora")
    yield program
    program.close()


def test_a_blocked_sender_is_not_told(server: Server, dora: Program, tmp_path: Path) -> None:
    for name in ("alice", "bob", "carol"):
        done(server, tmp_path, name, "register", name)
    alice = bytes.fromhex(json.loads(done(server, tmp_path, "alice", "whoami", "--json")[0])["id"])

    def dora_sends() -> tuple[bytes, int]:
        """What the published protocol says to her: the recipient's id, and the answer's length."""
        answer = dora.ask(3, alice + b"\x01" + bytes(4), 2103)
        return answer[:16], len(answer)

    first = done(server, tmp_path, "bob", "send", "alice", "before")
    before = done(server, tmp_path, "bob", "send", "alice", "before, with the key there")
    assert dora_sends() == (alice, 20)
    assert received(server, tmp_path, "alice") == [
        "bob: before",
        "bob: before, with the key there",
        "dora: key-request",
    ]
    for name in ("bob", "dora"):
        printed, said = done(server, tmp_path, "alice", "block", name)
        assert printed == f"{name}: blocked\n"
        assert "does not tell them" in said

    # To the letter and byte as before, by the command and by the published protocol.
    assert done(server, tmp_path, "bob", "send", "alice", "while blocked") == before
    assert first[0] == before[0] == ""
    assert dora_sends() == (alice, 20)
    sent = json.loads(done(server, tmp_path, "bob", "send", "carol", "to another", "--json")[0])
    to_alice = json.loads(done(server, tmp_path, "bob", "send", "alice", "while blocked, too", "--json")[0])
    assert sent.keys() == to_alice.keys()
    done(server, tmp_path, "carol", "send", "alice", "of carol")
    assert received(server, tmp_path, "alice") == ["carol: of carol"]
    assert "while blocked" not in done(server, tmp_path, "alice", "history")[0]
    # A new connection, and a server that was started again, know it as well.
    server.gateway.stop()
    server.worker.stop()
    server.start()
    done(server, tmp_path, "bob", "send", "alice", "while blocked, after a restart")
    assert received(server, tmp_path, "alice") == []

    done(server, tmp_path, "alice", "unblock", "bob")
    done(server, tmp_path, "bob", "send", "alice", "after")
    assert received(server, tmp_path, "alice") == ["bob: after"]
    assert "while blocked" not in done(server, tmp_path, "alice", "history")[0]
    listed = done(server, tmp_path, "alice", "blocked")[0]
    assert listed == "dora: blocked\n"


def test_a_muted_sender_is_quiet(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob", "carol"):
        done(server, tmp_path, name, "register", name)
    done(server, tmp_path, "bob", "send", "alice", "heard")
    done(server, tmp_path, "alice", "recv")
    assert done(server, tmp_path, "alice", "mute", "bob")[0] == "bob: muted\n"
    with subprocess.Popen(
        words_of(server, tmp_path, "alice", "watch", "--json"),
        env=environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        try:
            assert watch.stdout is not None
            done(server, tmp_path, "bob", "send", "alice", "quiet")
            done(server, tmp_path, "carol", "send", "alice", "loud")
            announced = json.loads(watch.stdout.readline())
        finally:
            watch.kill()
    assert (announced["name"], announced["text"]) == ("carol", "loud")
    history = done(server, tmp_path, "alice", "history")[0]
    assert "bob [suite 1]: quiet" in history
    assert "carol [suite 1]: loud" in history
    done(server, tmp_path, "alice", "unmute", "bob")
    done(server, tmp_path, "bob", "send", "alice", "heard again")
    assert received(server, tmp_path, "alice")[-1] == "bob: heard again"


def test_the_numbered_console_is_as_published(server: Server, tmp_path: Path, open_console: OpenConsole) -> None:
    alice, bob, carol = (open_console(server, name) for name in ("alice", "bob", "carol"))
    for console, name in ((alice, "alice"), (bob, "bob"), (carol, "carol")):
        console.choose("110", name)
    for console in (bob, carol):
        console.choose("120")
        console.choose("130", "alice")
        console.choose("152", "alice")
    alice.choose("120")
    assert "bob" in alice.choose("140")
    sent = bob.choose("150", "alice", "before")
    assert alice.choose("140") == one_message("bob", "before")
    nothing = alice.choose("140")
    assert one_message("bob", "before") not in nothing

    done(server, tmp_path, "alice", "block", "bob")
    assert bob.choose("150", "alice", "while blocked") == sent
    assert alice.choose("140") == nothing
    carol.choose("150", "alice", "of carol")
    assert alice.choose("140") == one_message("carol", "of carol")

    done(server, tmp_path, "alice", "unblock", "bob")
    done(server, tmp_path, "alice", "mute", "bob")
    assert bob.choose("150", "alice", "while muted") == sent
    # The console has no word for it: it shows what was asked for.
    assert alice.choose("140") == one_message("bob", "while muted")
    assert [console.leave() for console in (alice, bob, carol)] == [0, 0, 0]
