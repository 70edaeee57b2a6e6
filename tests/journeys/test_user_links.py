"""A link of a user, from the command that shows it to the one that takes it, over real programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.journeys.commands import done, run
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server").start() as running:
        yield running


def link_of(folder: Path, name: str) -> str:
    [link] = [word for word in done(folder, name, "whoami").split() if word.startswith("messageu-user:")]
    return link


def test_who_has_a_link_is_sure_from_the_first_message_on(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        done(tmp_path, name, "--server", f"127.0.0.1:{server.port}", "register", name)
    link = link_of(tmp_path, "bob")
    assert "[verified]" in done(tmp_path, "alice", "verify", link)
    assert "Sent to bob [verified]" in done(tmp_path, "alice", "send", "bob", "hello")
    done(tmp_path, "bob", "send", "alice", "hello back")
    message = json.loads(run(tmp_path, "alice", "recv", "--json").stdout)
    assert (message["text"], message["suite"], message["sender_verified"]) == ("hello back", 1, True)


def test_a_link_with_another_fingerprint_believes_no_keys_of_the_server(server: Server, tmp_path: Path) -> None:
    for name in ("alice", "bob", "mallory"):
        done(tmp_path, name, "--server", f"127.0.0.1:{server.port}", "register", name)
    theirs = link_of(tmp_path, "mallory").partition("#")[2]
    link = f"{link_of(tmp_path, 'bob').partition('#')[0]}#{theirs}"
    ended = run(tmp_path, "alice", "verify", link)
    assert "[verified]" not in ended.stdout
    sent = run(tmp_path, "alice", "send", "bob", "hello")
    assert sent.returncode != 0, sent.stdout + sent.stderr
    assert "hello" not in done(tmp_path, "bob", "recv")


def test_what_is_no_link_is_refused(server: Server, tmp_path: Path) -> None:
    done(tmp_path, "alice", "--server", f"127.0.0.1:{server.port}", "register", "alice")
    for link in ("messageu-user:bob", "messageu-user:bob#AAAA", f"messageu-user:#{'A' * 43}"):
        refused = run(tmp_path, "alice", "verify", link)
        assert refused.returncode in {2, 4}, refused
        assert "that is no link of a user" in " ".join(refused.stderr.split())
