import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.rare_log import RareLog
from storage_worker.engine.paged import message_queue
from storage_worker.engine.sqlite import engine
from storage_worker.rules import answers
from storage_worker.server import batch_processor, zmq_server
from tests.storage_worker.worker_under_test import Gateway, SqliteWorker


@pytest.fixture
def open_worker(tmp_path: Path) -> Iterator[Callable[..., SqliteWorker]]:
    """Opens workers on one folder, one after the other; what is open at the end is let go."""
    opened: list[SqliteWorker] = []

    def open_(**settings: Any) -> SqliteWorker:
        settings.setdefault("seed", 1_000_000 * (len(opened) + 1))
        worker = SqliteWorker(tmp_path, **settings)
        opened.append(worker)
        return worker

    yield open_
    for worker in opened:
        worker.kill()


@pytest.fixture
def worker(open_worker: Callable[..., SqliteWorker]) -> SqliteWorker:
    return open_worker()


@pytest.fixture
def gateway(worker: SqliteWorker) -> Gateway:
    return Gateway(worker)


@pytest.fixture(autouse=True)
def _lines_of_other_tests_count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most ten lines of a kind are written in a minute, which is longer than a test."""
    for module in (batch_processor, answers, engine, message_queue, zmq_server):
        monkeypatch.setattr(module, "rarely", RareLog(logging.getLogger("storage_worker")))
