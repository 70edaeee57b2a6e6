"""A database of a server that runs for all tests, with an empty store, or without one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.postgres import PostgresServer
from tests.storage_worker.worker_under_test import Gateway, PostgresWorker


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Of a database without a store."""
    return postgres.empty_database()


@pytest.fixture
def open_worker(url: str) -> Iterator[Callable[..., PostgresWorker]]:
    """Opens workers on one store, as one after the other would, or a second one too many."""
    opened: list[PostgresWorker] = []

    def open_(**settings: Any) -> PostgresWorker:
        settings.setdefault("seed", 1_000_000 * (len(opened) + 1))
        opened.append(PostgresWorker(url, **settings))
        return opened[-1]

    yield open_
    for worker in opened:
        worker.kill()


@pytest.fixture
def worker(open_worker: Callable[..., PostgresWorker]) -> PostgresWorker:
    return open_worker()


@pytest.fixture
def gateway(worker: PostgresWorker) -> Gateway:
    return Gateway(worker)
