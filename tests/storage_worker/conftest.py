import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.rare_log import RareLog
from storage_worker.engine.sqlite import engine, message_queue
from storage_worker.rules import answers
from storage_worker.server import batch_processor, zmq_server
from tests.storage_worker.office import Gateway, Office


@pytest.fixture
def open_office(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    """Opens offices on one folder, one after the other; what is open at the end is let go."""
    opened: list[Office] = []

    def open_(**settings: Any) -> Office:
        settings.setdefault("seed", 1_000_000 * (len(opened) + 1))
        office = Office(tmp_path, **settings)
        opened.append(office)
        return office

    yield open_
    for office in opened:
        office.kill()


@pytest.fixture
def office(open_office: Callable[..., Office]) -> Office:
    return open_office()


@pytest.fixture
def gateway(office: Office) -> Gateway:
    return Gateway(office)


@pytest.fixture(autouse=True)
def _lines_of_other_tests_count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most ten lines of a kind are written in a minute, which is longer than a test."""
    for module in (batch_processor, answers, engine, message_queue, zmq_server):
        monkeypatch.setattr(module, "rarely", RareLog(logging.getLogger("storage_worker")))
