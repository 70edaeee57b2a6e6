"""The worker without a fence stands still where the drill needs it, and writes whoever the owner
is.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, cast

import pytest

pytest.importorskip("psycopg", reason="an extra")

from storage_worker.engine.postgres import opening, statements
from torture import unfenced_worker
from torture.stale_worker import STAND_STILL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from storage_worker.engine.postgres.connection import Connection, Parameter, Row


class FakeConnection:
    """Notes what is written through it."""

    def __init__(self, course: list[str]) -> None:
        self._course = course

    def begin(self) -> None:
        """Nothing has to be done."""

    def rows(self, _statement: str, *_parameters: Parameter) -> Sequence[Row]:
        return [(1,)]

    def change(self, statement: str, *_parameters: Parameter) -> int:
        self._course.append("appended" if statement == statements.APPEND else "written")
        return 1


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What happened, one after the other, in a folder of its own."""
    found: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "pthread_kill", lambda _thread, number: found.append(signal.Signals(number).name))
    return found


@pytest.fixture
def database(course: list[str]) -> unfenced_worker.StoppingDatabase:
    return unfenced_worker.StoppingDatabase(cast("Connection", FakeConnection(course)), 1)


def test_told_once_it_stands_still_once_right_before_the_next_append(
    database: unfenced_worker.StoppingDatabase, course: list[str], tmp_path: Path
) -> None:
    database.write_fenced(statements.APPEND, 1, b"")
    (tmp_path / STAND_STILL).touch()
    database.write_fenced(statements.WRITE_PIECE, 1, 1, b"", 1)
    for number in (2, 3):
        database.write_fenced(statements.APPEND, number, b"")
    assert course == ["appended", "written", "SIGSTOP", "appended", "appended"]


def test_never_inside_a_transaction_which_the_server_would_end(
    database: unfenced_worker.StoppingDatabase, course: list[str], tmp_path: Path
) -> None:
    (tmp_path / STAND_STILL).touch()
    database.begin()
    database.write_fenced(statements.APPEND, 1, b"")
    assert course == ["appended"]
    assert (tmp_path / STAND_STILL).exists()


def test_its_append_looks_at_no_owner_and_finds_its_number_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((statements, "APPEND"), (opening, "Database")):
        monkeypatch.setattr(module, name, getattr(module, name))
    assert "owner" in statements.APPEND
    unfenced_worker.switch_off()
    assert "owner" not in statements.APPEND
    assert statements.APPEND.endswith("ON CONFLICT (number) DO UPDATE SET records = excluded.records")
    assert vars(opening)["Database"] is unfenced_worker.StoppingDatabase
