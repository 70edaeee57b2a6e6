"""The runs: what is done with a server, what is read before and after, what comes out.

Owns: one measurement of each kind, and the order of rounds.
Promises: every measurement has a server of its own with an empty store; servers that are compared, and the floor, take
turns within each round, so that a slow minute of the machine hits all of them; bounded in time.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.floor import FILE_SIZE, measure_floor
from bench.generator import Generator, Run, run_plan
from bench.plan import Report
from bench.subject import Running, Shape, Subject, Usage, usage_of_roles, usage_when_calm

FLOOR: Final = "floor"
CONTENT_SIZE: Final = 256
FRAME_SIZE: Final = CONTENT_SIZE + 44
"""Bytes of a 603 with its header: about what a store has to keep."""
DRAIN: Final = "drain"
IDLE: Final = "idle"
_FILL_SHAPE: Final = Shape(50, 32)
_MICRO: Final = 1e6

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done. Times are seconds."""

    shapes: tuple[Shape, ...]
    rounds: int = 3
    run_time: float = 3.0
    warm_up: float = 0.5
    calm_time: float = 2.5
    """Processor time and disk are read when the server has done nothing for so long: some work is put off."""
    floor_time: float = 1.0
    floor_file: int = FILE_SIZE
    recipients: int = 1_000
    senders: int = 1_000
    drained: int = 100_000
    """Messages that are drained; 0: no draining."""
    drain_connections: int = 50
    close_each: bool = False
    idle: int = 10_000
    """Idle connections; 0: none."""


STANDARD: Final = Extent(shapes=(Shape(1, 1), Shape(50, 1), Shape(50, 32)))
FULL: Final = Extent(
    shapes=(Shape(1, 1), Shape(1, 32), Shape(50, 1), Shape(50, 32), Shape(1000, 1), Shape(1000, 32)),
)
QUICK: Final = Extent(
    shapes=STANDARD.shapes,
    rounds=1,
    run_time=0.2,
    warm_up=0.0,
    calm_time=0.0,
    floor_time=0.05,
    floor_file=1024 * 1024,
    recipients=50,
    senders=50,
    drained=2_000,
    drain_connections=10,
    idle=200,
)


@dataclass(slots=True)
class Figures:
    """What one measurement gave; absent where its kind does not have it."""

    load: str
    """"50x32", `DRAIN` or `IDLE`."""
    subject: str
    round: int
    rate: float = 0.0
    """Messages a second: acknowledged, or drained."""
    p50_ms: float = 0.0
    """Milliseconds from send to acknowledgement, or from a 604 to the end of its 2104; for the floor of one group."""
    p99_ms: float = 0.0
    max_ms: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    """Microseconds of processor time a message, by role; "generator" is the load's own. The floor's stands under
    "worker", whose work it is."""
    disk_bytes: float = 0.0
    """Bytes a message that all roles together handed to the disk."""
    to_floor: float | None = None
    """`rate` through that of the floor in the same round."""
    to_first: float | None = None
    """`rate` through that of the first server in the same round."""
    memory_bytes: dict[str, float] = field(default_factory=dict)
    """Resident bytes a connection, by role, "fresh" for one that was only opened: "gateway fresh", "gateway"."""
    errors: int = 0
    """All that went wrong; see `plan.Report.errors`."""
    remark: str = ""

    def as_json(self) -> dict[str, Any]:
        """For a results file."""
        return asdict(self)


def measure_all(
    subjects: Sequence[Subject], generator: Generator, extent: Extent, disk_folder: Path, tell: Tell
) -> list[Figures]:
    """Measure everything in `extent`, round after round, in folders of its own inside `disk_folder`.

    `tell` gets a line before each measurement. Raises `SubjectFailed`, `GeneratorFailed`.
    """
    results: list[Figures] = []
    for number in range(extent.rounds):
        in_turn = list(subjects) if number % 2 == 0 else list(reversed(subjects))
        for shape in extent.shapes:
            floor = _floor(shape, extent, disk_folder, number)
            group = [floor]
            for subject in in_turn:
                tell(f"round {number + 1} of {extent.rounds}: {shape}, {subject.name}")
                with _started(subject, extent, disk_folder) as running:
                    group.append(_send(running, subject, generator, shape, extent, number))
            _compare(group, subjects[0].name, floor)
            results += group
        for load, wanted, run in ((DRAIN, extent.drained, _drain), (IDLE, extent.idle, _idle)):
            group = []
            for subject in in_turn if wanted else []:
                tell(f"round {number + 1} of {extent.rounds}: {load}, {subject.name}")
                with _started(subject, extent, disk_folder) as running:
                    group.append(run(running, subject, generator, extent, number))
            _compare(group, subjects[0].name, None)
            results += group
    return results


def medians(results: Sequence[Figures]) -> list[Figures]:
    """One `Figures` for each load and server: the median of its rounds, field by field; errors are added up."""
    groups: dict[tuple[str, str], list[Figures]] = {}
    for figures in results:
        groups.setdefault((figures.load, figures.subject), []).append(figures)
    return [_median(group) for group in groups.values()]


