"""Two people move from one server to another, with real programs: from plain TCP to a server with
TLS that wants an invitation.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.journeys.commands import done, run
from tests.journeys.operators import UNSET, said_by_admin
from tests.stories.tmux import Tmux
from torture.programs import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Server]:
    arguments = ("--tls-listen", f"127.0.0.1:{free_port()}")
    invited = ("--registration", "invited")
    with Server(tmp_path / "new", gateway_arguments=arguments, worker_arguments=invited).start() as running:
        yield running


def test_two_people_move(server: Server, new: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old_place = f"127.0.0.1:{server.port}"
    for name in ("alice", "bob", "carol"):
        done(tmp_path, name, "--server", old_place, "register", name)
    done(tmp_path, "alice", "send", "bob", "before")
    number = json.loads(run(tmp_path, "alice", "verify", "bob", "--json").stdout)["safety_number"]
    done(tmp_path, "alice", "verify", "bob", "--safety-number", number)
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(1_000_000))
    done(tmp_path, "bob", "send", "alice", "waits at the old server")
    done(tmp_path, "bob", "send", "alice", "--file", str(large))
    done(tmp_path, "carol", "send", "bob", "stay")
    before = json.loads(run(tmp_path, "alice", "whoami", "--json").stdout)

    link = said_by_admin(new, capsys, "invite")
    address = said_by_admin(new, capsys, "address")
    assert run(tmp_path, "alice", "account", "move", link).returncode == 2
    assert run(tmp_path, "alice", "account", "move", address, "--yes").returncode == 11
    moved = run(tmp_path, "alice", "account", "move", link, "--yes", "--json")
    assert moved.returncode == 0, moved.stderr
    after = json.loads(moved.stdout)
    assert (after["name"], after["fingerprint"], after["transport"]) == ("alice", before["fingerprint"], "tls")
    assert after["id"] != before["id"]
    shown = json.loads(run(tmp_path, "alice", "whoami", "--json").stdout)
    assert shown.pop("link").startswith("messageu-user:alice#")
    assert shown == after
    # The invitation is used up, and the same command is done already.
    assert "is at" in done(tmp_path, "alice", "account", "move", link, "--yes")
    assert "#" not in (tmp_path / "alice" / "server.info").read_text()

    assert "bob [verified]: waits at the old server" in done(tmp_path, "alice", "recv")
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [large.read_bytes()]
    assert "to bob [verified, suite 1]: before" in done(tmp_path, "alice", "history")
    assert run(tmp_path, "alice", "send", "bob", "not yet").returncode == 7

    # Bob comes after her, leaves nothing behind, and is known.
    told = done(tmp_path, "bob", "account", "move", said_by_admin(new, capsys, "invite"), "--yes", "--delete-old")
    assert "alice has another id at the server now, and the same key as before." in told
    assert f"The account bob at {old_place} is deleted; its name stays taken." in told
    assert "carol: stay" in done(tmp_path, "bob", "recv")
    assert run(tmp_path, "carol", "send", "bob", "where are you?").returncode == 7
    assert "Sent to bob [verified]." in done(tmp_path, "alice", "send", "bob", "here we are")
    assert "alice: here we are" in done(tmp_path, "bob", "recv")
    done(tmp_path, "bob", "send", "alice", "so we are")
    assert "bob [verified]: so we are" in done(tmp_path, "alice", "recv")
    # The old server is asked for nothing any more, and nothing of the new one goes there.
    server.gateway.stop()
    done(tmp_path, "alice", "doctor")
    assert run(tmp_path, "alice", "--server", old_place, "users").returncode == 10
    assert said_by_admin(server, capsys, "free") == "'bob'"


def test_it_asks_once_at_a_terminal(
    server: Server, new: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done(tmp_path, "alice", "--server", f"127.0.0.1:{server.port}", "register", "alice")
    link = said_by_admin(new, capsys, "invite")
    words = ("account", "move", link)
    with Tmux(tmp_path, columns=120, rows=40) as window:
        window.messageu(tmp_path / "alice", 1, *words, before=UNSET).until("Move the account alice from")
        window.types("n").until("Nothing was moved").until("ended with 1")
    assert json.loads(run(tmp_path, "alice", "whoami", "--json").stdout)["transport"] == "plain"
    with Tmux(tmp_path, columns=120, rows=40) as window:
        window.messageu(tmp_path / "alice", 1, *words, before=UNSET).until("Move the account alice from")
        window.types("y").until("from now on, as alice").until("ended with 0")
    assert json.loads(run(tmp_path, "alice", "whoami", "--json").stdout)["transport"] == "tls"


def test_an_old_server_that_is_gone(
    server: Server, new: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("alice", "bob"):
        done(tmp_path, name, "--server", f"127.0.0.1:{server.port}", "register", name)
    done(tmp_path, "alice", "send", "bob", "before")
    server.gateway.stop()
    assert run(tmp_path, "alice", "send", "bob", "waits").returncode == 3
    link = said_by_admin(new, capsys, "invite")
    unsent = run(tmp_path, "alice", "account", "move", link, "--yes")
    assert (unsent.returncode, "Not sent yet: 1 message." in unsent.stderr) == (2, True)
    assert run(tmp_path, "bob", "account", "move", link, "--yes").returncode == 3
    told = done(tmp_path, "alice", "account", "move", link, "--yes", "--leave-waiting")
    assert "is left there" in told
    assert "waits" in done(tmp_path, "alice", "history")
    assert json.loads(run(tmp_path, "alice", "whoami", "--json").stdout)["transport"] == "tls"
