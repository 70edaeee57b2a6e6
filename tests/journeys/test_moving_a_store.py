"""A server's store moves to PostgreSQL and back: homes that fetch before and after it, and one that
is away meanwhile, with real programs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from common.client_protocol.requests import BlockRequest, ClaimKeyRequest
from common.client_protocol.responses import BlockSetResponse, KeyClaimedResponse
from common.shards import shard_of
from storage_worker import admin
from torture.caller import Account, Caller, Refused, new_account, token_of
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Server
from torture.sharded_server import ShardedServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.postgres import PostgresServer

pytestmark = pytest.mark.slow


def done(folder: Path, name: str, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "client", "--home", str(folder / name), "--save-dir", str(folder / "in"), *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MESSAGEU_CONFIG": str(folder / "none.toml")},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return " ".join((ended.stdout + ended.stderr).split())


def started(folder: Path, data: Path, store: Sequence[str], port: int | None) -> Server:
    server = Server(folder / "server", data=data, store=store)
    if port is not None:
        # It is the same server for its clients.
        server.port = port
        (server.folder / "myport.info").write_text(f"{port}\n")
    return server.start()


def drain(server: Server) -> None:
    assert admin.main(["--data-folder", str(server.data), "drain"]) == 0
    for program in server.programs:
        assert program.process.wait(HANG_SECONDS) == 0


def test_to_postgresql_and_back(postgres: PostgresServer, tmp_path: Path) -> None:
    url, data, back = postgres.empty_database(), tmp_path / "data", tmp_path / "back"
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3_000_000))
    embedded = started(tmp_path, data, (), None)
    place = f"127.0.0.1:{embedded.port}"
    for name in ("alice", "bob", "away"):
        done(tmp_path, name, "--server", place, "register", name)
    done(tmp_path, "bob", "send", "alice", "one")
    assert "bob: one" in done(tmp_path, "alice", "recv")
    done(tmp_path, "bob", "send", "alice", "two")
    done(tmp_path, "bob", "send", "away", "--file", str(large))
    done(tmp_path, "alice", "block", "away")
    drain(embedded)

    assert admin.main(["move", str(data), url]) == 0
    moved = started(tmp_path, data, ("--store", url), embedded.port)
    assert "bob: two" in done(tmp_path, "alice", "recv")
    assert "two" not in done(tmp_path, "alice", "recv")
    done(tmp_path, "bob", "send", "alice", "three")
    done(tmp_path, "bob", "send", "away", "four")
    done(tmp_path, "away", "send", "alice", "from somebody blocked")
    assert "bob: three" in done(tmp_path, "alice", "recv")
    done(tmp_path, "bob", "send", "alice", "five")
    drain(moved)

    assert admin.main(["move", url, str(back)]) == 0
    again = started(tmp_path, back, (), embedded.port)
    received = done(tmp_path, "alice", "recv")
    assert "bob: five" in received
    assert "from somebody blocked" not in received
    told = done(tmp_path, "away", "recv")
    assert "bob: four" in told
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [large.read_bytes()]
    assert "away" in done(tmp_path, "alice", "blocked")
    for name in ("alice", "bob", "away"):
        assert "lost" not in done(tmp_path, name, "doctor")
    again.end()


def test_into_several_parts(postgres: PostgresServer, tmp_path: Path) -> None:
    url, data, shards = postgres.empty_database(), tmp_path / "data", 4
    embedded = started(tmp_path, data, (), None)
    users: list[Account] = []
    while len({shard_of(user.client_id, shards) for user in users}) < shards:
        users.append(new_account(embedded.port, f"user {len(users)}"))
    muted, large = users[0], os.urandom(2_500_000)

    def write(port: int, label: str) -> None:
        """Everybody to everybody: with the same token it is the same message."""
        for sender in users:
            with Caller(port) as caller:
                caller.prove(sender)
                for recipient in users:
                    name = f"{sender.name} {recipient.name} {label}"
                    caller.send(sender.client_id, recipient.client_id, name.encode(), token=token_of(name))

    def read(port: int, user: Account) -> list[bytes]:
        found: list[bytes] = []
        ack = 0
        with Caller(port) as caller:
            caller.prove(user)
            while mails := caller.fetch(user.client_id, ack):
                ack = mails[-1].number
                found += [mail.content for mail in mails]
        return found

    with Caller(embedded.port) as caller:
        caller.prove(muted)
        caller.send(muted.client_id, users[-1].client_id, large, token=token_of("large"))
    write(embedded.port, "before")
    for number, user in enumerate(users):
        with Caller(embedded.port) as caller:
            caller.prove(user)
            caller.publish(user.client_id, bytes([number]) * 1389, bytes([number]) * 96)
            if user is not muted:
                answer = caller.ask(BlockRequest(user.client_id, True, muted.client_id))
                assert isinstance(answer, BlockSetResponse)
    drain(embedded)

    assert admin.main(["move", str(data), url, "--shards", str(shards)]) == 0
    server = ShardedServer(tmp_path / "sharded", url, shards)
    try:
        server.start()
        with pytest.raises(Refused):
            new_account(server.port, users[-1].name)
        later = new_account(server.port, "somebody new")
        # Of what is sent again nothing is stored twice; who is blocked stays so.
        write(server.port, "before")
        write(server.port, "after")
        for recipient in users:
            expected = {f"{sender.name} {recipient.name} before".encode() for sender in users}
            expected |= {
                f"{sender.name} {recipient.name} after".encode()
                for sender in users
                if sender is not muted or recipient is muted
            }
            found = read(server.port, recipient)
            assert sorted(one for one in found if len(one) < 100) == sorted(expected)
            assert [one for one in found if len(one) > 100] == ([large] if recipient is users[-1] else [])
        with Caller(server.port) as caller:
            caller.prove(later)
            assert {user.name for user in users} == {user.name for user in caller.users(later.client_id)}
            for number, user in enumerate(users):
                claimed = caller.ask(ClaimKeyRequest(later.client_id, user.client_id))
                assert claimed == KeyClaimedResponse(bytes([number]) * 1389, bytes([number]) * 96)
    finally:
        server.end()


def test_into_several_parts_and_back_into_one_folder(postgres: PostgresServer, tmp_path: Path) -> None:
    url, data, back, shards = postgres.empty_database(), tmp_path / "data", tmp_path / "back", 4
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(2_500_000))
    names = [f"home-{number}" for number in range(5)]
    reader, writer, away, *others = names
    embedded = started(tmp_path, data, (), None)
    place = f"127.0.0.1:{embedded.port}"
    for name in names:
        done(tmp_path, name, "--server", place, "register", name)
    # Strangers, so that every part has somebody.
    users: list[Account] = []
    while len({shard_of(user.client_id, shards) for user in users}) < shards:
        users.append(new_account(embedded.port, f"user {len(users)}"))
    done(tmp_path, writer, "send", reader, "one")
    assert f"{writer}: one" in done(tmp_path, reader, "recv")
    # The home `away` hears nothing until all is over, but that it has fetched this.
    done(tmp_path, writer, "send", away, "fetched before")
    assert "fetched before" in done(tmp_path, away, "recv")
    done(tmp_path, writer, "send", away, "before the parts")
    drain(embedded)

    assert admin.main(["move", str(data), url, "--shards", str(shards)]) == 0
    server = ShardedServer(tmp_path / "sharded", url, shards)
    # It is the same server for its clients.
    server.port = server.ports[0] = embedded.port
    (server.folder / "myport.info").write_text(f"{embedded.port}\n")
    sent: dict[tuple[bytes, bytes], int] = {}

    def write_to_all(port: int) -> dict[tuple[bytes, bytes], int]:
        """Everybody to everybody, under the same tokens each time: the ids that are answered."""
        answered: dict[tuple[bytes, bytes], int] = {}
        for sender in users:
            with Caller(port) as caller:
                caller.prove(sender)
                for recipient in users:
                    label = f"{sender.name} {recipient.name}"
                    stored = caller.send(sender.client_id, recipient.client_id, label.encode(), token=token_of(label))
                    answered[sender.client_id, recipient.client_id] = stored
        return answered

    try:
        server.start()
        done(tmp_path, writer, "send", away, "while in parts")
        done(tmp_path, writer, "send", away, "--file", str(large))
        for name in others:
            done(tmp_path, name, "send", away, f"from {name}")
            done(tmp_path, name, "send", reader, f"from {name}")
        # One was here meanwhile, and was away when it went back.
        assert f"from {others[0]}" in done(tmp_path, reader, "recv")
        done(tmp_path, writer, "send", reader, "waits over the way back")
        sent = write_to_all(server.port)
        assert admin.main(["--data-folder", str(server.data_folders()[0]), "drain"]) == 0
        for program in server.gateways:
            assert program.process.wait(HANG_SECONDS) == 0
        for folder in server.data_folders()[1:]:
            assert admin.main(["--data-folder", str(folder), "drain"]) == 0
        for program in server.workers:
            assert program.process.wait(HANG_SECONDS) == 0
    finally:
        server.end()

    assert admin.main(["move", url, str(back)]) == 0
    again = started(tmp_path, back, (), embedded.port)
    try:
        assert write_to_all(again.port) == sent, "none is stored twice"
        for recipient in users:
            with Caller(again.port) as caller:
                caller.prove(recipient)
                found = [mail.content.decode() for mail in caller.fetch(recipient.client_id, 0)]
                assert sorted(found) == sorted(f"{sender.name} {recipient.name}" for sender in users)
        told = done(tmp_path, away, "recv")
        order = ["before the parts", "while in parts", *[f"from {name}" for name in others]]
        places = [told.index(one) for one in order]
        assert places == sorted(places)
        assert [told.count(one) for one in order] == [1] * len(order)
        assert "fetched before" not in told
        assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [large.read_bytes()]
        told = done(tmp_path, reader, "recv")
        assert told.count("waits over the way back") == 1
        assert "from " not in told.replace("waits over", "")
        for name in names:
            done(tmp_path, name, "send", reader, f"after, {name}")
            assert "lost" not in done(tmp_path, name, "doctor")
        told = done(tmp_path, reader, "recv")
        assert [told.count(f"after, {name}") for name in names] == [1] * len(names)
    finally:
        again.end()
