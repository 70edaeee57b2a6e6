"""Large files whose connection breaks, or whose client is killed, in the midst of them: each is
sealed once, goes on with the same bytes under the same token, and arrives once.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from client.messenger import Messenger, SavedFile, Text
from client.store.home_store import Store
from common.server_address import ServerAddress
from tests.client.people import SIGKILLED, People
from torture.patience import HANG_SECONDS
from torture.programs import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from client.store.outbox import OutboxRow
    from tests.client.conftest import Told

SIZE = 3_000_000
_READ = 1 << 16


class Limit(NamedTuple):
    """How many bytes of a connection pass in each direction; None: all. Then it ends, or, if it
    only `stops`, nothing more passes.
    """

    up: int | None = None
    down: int | None = None
    stops: bool = False


class Valve:
    """The way to a server, which lets through as much as the next limit says, of one connection
    each; without any it lets all through.
    """

    def __init__(self, port: int) -> None:
        self.limits: deque[Limit] = deque()
        self.passed = [0, 0]
        """Bytes of the last connection, to the server and from it."""
        self.stopped = threading.Event()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = ServerAddress("127.0.0.1", self._listener.getsockname()[1])
        self._end, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join()
        self._listener.close()
        self._ended.close()

    def _run(self) -> None:
        """One connection after the other: those of a client that is gone end by themselves."""
        while self._ended not in select.select([self._listener, self._ended], [], [])[0]:
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._port)) as server:
                self._serve(client, server, self.limits.popleft() if self.limits else Limit())

    def _serve(self, client: socket.socket, server: socket.socket, limit: Limit) -> None:
        self.passed = [0, 0]
        left = [limit.up, limit.down]
        ways = {client: (0, server), server: (1, client)}
        while True:
            ready, _, _ = select.select([*ways, self._ended], [], [])
            if self._ended in ready:
                return
            for one in ready:
                way, other = ways[one]
                room = left[way]
                try:
                    data = one.recv(_READ if room is None else min(_READ, room))
                    if not data:
                        return
                    other.sendall(data)
                except ConnectionError:
                    return
                self.passed[way] += len(data)
                if room is not None:
                    left[way] = room - len(data)
                    if left[way] == 0:
                        if limit.stops:
                            self.stopped.set()
                            # Until whoever is killed now is gone.
                            client.settimeout(HANG_SECONDS)
                            _read_to_the_end(client)
                        return


def _read_to_the_end(connection: socket.socket) -> None:
    try:
        while connection.recv(_READ):
            pass
    except ConnectionError:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        running.start()
        yield running


@pytest.fixture
def valve(server: Server) -> Iterator[Valve]:
    with Valve(server.port) as way:
        yield way


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    made = os.urandom(SIZE)
    (tmp_path / "film.bin").write_bytes(made)
    return made


@pytest.fixture
def people(make: Callable[..., Messenger], valve: Valve) -> tuple[Messenger, Messenger]:
    """Alice and Bob, behind the valve, with a session that goes both ways."""
    alice, bob = (make(name, server=valve.address) for name in ("alice", "bob"))
    for one, name in ((alice, "alice"), (bob, "bob")):
        one.register(name)
        one.home.link.close()
    for sender, recipient, name in ((alice, bob, "bob"), (bob, alice, "alice")):
        sender.send(name, "hello")
        sender.home.link.close()
        assert [message.content for message in recipient.receive()] == [Text("hello")]
        recipient.home.link.close()
    return alice, bob


def numbers_used(messenger: Messenger, other: Messenger) -> int:
    peer = messenger.home.suite_keys.peer(other.identity().client_id)
    assert peer is not None
    return peer.sent


def received_files(messenger: Messenger) -> list[bytes]:
    found = []
    for message in messenger.receive():
        assert isinstance(message.content, SavedFile)
        found.append(message.content.path.read_bytes())
    return found


def test_a_file_that_is_sent_goes_on_with_the_same_bytes(
    people: tuple[Messenger, Messenger], valve: Valve, content: bytes, tmp_path: Path, told: Told
) -> None:
    alice, bob = people
    path = tmp_path / "film.bin"
    alice.send("bob", path)
    up, down = valve.passed
    alice.home.link.close()
    assert received_files(bob) == [content]
    bob.home.link.close()
    used = numbers_used(alice, bob)
    spool = tmp_path / "alice" / "store.spool"
    # In the envelope, twice in the stream, before the last byte, before the answer, in it.
    places = [
        Limit(up=300),
        Limit(up=up // 3),
        Limit(up=up // 2),
        Limit(up=up - 1),
        Limit(down=down - 27),
        Limit(down=down - 1),
    ]
    for first, second in zip(places, [*places[1:], places[0]], strict=True):
        valve.limits.extend([first, second])
        told.clear()
        alice.send("bob", path)
        assert not valve.limits
        assert "Starting over" in told[0]
        alice.home.link.close()
        used += 1
        assert numbers_used(alice, bob) == used
        assert not list(spool.iterdir())
        assert received_files(bob) == [content]
        bob.home.link.close()
    assert not alice.failed()


def test_a_file_that_is_received_comes_once_wherever_the_connection_breaks(
    people: tuple[Messenger, Messenger], valve: Valve, content: bytes, tmp_path: Path
) -> None:
    alice, bob = people
    path = tmp_path / "film.bin"
    alice.send("bob", path)
    alice.home.link.close()
    # The answer with the file, and the one that acknowledges it, are not on the same connection.
    assert received_files(bob) == [content]
    _, down = valve.passed
    bob.home.link.close()
    for place in (300, down // 3, down // 2, down - 8):
        alice.send("bob", path)
        alice.home.link.close()
        valve.limits.extend(
            [Limit(down=place), Limit(down=down // 2 + place // 2 if place < down // 2 else down - 100)]
        )
        assert received_files(bob) == [content], place
        assert not valve.limits
        bob.home.link.close()
        assert received_files(bob) == []
        bob.home.link.close()
    assert not list((tmp_path / "bob" / "store.spool").iterdir())


# --- killed
# ------------------------------------------------------------------------------------------------


def killed(people: People, valve: Valve, limit: Limit, home: str, *arguments: str) -> None:
    """Run a command and kill it when the valve has stopped."""
    valve.stopped.clear()
    valve.limits.append(limit)
    with people.start(home, *arguments) as process:
        wait_until(valve.stopped.is_set, "the moment of the kill")
        process.kill()
        assert process.wait(HANG_SECONDS) == SIGKILLED


def waiting(home: Path) -> list[OutboxRow]:
    store = Store.open(home)
    try:
        return list(store.outbox.waiting())
    finally:
        store.close()


def test_a_killed_client_goes_on_with_what_it_had_sealed(
    tmp_path: Path, server: Server, valve: Valve, content: bytes
) -> None:
    straight, behind = People(tmp_path, server.port), People(tmp_path, valve.address.port)
    for name in ("alice", "bob"):
        straight.run(name, "register", name)
    file = str(tmp_path / "film.bin")
    killed(behind, valve, Limit(up=SIZE // 2, stops=True), "alice", "send", "bob", "--file", file)
    (row,) = waiting(tmp_path / "alice")
    assert not row.unsealed
    assert row.tried_at is not None
    assert row.spool is not None
    stream = (tmp_path / "alice" / "store.spool" / row.spool).read_bytes()
    # What the first attempt was made of is not needed any more.
    (tmp_path / "film.bin").unlink()
    killed(behind, valve, Limit(up=SIZE // 3, stops=True), "alice", "recv")
    assert waiting(tmp_path / "alice") == [row]
    assert (tmp_path / "alice" / "store.spool" / row.spool).read_bytes() == stream
    straight.run("alice", "send", "bob", "and a text")
    assert waiting(tmp_path / "alice") == []
    # Killed in the midst of the file, then let through.
    killed(behind, valve, Limit(down=SIZE // 2, stops=True), "bob", "recv")
    lines = [json.loads(line) for line in straight.run("bob", "recv", "--json").splitlines()]
    assert [(line["kind"], line["suite"], line["missing"], line["repeated"]) for line in lines] == [
        ("file", 1, 0, False),
        ("text", 1, 0, False),
    ]
    (saved,) = (tmp_path / "saved").iterdir()
    assert saved.read_bytes() == content
    assert straight.run("bob", "recv") == ""


def test_a_client_that_is_killed_while_it_seals_has_accepted_nothing(tmp_path: Path, server: Server) -> None:
    people = People(tmp_path, server.port)
    for name in ("alice", "bob"):
        people.run(name, "register", name)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    spool = tmp_path / "alice" / "store.spool"
    with people.start("alice", "send", "bob", "--file", str(pipe)) as process, pipe.open("wb", buffering=0) as end:
        end.write(bytes(1_000_000))
        wait_until(lambda: spool.is_dir() and any(spool.iterdir()), "something that is sealed")
        process.kill()
        assert process.wait(HANG_SECONDS) == SIGKILLED
    assert waiting(tmp_path / "alice") == []
    people.run("alice", "send", "bob", "a text")
    (line,) = people.run("bob", "recv", "--json").splitlines()
    assert (json.loads(line)["text"], json.loads(line)["missing"]) == ("a text", 0)
