"""The table shows every row, and what failed."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from torture import __main__ as command
from torture.checker import Verdict
from torture.drill import Place, Row, broken_off
from torture.drill_messages import DrillMessage
from torture.table import table

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = DrillMessage("a", "b", 1)
GOOD = Row("good", 1500, Verdict(acknowledged=25_000), passed=True, note="as it should")
CUT_SHORT = broken_off("cut-short", "somebody ended it")
BAD = Row("bad", 3, Verdict(9, 8, 7, [MESSAGE] * 4, [MESSAGE] * 3, [MESSAGE] * 2, [MESSAGE]), passed=False)


def test_every_row_has_its_numbers_and_its_fate() -> None:
    lines = table([GOOD, BAD]).splitlines()
    assert lines[0].split() == [
        "drill",
        "kills",
        "acknowledged",
        "lost",
        "duplicated",
        "unexpected",
        "out",
        "of",
        "order",
    ]
    assert lines[2].split() == ["good", "1,500", "25,000", "0", "0", "0", "0", "passed"]
    assert lines[3].split() == ["bad", "3", "8", "4", "3", "2", "1", "FAILED"]
    assert lines[5:] == ["good: as it should"]


def test_a_drill_that_broke_off_has_no_numbers() -> None:
    lines = table([GOOD, CUT_SHORT]).splitlines()
    assert lines[3].split() == ["cut-short", *["-"] * 6, "FAILED"]
    assert lines[6] == "cut-short: broke off, and is not counted: somebody ended it"


@pytest.fixture
def drills(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    def broken(_place: Place) -> Row:
        raise RuntimeError("the disk is on fire")

    made: dict[str, object] = {"good": lambda _place: GOOD, "bad": lambda _place: BAD, "broken": broken}
    monkeypatch.setattr(command, "DRILLS", made)
    return made


def test_one_failed_drill_fails_the_run(
    drills: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drills
    rows = tmp_path / "rows.json"
    assert command.main(["--json", str(rows)]) == 1
    assert [(row["drill"], row["passed"]) for row in json.loads(rows.read_text())] == [
        ("good", True),
        ("bad", False),
        ("broken", False),
    ]
    printed = capsys.readouterr()
    assert "broken: broke off, and is not counted: the disk is on fire" in printed.out
    assert "RuntimeError: the disk is on fire" in printed.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_a_run_gets_what_came_to_its_end(
    drills: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def ended(_place: Place) -> Row:
        os.kill(os.getpid(), number)
        signal.pause()
        raise AssertionError("the signal did nothing")

    drills |= {"bad": ended}
    rows = tmp_path / "rows.json"
    assert command.main(["--json", str(rows)]) == 1
    assert [(row["drill"], row["acknowledged"], row["lost"]) for row in json.loads(rows.read_text())] == [
        ("good", 25_000, 0),
        ("bad", None, None),
    ]
    assert "bad: broke off, and is not counted: somebody ended it" in capsys.readouterr().out


def test_only_what_was_asked_for_runs(drills: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert drills
    assert command.main(["--only", "good", "--seed", "7"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("\nseed 7\n")
    assert "bad" not in printed


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--only", "nothing"]])
def test_arguments_that_make_no_sense_are_told(drills: dict[str, object], arguments: list[str]) -> None:
    assert drills
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2


def test_a_place_shrinks_with_the_minutes_but_never_below_the_quick_run(tmp_path: Path) -> None:
    assert Place(tmp_path, 1, 1.0, quick=False).sized(50, 2) == 50
    assert Place(tmp_path, 1, 0.1, quick=False).sized(50, 2) == 5
    assert Place(tmp_path, 1, 0.01, quick=False).sized(50, 2) == 2
    assert Place(tmp_path, 1, 1.0, quick=True).sized(50, 2) == 2
