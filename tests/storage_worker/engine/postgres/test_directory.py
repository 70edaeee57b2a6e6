"""The directory as other shards reach it, and what they do while they can't."""

from collections.abc import Callable

import pytest

from common.storage_protocol.message_format import pack_frame
from common.storage_protocol.operations import MessagesStored, Refused, RefusedFrame, StoreMessage, StoreMessages
from common.values import RefusalReason as Reason
from storage_worker.engine.errors import DirectoryUnreachable, StoreFailed, StoreUnusable
from storage_worker.rules.answers import UNAVAILABLE_FOR
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker
from torture.programs import wait_until

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres.connection import Connection
from storage_worker.engine.postgres.directory import Directory, connect

Open = Callable[..., PostgresWorker]
UNREACHABLE = "postgresql:///mail?host=/nowhere"


class Server:
    """Opens connections to the directory, or none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.problem: Exception | None = None
        self.opened: list[Connection] = []

    def connect(self) -> Connection:
        if self.problem is not None:
            raise self.problem
        self.opened.append(connect(self.url, 2))
        return self.opened[-1]


def test_a_connection_that_is_lost_is_opened_anew(open_worker: Open, url: str) -> None:
    worker = open_worker(shard=(0, 2))
    [alice] = Gateway(worker).register("alice")
    server = Server(url)
    directory = Directory(server.connect(), server.connect)
    assert directory.row_of(alice) == 1
    server.problem = StoreFailed("gone")
    server.opened[0].close()
    with pytest.raises(DirectoryUnreachable):
        directory.row_of(alice)
    with pytest.raises(DirectoryUnreachable):
        directory.users([alice])
    server.problem = None

    def answers() -> bool:
        try:
            return directory.row_of(alice) == 1
        except DirectoryUnreachable:
            return False

    wait_until(answers, "the directory")
    assert len(server.opened) == 2
    directory.close()


def test_meanwhile_those_who_are_known_are_served(open_worker: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, worker = [open_worker(shard=(number, 2)) for number in (0, 1)]
    alice, bob, carol = Gateway(directory).register("alice", "bob", "carol")
    gateway = Gateway(worker)
    gateway.store(alice, bob, b"one")

    def fail(*_: object) -> None:
        raise DirectoryUnreachable("the directory can't be reached")

    for question in ("users", "state", "leaving"):
        monkeypatch.setattr(Directory, question, fail)
    assert gateway.store(alice, bob, b"two") == [2]
    unavailable = Refused(Reason.UNAVAILABLE, UNAVAILABLE_FOR)
    assert gateway.one(StoreMessage(alice, False, carol, 3, b"three")) == unavailable
    frames = [pack_frame(alice, who, 3, b"in a run") for who in (bob, carol, bob)]
    [outcome] = gateway.ask(StoreMessages(False, b"".join(frames)))
    assert isinstance(outcome, MessagesStored)
    assert outcome.refused == [RefusedFrame(1, Reason.UNAVAILABLE, UNAVAILABLE_FOR)]
    worker.now_ms += 10_000
    worker.processor.maintain(worker.now_ms)
    monkeypatch.undo()
    assert gateway.store(alice, carol, b"four") == [5]


def test_a_shard_needs_the_directory_of_its_own_server(open_worker: Open) -> None:
    with pytest.raises(StoreUnusable, match="no store in the schema messageu_0"):
        open_worker(shard=(1, 2))
    with pytest.raises(StoreUnusable, match="shard 1 of 2, not 1 of 4"):
        open_worker(shard=(1, 4))
    worker = open_worker(shard=(0, 2))
    worker.beside.run_script(f"UPDATE store SET server_id = '{'other' * 3}!'")
    with pytest.raises(StoreUnusable, match="the directory of another server"):
        open_worker(shard=(1, 2))


def test_one_that_is_not_there_at_the_start_ends_it(open_worker: Open) -> None:
    open_worker(shard=(0, 2))
    with pytest.raises(StoreFailed, match="can't be reached"):
        open_worker(shard=(1, 2), directory_url=UNREACHABLE)
