"""Accounts from their beginning to their end, over real programs: an invitation, what the server
says of itself, an account that is deleted, and one whose home is lost.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.journeys.commands import done, run
from tests.journeys.operators import UNSET, said_by_admin
from tests.stories.tmux import Tmux
from torture.patience import HANG_SECONDS
from torture.programs import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    arguments = ("--tls-listen", f"127.0.0.1:{free_port()}")
    about = ("--registration", "invited", "--about", "Zoë's server. Ask zoe@example.org")
    with Server(tmp_path / "server", gateway_arguments=arguments, worker_arguments=about).start() as running:
        yield running


def test_an_invitation_is_pasted_and_used(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = said_by_admin(server, capsys, "invite")
    plain = said_by_admin(server, capsys, "address")
    told = done(tmp_path, "alice", "--server", link, "register", "alice")
    assert "one registers with an invitation" in told
    assert "Its operator says: Zoë's server. Ask zoe@example.org" in told
    assert "#" not in (tmp_path / "alice" / "server.info").read_text()
    # It was good for one. Without one, and with one that is none, it is said what is wrong.
    for address in (link, plain, f"{plain}#{'A' * 22}"):
        refused = run(tmp_path, "bob", "--server", address, "register", "bob")
        assert refused.returncode == 11
        assert "registers whoever has an invitation" in refused.stderr
        assert "operator" in refused.stderr
    more = said_by_admin(server, capsys, "invite", "--uses", "2")
    done(tmp_path, "bob", "--server", more, "register", "bob")
    done(tmp_path, "alice", "send", "bob", "hello")
    assert "hello" in done(tmp_path, "bob", "recv")
    checks = [json.loads(line) for line in run(tmp_path, "bob", "doctor", "--json").stdout.splitlines()]
    [found] = [check["text"] for check in checks if check.get("name") == "server"]
    assert "up to 1 GiB a message" in found
    assert "Zoë's server" in found
    # The published protocol has 9000 alone.
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANG_SECONDS) as published:
        name = b"dora".ljust(255, b"\0")
        published.sendall(bytes(16) + struct.pack("<BHI", 2, 600, 415) + name + bytes(160))
        assert published.recv(100) == struct.pack("<BHI", 2, 9000, 0)
    revoked = said_by_admin(server, capsys, "invitations").splitlines()[-1].split()[0]
    said_by_admin(server, capsys, "invitation", "revoke", revoked)
    assert run(tmp_path, "carol", "--server", more, "register", "carol").returncode == 11
    server.worker.stop()
    server.worker.arguments = ["--registration", "closed"]
    server.start()
    closed = run(tmp_path, "carol", "--server", said_by_admin(server, capsys, "invite"), "register", "carol")
    assert closed.returncode == 11
    assert "The server takes no registrations at present." in closed.stderr
    done(tmp_path, "alice", "send", "bob", "those who are registered are not concerned")


def test_an_account_is_deleted(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = said_by_admin(server, capsys, "invite", "--uses", "9")
    for name in ("alice", "bob"):
        done(tmp_path, name, "--server", link, "register", name)
    done(tmp_path, "alice", "send", "bob", "before I go")
    done(tmp_path, "bob", "send", "alice", "stay")
    alice = bytes.fromhex(json.loads(done(tmp_path, "alice", "whoami", "--json"))["id"])
    asked = run(tmp_path, "alice", "account", "delete")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert "is deleted" in done(tmp_path, "alice", "account", "delete", "--yes")
    # Once more is no harm.
    assert "is deleted" in done(tmp_path, "alice", "account", "delete", "--yes")
    assert run(tmp_path, "alice", "recv").returncode == 6
    assert "stay" not in done(tmp_path, "alice", "history")
    assert "before I go" in done(tmp_path, "alice", "history")
    assert "before I go" in done(tmp_path, "bob", "recv")
    gone = run(tmp_path, "bob", "send", "alice", "where are you?")
    assert gone.returncode == 7
    assert "alice" not in done(tmp_path, "bob", "users")
    shutil.rmtree(tmp_path / "alice")
    assert run(tmp_path, "alice", "--server", link, "register", "alice").returncode == 6
    assert said_by_admin(server, capsys, "free") == "'alice'"
    server.gateway.stop()
    server.worker.stop()
    kept = [path for path in server.data.rglob("*") if path.is_file()]
    assert [path.name for path in kept if alice in path.read_bytes()] == []
    server.start()
    said_by_admin(server, capsys, "free", "alice")
    done(tmp_path, "alice", "--server", link, "register", "alice")


def test_it_asks_twice_at_a_terminal(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = said_by_admin(server, capsys, "invite")
    done(tmp_path, "alice", "--server", link, "register", "alice")
    with Tmux(tmp_path, columns=120, rows=40) as window:
        window.messageu(tmp_path / "alice", 1, "account", "delete", before=UNSET).until("Delete the account alice")
        window.types("y").until("There is no way back").types("n").until("Nothing was deleted").until("ended with 1")
        done(tmp_path, "alice", "users")
    with Tmux(tmp_path, columns=120, rows=40) as window:
        window.messageu(tmp_path / "alice", 1, "account", "delete", before=UNSET).until("Delete the account alice")
        window.types("y").until("There is no way back").types("yes").until("is deleted").until("ended with 0")
    assert run(tmp_path, "alice", "users").returncode == 6


def test_a_lost_home_comes_back_under_another_key(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = said_by_admin(server, capsys, "invite", "--uses", "2")
    for name in ("alice", "bob"):
        done(tmp_path, name, "--server", link, "register", name)
    before = json.loads(done(tmp_path, "alice", "whoami", "--json"))
    done(tmp_path, "bob", "send", "alice", "hello")
    number = json.loads(done(tmp_path, "alice", "verify", "bob", "--json"))["safety_number"]
    done(tmp_path, "bob", "verify", "alice", "--safety-number", number)
    done(tmp_path, "bob", "send", "alice", "too late")
    assert "[verified]" in done(tmp_path, "bob", "users")
    shutil.rmtree(tmp_path / "alice")

    address = said_by_admin(server, capsys, "address")
    key = ""
    for _ in range(2):
        asked = run(tmp_path, "alice", "--server", address, "account", "recover", "alice")
        assert asked.returncode == 6
        assert "Give it to the operator" in asked.stderr
        key = asked.stdout.strip()
    (tmp_path / "alice.key").write_text(key)
    said_by_admin(server, capsys, "re-key", "alice", str(tmp_path / "alice.key"))
    assert "is your account again" in done(tmp_path, "alice", "account", "recover", "alice")
    after = json.loads(done(tmp_path, "alice", "whoami", "--json"))
    assert after["id"] == before["id"]
    assert after["fingerprint"] != before["fingerprint"]

    # Bob is told as soon as he meets the new key, and what he had verified is void.
    changed = run(tmp_path, "bob", "key", "alice")
    assert changed.returncode == 4
    assert "has changed" in changed.stderr
    assert run(tmp_path, "bob", "send", "alice", "is it you?").returncode == 4
    assert "[verified]" not in done(tmp_path, "bob", "users")
    done(tmp_path, "bob", "verify", "alice", "--accept-new")
    assert "[verified]" not in done(tmp_path, "bob", "users")
    done(tmp_path, "bob", "send", "alice", "it is you")
    came = run(tmp_path, "alice", "recv")
    assert "it is you" in came.stdout
    # What was sealed to the keys that are lost stays unread.
    assert came.returncode == 9
    assert "too late" not in came.stdout
