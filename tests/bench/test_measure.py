"""The order of measurements, the comparisons, the medians; with servers in this process and the real generator."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench.generator import Generator, find_generator
from bench.measure import DRAIN, FLOOR, IDLE, QUICK, Figures, measure_all, medians, miscounted
from bench.messageu import RunningMessageU
from bench.plan import Report
from bench.subject import Shape
from tests.bench.scripted_server import ScriptedServer, Twist, honest

SMALL = replace(
    QUICK,
    shapes=(Shape(1, 1), Shape(3, 4)),
    rounds=2,
    run_time=0.1,
    floor_time=0.01,
    recipients=5,
    senders=3,
    drained=60,
    drain_connections=2,
    idle=8,
)


class ScriptedSubject:
    """Counts as both programs: this process."""

    version = "1"

    def __init__(self, name: str, twist: Twist = honest) -> None:
        self.name = name
        self.folders: list[Path] = []
        self._twist = twist

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningMessageU]:
        assert list(folder.iterdir()) == []
        self.folders.append(folder)
        with ScriptedServer(self._twist) as server:
            running = RunningMessageU(server.port, {"gateway": os.getpid(), "worker": os.getpid()})
            running.register_users(recipients, senders)
            yield running


@pytest.fixture(scope="module")
def in_python() -> Generator:
    return find_generator(allow_compiler=False)


def names(results: Sequence[Figures]) -> list[tuple[int, str, str]]:
    return [(figures.round, figures.load, figures.subject) for figures in results]


@pytest.mark.slow
def test_servers_and_floor_take_turns_and_are_compared(in_python: Generator, tmp_path: Path) -> None:
    ours, theirs = ScriptedSubject("ours"), ScriptedSubject("theirs")
    told: list[str] = []
    results = measure_all([ours, theirs], in_python, SMALL, tmp_path, told.append)
    turns = [("ours", "theirs"), ("theirs", "ours")]
    assert names(results) == [
        (number, load, subject)
        for number, in_turn in enumerate(turns)
        for load in ("1x1", "3x4", DRAIN, IDLE)
        for subject in ((FLOOR, *in_turn) if "x" in load else in_turn)
    ]
    assert told[0] == "round 1 of 2: 1x1, ours"
    assert sum(figures.errors for figures in results) == 0
    assert len({*ours.folders, *theirs.folders}) == 16
    assert list(tmp_path.iterdir()) == []

    by_name = {(figures.round, figures.load, figures.subject): figures for figures in results}
    floor, first, second = (by_name[1, "3x4", subject] for subject in (FLOOR, "ours", "theirs"))
    assert (first.to_floor, second.to_floor) == (first.rate / floor.rate, second.rate / floor.rate)
    assert (first.to_first, second.to_first) == (None, second.rate / first.rate)
    assert floor.to_floor is None
    assert set(first.cpu_us) == {"gateway", "worker", "generator"}
    assert 0 < first.p50_ms <= first.p99_ms <= first.max_ms
    assert by_name[0, DRAIN, "ours"].rate > 0
    assert set(by_name[0, IDLE, "ours"].memory_bytes) == {"gateway", "gateway fresh", "worker", "worker fresh"}


def test_what_goes_wrong_is_an_error_in_the_figures(in_python: Generator, tmp_path: Path) -> None:
    losing = replace(SMALL, shapes=(), rounds=1, idle=0)

    def loses_one(number: int, answer: bytes) -> bytes:
        # The first answer to a 604 comes without its mail.
        return b"\x02\x38\x08\0\0\0\0" if number == losing.drained + 1 else answer

    (figures,) = measure_all([ScriptedSubject("ours", loses_one)], in_python, losing, tmp_path, lambda _line: None)
    assert figures.errors > 0


def test_miscounts_are_found_mailbox_by_mailbox() -> None:
    fill = Report(per_target=[3, 2, 0])
    assert miscounted(fill, Report(per_target=[3, 2, 0], finished_targets=3)) == 0
    assert miscounted(fill, Report(per_target=[2, 3, 0], finished_targets=3)) == 2
    assert miscounted(fill, Report(per_target=[3, 2, 0], finished_targets=2)) == 1


def test_medians_are_taken_field_by_field_and_errors_added_up() -> None:
    rounds = [
        Figures(
            "1x1", "ours", number, rate=rate, p50_ms=p50, to_floor=ratio, errors=errors, cpu_us={"worker": rate / 10}
        )
        for number, (rate, p50, ratio, errors) in enumerate([(10, 3, 0.3, 0), (30, 1, 0.1, 2), (20, 2, 0.2, 1)])
    ]
    (figures,) = medians(rounds)
    assert (figures.rate, figures.p50_ms, figures.to_floor, figures.to_first) == (20, 2, 0.2, None)
    assert figures.cpu_us == {"worker": 2}
    assert figures.errors == 3
