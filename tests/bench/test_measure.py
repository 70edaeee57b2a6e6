"""The order of measurements, the comparisons, the medians; with servers in this process
and the real generator.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from bench.figures import FLOOR, Figures
from bench.generator import Generator, find_generator
from bench.loads import QUICK, Drain, Extent, Idle, Waiting, load_named
from bench.measure import measure_all, miscounted
from bench.messageu import RunningMessageU
from bench.plan import Dialect, Report
from bench.subject import Kind, Subject, SubjectFailed
from tests.bench.scripted_server import ScriptedServer, Twist, honest

SMALL = replace(
    QUICK,
    loads=(load_named("1x1"), load_named("3x4"), Drain(), Idle()),
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
    missing = ""
    dialect = Dialect.MESSAGEU
    kinds = frozenset(Kind)

    def __init__(self, name: str, twist: Twist = honest) -> None:
        self.name = name
        self.folders: list[Path] = []
        self.restarts: list[Path] = []
        self._twist = twist

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningMessageU]:
        assert list(folder.iterdir()) == []
        self.folders.append(folder)
        with ScriptedServer(self._twist) as server:
            process_ids = {"gateway": os.getpid(), "worker": os.getpid()}
            running = RunningMessageU(server.port, process_ids, lambda: self.restarts.append(folder))
            running.register_users(recipients, senders)
            yield running


@pytest.fixture(scope="module")
def in_python() -> Generator:
    return find_generator(allow_compiler=False)


def measured(subjects: Sequence[Subject], generator: Generator, extent: Extent, folder: Path) -> list[Figures]:
    results: list[Figures] = []
    measure_all(subjects, generator, extent, folder, lambda _line: None, results.extend, {})
    return results


def names(results: Sequence[Figures]) -> list[tuple[int, str, str]]:
    return [(figures.round, figures.load, figures.subject) for figures in results]


@pytest.mark.slow
def test_servers_and_floor_take_turns_and_are_compared(in_python: Generator, tmp_path: Path) -> None:
    ours, theirs = ScriptedSubject("ours"), ScriptedSubject("theirs")
    told: list[str] = []
    results: list[Figures] = []
    measure_all([ours, theirs], in_python, SMALL, tmp_path, told.append, results.extend, {"theirs": "ours"})
    turns = [("ours", "theirs"), ("theirs", "ours")]
    assert names(results) == [
        (number, load, subject)
        for load in ("1x1", "3x4", "drain", "idle")
        for number, in_turn in enumerate(turns)
        for subject in ((FLOOR, *in_turn) if "x" in load else in_turn)
    ]
    assert told[0] == "1x1, round 1 of 2: ours"
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
    assert by_name[0, "drain", "ours"].rate > 0
    assert set(by_name[0, "idle", "ours"].values) == {"gateway", "gateway fresh", "worker", "worker fresh"}


def test_what_goes_wrong_is_an_error_in_the_figures(in_python: Generator, tmp_path: Path) -> None:
    losing = replace(SMALL, loads=(Drain(),), rounds=1)

    def loses_one(number: int, answer: bytes) -> bytes:
        # The first answer to a 604 comes without its mail.
        return b"\x02\x38\x08\0\0\0\0" if number == losing.drained + 1 else answer

    (figures,) = measured([ScriptedSubject("ours", loses_one)], in_python, losing, tmp_path)
    assert figures.errors > 0


def test_miscounts_are_found_mailbox_by_mailbox() -> None:
    fill = Report(per_target=[3, 2, 0])
    assert miscounted(fill, Report(per_target=[3, 2, 0], finished_targets=3)) == 0
    assert miscounted(fill, Report(per_target=[2, 3, 0], finished_targets=3)) == 2
    assert miscounted(fill, Report(per_target=[3, 2, 0], finished_targets=2)) == 1


class FailingSubject(ScriptedSubject):
    """Never starts."""

    def start(self, folder: Path, *, recipients: int, senders: int) -> NoReturn:
        raise SubjectFailed(f"{folder}/server.log:\nno room")


def test_a_server_that_fails_is_an_error_in_its_figures_and_stops_nobody(in_python: Generator, tmp_path: Path) -> None:
    extent = replace(SMALL, loads=(Drain(),), rounds=1)
    failed, fine = measured([FailingSubject("theirs"), ScriptedSubject("ours")], in_python, extent, tmp_path)
    assert (failed.subject, failed.rate, failed.errors) == ("theirs", 0, 1)
    assert failed.remark.endswith("server.log: no room")
    assert str(tmp_path) not in failed.remark
    assert (fine.subject, fine.errors) == ("ours", 0)
    assert fine.rate > 0


def test_what_can_not_be_measured_of_a_server_is_left_out(in_python: Generator, tmp_path: Path) -> None:
    able = ScriptedSubject("able")
    unable = ScriptedSubject("unable")
    unable.kinds = frozenset({Kind.IDLE})
    results = measured([able, unable], in_python, replace(SMALL, loads=(Drain(), Idle()), rounds=1), tmp_path)
    assert names(results) == [(0, "drain", "able"), (0, "idle", "able"), (0, "idle", "unable")]


def test_few_and_many_waiting_messages_are_measured_alike(in_python: Generator, tmp_path: Path) -> None:
    extent = replace(SMALL, loads=(Waiting(),), waiting_few=10, waiting_many=40, waiting_sent=20)
    subject = ScriptedSubject("ours")
    first, second = measured([subject], in_python, extent, tmp_path)
    assert [figures.errors for figures in (first, second)] == [0, 0]
    assert subject.restarts == subject.folders
    assert len(subject.folders) == 4
    for figures in (first, second):
        for name in ("sends/s", "fetches/s"):
            assert figures.values[f"{name} ratio"] == figures.values[f"many {name}"] / figures.values[f"few {name}"]
        assert figures.values["restart ratio"] == (figures.values["few restart s"] / figures.values["many restart s"])
        assert figures.values["many worker MB"] > 1


def test_a_message_that_is_lost_while_many_wait_is_an_error(in_python: Generator, tmp_path: Path) -> None:
    def loses_one(number: int, answer: bytes) -> bytes:
        # Ten that wait and five that were sent; then the first answer to a 604 comes without its
        # mail.
        return b"\x02\x38\x08\0\0\0\0" if number == 16 else answer

    extent = replace(SMALL, loads=(Waiting(),), rounds=1, waiting_few=10, waiting_many=12, waiting_sent=5)
    (figures,) = measured([ScriptedSubject("ours", loses_one)], in_python, extent, tmp_path)
    assert figures.errors > 0
