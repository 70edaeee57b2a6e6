"""A cast whose drill breaks off tells what is certain, and counts nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torture.actors import Actor
from torture.cast import Cast
from torture.drill_messages import DrillMessage
from torture.journal import Journal
from torture.programs import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

ONE, TWO, THREE = (DrillMessage("alice", "bob", number) for number in (1, 2, 3))


def write_down(path: Path, lines: Sequence[str]) -> None:
    """What an actor would have done."""
    with Journal(path) as journal:
        journal.write(lines)


def cast_with(folder: Path, received: Sequence[DrillMessage]) -> Cast:
    """Everybody has ended; the server was never started."""
    cast = Cast(folder, Server(folder / "server", store=()))
    sent = [f"{letter} {message}" for message in (ONE, TWO, THREE) for letter in "AK"]
    cast.add_sender("alice", Actor(write_down, cast.journal("alice"), sent))
    notes = [f"{number} {message}" for number, message in enumerate(received, 1)]
    cast.add_receiver("bob", Actor(write_down, cast.journal("bob"), notes))
    cast.start()
    for actor in (*cast.senders, *cast.receivers):
        actor.process.join()
    return cast


def test_what_is_acknowledged_is_counted(tmp_path: Path) -> None:
    cast = cast_with(tmp_path, [])
    assert cast.acknowledged() == [ONE, TWO, THREE]
    assert cast.await_more(1, 2) == 3
    cast.end()


def test_who_ended_without_being_killed_is_noted_and_starts_again(tmp_path: Path) -> None:
    cast = cast_with(tmp_path, [])
    cast.server.programs = ()
    ended = [actor.process.pid for actor in (*cast.senders, *cast.receivers)]
    cast.look_for_deaths()
    assert cast.problems == ["a client ended by itself with 0"] * 2
    assert not {actor.process.pid for actor in (*cast.senders, *cast.receivers)} & set(ended)
    cast.end()


def test_a_drill_that_breaks_off_says_what_was_not_fetched_and_calls_it_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cast_with(tmp_path, [ONE]).end()
    told = capsys.readouterr().err
    assert "broken off before everything was fetched, and not counted: of 3 acknowledged 2 are not fetched yet" in told
    assert "lost" not in told


def test_a_hole_is_a_loss_whenever_the_drill_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cast_with(tmp_path, [ONE, THREE]).end()
    assert f"of 3 acknowledged 0 are not fetched yet. lost: {TWO}" in capsys.readouterr().err


def test_a_row_without_an_end_is_no_pass_and_says_what_it_does_not_count(tmp_path: Path) -> None:
    cast = cast_with(tmp_path, [ONE])
    row = cast.row("some", 3, "as it was")
    assert not row.passed
    assert not row.verdict.lost
    assert row.note == "as it was; 2 not fetched when it ended, and not counted"
    cast.end()


def test_a_row_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cast = cast_with(tmp_path, [ONE, TWO, THREE])
    cast.row("some", 3, "as it was")
    cast.end()
    assert not capsys.readouterr().err
