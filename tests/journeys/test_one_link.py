"""A server with TLS and its users: one link is all that they get, and a change of the certificate
is followed by whoever connects meanwhile.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from common.server_address import parse_address, pin_text
from tests.journeys.commands import run
from tests.journeys.operators import UNSET, said_by_admin
from tests.stories.tmux import Tmux
from torture.programs import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    arguments = ("--tls-listen", f"127.0.0.1:{free_port()}")
    with Server(tmp_path / "server", gateway_arguments=arguments).start() as running:
        yield running


def test_a_change_of_the_certificate_with_one_who_connects_and_one_who_is_away(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = said_by_admin(server, capsys, "address")
    first = parse_address(link)
    for name in ("alice", "bob"):
        assert run(tmp_path, name, "--server", link, "register", name).returncode == 0
    assert run(tmp_path, "alice", "address").stdout.strip() == link
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3_000_000))
    assert run(tmp_path, "alice", "send", "bob", "hello").returncode == 0
    assert run(tmp_path, "alice", "send", "bob", "--file", str(large)).returncode == 0
    came = run(tmp_path, "bob", "--save-dir", str(tmp_path / "in"), "recv")
    assert came.returncode == 0
    assert "hello" in came.stdout
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [large.read_bytes()]

    said_by_admin(server, capsys, "tls", "next")
    both = parse_address(said_by_admin(server, capsys, "address"))
    assert both.pins[0] == first.pins[0]
    # Alice connects while both are named, Bob is away.
    assert run(tmp_path, "alice", "users").returncode == 0
    assert parse_address(run(tmp_path, "alice", "address").stdout.strip()).pins == both.pins
    server.gateway.stop()
    said_by_admin(server, capsys, "tls", "switch")
    server.gateway.start()
    server.await_ready()
    assert run(tmp_path, "alice", "send", "bob", "still here").returncode == 0
    assert parse_address(run(tmp_path, "alice", "address").stdout.strip()).pins[0] == both.pins[1]
    away = run(tmp_path, "bob", "recv")
    assert (away.returncode, away.stdout) == (10, "")
    assert pin_text(first.pins[0]) in away.stderr
    assert pin_text(both.pins[1]) in away.stderr
    new = said_by_admin(server, capsys, "address")
    came = run(tmp_path, "bob", "--server", new, "recv")
    assert came.returncode == 0
    assert "still here" in came.stdout
    # Once was enough: the home knows, though its file still has the old link.
    assert run(tmp_path, "bob", "send", "alice", "so am I").returncode == 0
    assert "so am I" in run(tmp_path, "alice", "recv").stdout


def test_the_plain_port_of_the_same_server_is_refused(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = said_by_admin(server, capsys, "address")
    assert run(tmp_path, "alice", "--server", link, "register", "alice").returncode == 0
    plain = run(tmp_path, "alice", "--server", f"127.0.0.1:{server.port}", "users")
    assert (plain.returncode, plain.stdout) == (10, "")
    swapped = parse_address(link)._replace(port=server.port)
    wrong_port = run(tmp_path, "alice", "--server", str(swapped), "users")
    assert wrong_port.returncode == 3
    assert "does not speak TLS as its link says" in wrong_port.stderr


@pytest.mark.skipif(shutil.which("tmux") is None, reason="takes tmux")
def test_two_people_join_by_the_link_and_chat(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = said_by_admin(server, capsys, "address")
    assert run(tmp_path, "bob", "--server", link, "register", "bob").returncode == 0
    with Tmux(tmp_path, columns=120) as window:
        window.messageu(tmp_path / "alice", 1, "--server", link, "register", "alice").until("ended with 0")
        window.messageu(tmp_path / "alice", 1, "chat", "bob", before=UNSET).until("connected")
        window.types("hello over TLS").until("you [stored]: hello over TLS")
        assert "hello over TLS" in run(tmp_path, "bob", "recv").stdout
        assert run(tmp_path, "bob", "send", "alice", "it came").returncode == 0
        window.until("bob: it came").presses("C-d").until("ended with 0")