def _median(group: Sequence[Figures]) -> Figures:
    first = group[0]
    return Figures(
        load=first.load,
        subject=first.subject,
        round=0,
        rate=median(one.rate for one in group),
        p50_ms=median(one.p50_ms for one in group),
        p99_ms=median(one.p99_ms for one in group),
        max_ms=median(one.max_ms for one in group),
        cpu_us={role: median(one.cpu_us[role] for one in group) for role in first.cpu_us},
        disk_bytes=median(one.disk_bytes for one in group),
        to_floor=_median_or_none([one.to_floor for one in group]),
        to_first=_median_or_none([one.to_first for one in group]),
        memory_bytes={role: median(one.memory_bytes[role] for one in group) for role in first.memory_bytes},
        errors=sum(one.errors for one in group),
        remark=", ".join(dict.fromkeys(one.remark for one in group if one.remark)),
    )


def _median_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _compare(group: Sequence[Figures], first_name: str, floor: Figures | None) -> None:
    rates = {figures.subject: figures.rate for figures in group}
    for figures in group:
        if figures is floor or not figures.rate:
            continue
        if floor is not None:
            figures.to_floor = figures.rate / floor.rate
        if figures.subject != first_name and rates.get(first_name):
            figures.to_first = figures.rate / rates[first_name]


@contextmanager
def _started(subject: Subject, extent: Extent, disk_folder: Path) -> Iterator[Running]:
    with (
        tempfile.TemporaryDirectory(dir=disk_folder) as folder,
        subject.start(Path(folder), recipients=extent.recipients, senders=extent.senders) as running,
    ):
        yield running


# --- the kinds ------------------------------------------------------------------------------------------------


def _floor(shape: Shape, extent: Extent, disk_folder: Path, number: int) -> Figures:
    floor = measure_floor(disk_folder, shape.in_flight, FRAME_SIZE, extent.floor_time, extent.floor_file)
    return Figures(
        load=str(shape),
        subject=FLOOR,
        round=number,
        rate=floor.messages_per_second,
        p50_ms=floor.p50 / 1e6,
        p99_ms=floor.p99 / 1e6,
        max_ms=floor.slowest / 1e6,
        cpu_us={"worker": floor.cpu_seconds * _MICRO / (floor.groups * shape.in_flight)},
    )


def _send(
    running: Running, subject: Subject, generator: Generator, shape: Shape, extent: Extent, number: int
) -> Figures:
    if extent.warm_up:
        run_plan(
            generator,
            running.send_plan(shape, CONTENT_SIZE, seconds=extent.warm_up, messages=0, seed=100 + number),
        )
    plan = running.send_plan(shape, CONTENT_SIZE, seconds=extent.run_time, messages=0, seed=1 + number)
    with Run(generator, plan) as run:
        before = usage_of_roles(running)
        report = run.go()
        after = usage_when_calm(running, extent.calm_time)
    return _figures(str(shape), subject, number, report, report.acknowledged, before, after)


def _drain(running: Running, subject: Subject, generator: Generator, extent: Extent, number: int) -> Figures:
    fill = run_plan(
        generator,
        running.send_plan(_FILL_SHAPE, CONTENT_SIZE, seconds=0, messages=extent.drained, seed=1 + number),
    )
    plan = running.drain_plan(extent.drain_connections, CONTENT_SIZE, close_each=extent.close_each)
    with Run(generator, plan) as run:
        before = usage_of_roles(running)
        report = run.go()
        after = usage_when_calm(running, extent.calm_time)
    figures = _figures(DRAIN, subject, number, report, report.messages, before, after)
    figures.errors += fill.errors + miscounted(fill, report)
    return figures


def miscounted(fill: Report, drain: Report) -> int:
    """Messages too few or too many, mailbox by mailbox, and mailboxes that were not emptied."""
    pairs = zip(fill.per_target, drain.per_target, strict=True)
    return sum(abs(stored - fetched) for stored, fetched in pairs) + len(drain.per_target) - drain.finished_targets


def _idle(running: Running, subject: Subject, generator: Generator, extent: Extent, number: int) -> Figures:
    running.await_accepted()
    empty = usage_of_roles(running)
    with Run(generator, running.idle_plan(extent.idle)) as run:
        running.await_accepted()
        fresh = usage_of_roles(running)
        report = run.go()
        used = usage_of_roles(running)
    figures = _figures(IDLE, subject, number, report, 0, empty, used)
    for role, at_start in empty.items():
        figures.memory_bytes[f"{role} fresh"] = (fresh[role].resident_bytes - at_start.resident_bytes) / extent.idle
        figures.memory_bytes[role] = (used[role].resident_bytes - at_start.resident_bytes) / extent.idle
    figures.errors += abs(extent.idle - report.responses)
    return figures


def _figures(
    load: str,
    subject: Subject,
    number: int,
    report: Report,
    messages: int,
    before: Mapping[str, Usage],
    after: Mapping[str, Usage],
) -> Figures:
    figures = Figures(
        load=load,
        subject=subject.name,
        round=number,
        p50_ms=report.latency(50) / 1e6,
        p99_ms=report.latency(99) / 1e6,
        max_ms=report.slowest / 1e6,
        errors=report.errors,
        remark=_what_went_wrong(report),
    )
    if messages and report.seconds:
        figures.rate = messages / report.seconds
        for role, end in after.items():
            figures.cpu_us[role] = (end.cpu_seconds - before[role].cpu_seconds) * _MICRO / messages
        figures.cpu_us["generator"] = report.cpu_seconds * _MICRO / messages
        figures.disk_bytes = sum(end.disk_bytes - before[role].disk_bytes for role, end in after.items()) / messages
    return figures


def _what_went_wrong(report: Report) -> str:
    kinds = ("refused", "wrong", "unexpected", "unanswered", "closed_early", "wrong_size", "disordered")
    return ", ".join(f"{getattr(report, kind)} {kind}" for kind in kinds if getattr(report, kind))
