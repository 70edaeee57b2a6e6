"""Every test of this folder runs over every engine. A new engine is one more `Store` here."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from storage_worker.engine.interface import Engine
from storage_worker.engine.memory import Disk
from storage_worker.engine.values import Identity
from storage_worker.rules.admission import Limits
from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import MemoryWorker, PostgresWorker, SqliteWorker, WorkerUnderTest

LIMITS = Limits(mailbox_messages=1000)


class Store(ABC):
    """One store, and the worker that has it open: `engine` is the worker's."""

    def __init__(self) -> None:
        self._lives = count(1)
        self.start()

    def start(self) -> None:
        """The next worker opens it."""
        self.worker, self.engine = self.open(next(self._lives) * 1_000_000)

    @abstractmethod
    def open(self, seed: int) -> tuple[WorkerUnderTest, Engine]:
        """A worker, and its engine."""

    def restart(self, *, orderly: bool) -> None:
        """The worker ends, or is killed; the next one opens the store."""
        if orderly:
            self.worker.close()
        else:
            self.worker.kill()
        self.start()


class MemoryStore(Store):
    def __init__(self) -> None:
        self._disk = Disk(Identity(bytes(16), 1))
        super().__init__()

    def open(self, seed: int) -> tuple[WorkerUnderTest, Engine]:
        worker = MemoryWorker(self._disk, limits=LIMITS, seed=seed)
        return worker, worker.engine


class SqliteStore(Store):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__()

    def open(self, seed: int) -> tuple[WorkerUnderTest, Engine]:
        worker = SqliteWorker(self._folder, limits=LIMITS, seed=seed)
        return worker, worker.engine


class PostgresStore(Store):
    """`shards`: of which it is the first one. The others never have anything of a user."""

    def __init__(self, url: str, patience: int, shards: int = 1) -> None:
        self._url = url
        self._patience = patience
        self._shards = shards
        super().__init__()

    def open(self, seed: int) -> tuple[WorkerUnderTest, Engine]:
        worker = PostgresWorker(self._url, limits=LIMITS, seed=seed, patience=self._patience, shard=(0, self._shards))
        for shard in range(1, self._shards):
            # As another shard reports it.
            worker.beside.run_script(
                f"INSERT INTO gone_account SELECT id, {shard} FROM generate_series(1, 1000) AS row(id) "
                "ON CONFLICT DO NOTHING"
            )
        return worker, worker.engine


def made(engine: str, request: pytest.FixtureRequest, folder: Path) -> Store:
    """A new store of this engine."""
    if engine == "memory":
        return MemoryStore()
    if engine == "sqlite":
        return SqliteStore(folder)
    server: PostgresServer = request.getfixturevalue("postgres")
    # Where flushes are slow, several turns go by while one is under way.
    patience = 3 if engine == "postgres, slow flushes" else 0
    return PostgresStore(server.empty_database(), patience, 2 if engine == "postgres, first of two shards" else 1)


@pytest.fixture(params=["memory", "sqlite", "postgres", "postgres, slow flushes", "postgres, first of two shards"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = made(request.param, request, tmp_path)
    yield opened
    opened.worker.kill()
