"""`watch`, which ends only with Ctrl-C: printing, handing to a command, and the cursor."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from client.open_home import OpenHome
from tests.stories.runner import check_json, messageu
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def watching(home: Path, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(home / "none.toml"), "TZ": "UTC"}
    environment |= more
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "client", "--home", str(home), "watch", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=home,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(path: Path, text: str) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < end, f"{path} never held {text!r}"
        time.sleep(0.05)


def until_handed_out(home: Path) -> None:
    """Until `watch` has noted that it is done with all that was received.

    It prints first and notes then, so who interrupts it in between sees the message again.
    """
    end = time.monotonic() + HANG_SECONDS
    with OpenHome.open(home, "127.0.0.1:1") as opened:
        while opened.watch_cursor.position() < opened.inbox.last_seen():
            assert time.monotonic() < end, "watch did not note what it printed"
            time.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running.start()


def test_watch(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "one"]).returncode == 0
    with watching(tmp_path / "bob") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().endswith(" alice: one\n")
        # The one that receives; others are told so.
        assert messageu(tmp_path, server.port, "bob", ["recv"]).returncode == 1
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "two"]).returncode == 0
        assert watch.stdout.readline().endswith(" alice: two\n")
        until_handed_out(tmp_path / "bob")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(HANG_SECONDS) == 130
        assert watch.stderr is not None
        assert watch.stderr.read() == "Interrupted.\n"

    # A command that fails once gets the same message again; then the cursor moves on.
    script, taken = tmp_path / "take.py", tmp_path / "taken"
    script.write_text(
        "import pathlib, sys\n"
        f"once = pathlib.Path({str(tmp_path / 'once')!r})\n"
        "if not once.exists():\n"
        "    once.touch()\n"
        "    sys.exit(1)\n"
        f"with open({str(taken)!r}, 'a') as file: file.write(sys.stdin.read())\n"
    )
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "three"]).returncode == 0
    with watching(tmp_path / "bob", "--exec", shlex.join([sys.executable, str(script)])):
        until(taken, "three")
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", "four"]).returncode == 0
        until(taken, "four")
    messages = [json.loads(line) for line in taken.read_text().splitlines()]
    for message in messages:
        check_json(message)
    assert [message["text"] for message in messages] == ["three", "four"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_who_ends_the_watch_ends_the_command(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    """And what the command has started."""
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "hello"]).returncode == 0
    ended, started = tmp_path / "ended", tmp_path / "started"
    script = tmp_path / "take.py"
    script.write_text(
        "import pathlib, signal, subprocess, sys\n"
        "def end(*_):\n"
        f"    pathlib.Path({str(ended)!r}).write_text('by SIGTERM')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        # Stops reading when everybody has gone who holds its other end.
        f"alive = open({str(started)!r}, 'w')\n"
        "subprocess.Popen(['sleep', '100000'], stdout=alive)\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).write_text('begun')\n"
        "signal.pause()\n"
    )
    os.mkfifo(started)
    reading = os.open(started, os.O_RDONLY | os.O_NONBLOCK)
    with watching(tmp_path / "bob", "--exec", shlex.join([sys.executable, str(script)])) as watch:
        until(tmp_path / "begun", "begun")
        watch.send_signal(number)
        assert watch.wait(HANG_SECONDS) == (130 if number == signal.SIGINT else -number)
        assert ended.read_text() == "by SIGTERM"
        os.set_blocking(reading, True)
        assert os.read(reading, 1) == b""
        os.close(reading)
    # What it had was not taken: it is handed out again.
    with watching(tmp_path / "bob") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().endswith(" alice: hello\n")


def test_a_message_that_a_command_refuses_holds_up_nothing(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    for text in ("good", "poison", "behind it"):
        assert messageu(tmp_path, server.port, "alice", ["send", "bob", text]).returncode == 0
    taken, script = tmp_path / "taken", tmp_path / "take.py"
    taken.touch()
    script.write_text(
        "import json, pathlib, sys\n"
        "message = sys.stdin.read()\n"
        f"if json.loads(message).get('text') == 'poison' and not pathlib.Path({str(tmp_path / 'cure')!r}).exists():\n"
        "    sys.exit(3)\n"
        f"with open({str(taken)!r}, 'a') as file: file.write(message)\n"
    )
    command = shlex.join([sys.executable, str(script)])
    # Quiet: that it was set aside is a failure, and is said all the same.
    with watching(tmp_path / "bob", "--json", "--quiet", "--tries", "2", "--exec", command) as watch:
        until(taken, "behind it")
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(HANG_SECONDS) == -signal.SIGTERM
        assert watch.stderr is not None
        (said,) = [json.loads(line) for line in watch.stderr.read().splitlines()]
    check_json(said)
    assert (said["type"], said["name"], said["tries"]) == ("set-aside", "alice", 2)
    assert "Message 2 from alice was not taken: the command ended with code 3, 2 times" in said["text"]
    assert "poison" not in taken.read_text()

    def run(*words: str) -> tuple[int, list[dict[str, object]], str]:
        done = messageu(tmp_path, server.port, "bob", ["watch", "--json", *words])
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    # It is listed, as often as one likes; it can be tried again, also without a server, until it is
    # taken.
    server.end()
    for _ in range(2):
        code, (message,), _ = run("--set-aside")
        assert (code, message["number"], message["text"]) == (0, said["number"], "poison")
    code, messages, stderr = run("--retry", "--exec", command)
    assert (code, messages) == (1, [])
    assert "it stays set aside" in stderr
    (tmp_path / "cure").touch()
    assert run("--retry", "--exec", command) == (0, [], "")
    assert taken.read_text().count("poison") == 1
    code, messages, stderr = run("--set-aside")
    assert (code, messages) == (0, [])
    assert "No message is set aside." in stderr


def test_a_command_does_not_get_the_passphrase(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    secret, taken = tmp_path / "secret", tmp_path / "taken"
    secret.write_text("correct horse\n")
    asked = ["passphrase", "set", "--new-passphrase-file", str(secret)]
    assert messageu(tmp_path, server.port, "bob", asked).returncode == 0
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "hello"]).returncode == 0
    script = tmp_path / "take.py"
    script.write_text(
        "import os, sys\n"
        f"with open({str(taken)!r}, 'a') as file:\n"
        "    file.write(sys.stdin.read() + repr(sorted(os.environ.items())))\n"
    )
    with watching(
        tmp_path / "bob", "--exec", shlex.join([sys.executable, str(script)]), MESSAGEU_PASSPHRASE="correct horse"
    ):
        until(taken, "hello")
    assert "MESSAGEU_CONFIG" in taken.read_text()
    assert "correct horse" not in taken.read_text()


def test_a_large_text_is_there_for_everybody_who_reads(server: Server, tmp_path: Path) -> None:
    """Longer than what the store keeps in its rows: `recv`, `watch` and `history` have it
    all the same.
    """
    for name in ("alice", "bob"):
        assert messageu(tmp_path, server.port, name, ["register", name]).returncode == 0
    text = "B" * 100_000
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "-"], typed=text).returncode == 0
    with watching(tmp_path / "bob", "--json") as watch:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["text"] == text
    for _ in range(2):
        history = messageu(tmp_path, server.port, "bob", ["history", "--json"]).stdout.splitlines()
        assert [found["text"] for found in map(json.loads, history) if found["kind"] == "text"] == [text]
    assert messageu(tmp_path, server.port, "alice", ["send", "bob", "-"], typed=text[1:]).returncode == 0
    received = messageu(tmp_path, server.port, "bob", ["recv", "--json"]).stdout
    assert json.loads(received)["text"] == text[1:]
    with watching(tmp_path / "bob", "--json") as watch:
        assert watch.stdout is not None
        # The one before died, perhaps before it noted that it had handed out the first text.
        found = json.loads(watch.stdout.readline())["text"]
        assert (json.loads(watch.stdout.readline())["text"] if found == text else found) == text[1:]
