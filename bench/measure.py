"""The runs: what is done with a server, what is read before and after, and the results.

Owns: one measurement of each kind, and the order of rounds.
Promises: every measurement has a server of its own with an empty store; servers that are compared,
and the floor, take turns within each round, so that a slow minute of the machine affects all of
them; a rival that fails is an error in its figures and stops no other; bounded in time.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.figures import FLOOR, GENERATOR, Figures, compare
from bench.floor import measure_floor
from bench.generator import Generator, GeneratorFailed, Run, run_plan
from bench.large import measure_large
from bench.loads import CONTENT_SIZE, FRAME_OVERHEAD, Drain, Extent, Idle, Large, Load, Sends, Waiting
from bench.messageu import RunningMessageU
from bench.plan import Report
from bench.subject import Running, Sending, Shape, Subject, SubjectFailed, Usage, usage_of_roles, usage_when_calm
from bench.waiting import measure_level, waiting_figures

_FILL_SHAPE: Final = Shape(50, 32)
_MICRO: Final = 1e6

Tell = Callable[[str], None]
Keep = Callable[[Sequence[Figures]], None]


def measure_all(
    subjects: Sequence[Subject], generator: Generator, extent: Extent, disk_folder: Path, tell: Tell, keep: Keep,
    firsts: Mapping[str, str],
) -> None:  # fmt: skip
    """Measure everything in `extent`, load after load, each in rounds, in folders of its own inside
    `disk_folder`.

    `tell` gets a line before each measurement, `keep` the figures of each round of a load.
    `firsts`: servers, and which one each is compared with.
    """
    for load in extent.loads:
        able = [subject for subject in subjects if load.kind in subject.kinds]
        for number in range(extent.rounds):
            group = []
            if isinstance(load, Sends):
                group.append(_floor(load, extent, disk_folder, number))
            for subject in able if number % 2 == 0 else reversed(able):
                tell(f"{load}, round {number + 1} of {extent.rounds}: {subject.name}")
                group.append(_measured(subject, generator, load, extent, disk_folder, number))
            compare(group, firsts)
            keep(group)


def _measured(
    subject: Subject, generator: Generator, load: Load, extent: Extent, disk_folder: Path, number: int
) -> Figures:
    try:
        if isinstance(load, Waiting):
            return _waiting(subject, generator, extent, disk_folder, number)
        with _started(subject, extent, disk_folder) as (running, _folder):
            match load:
                case Sends():
                    return _send(running, subject, generator, load, extent, number)
                case Drain():
                    return _drain(running, subject, generator, extent, number)
                case Idle():
                    return _idle(running, subject, generator, extent, number)
                case Large():
                    assert isinstance(running, RunningMessageU)
                    transfers = running.transfers(extent.large_size)
                    return measure_large(running, generator, extent, number, subject.name, transfers)
    except (SubjectFailed, GeneratorFailed) as error:
        # Results are published: where the run's folder lies is nobody's business.
        remark = str(error).replace(str(disk_folder.resolve()), "").replace(str(disk_folder), "")
        return Figures(load=str(load), subject=subject.name, round=number, errors=1, remark=" ".join(remark.split()))


@contextmanager
def _started(
    subject: Subject, extent: Extent, disk_folder: Path, recipients: int = 0
) -> Iterator[tuple[Running, Path]]:
    """A server and its folder; with `extent.recipients` where no number of them is given."""
    with tempfile.TemporaryDirectory(dir=disk_folder) as name:
        folder = Path(name)
        with subject.start(folder, recipients=recipients or extent.recipients, senders=extent.senders) as running:
            yield running, folder


# --- the kinds
# ------------------------------------------------------------------------------------------------


def _floor(load: Sends, extent: Extent, disk_folder: Path, number: int) -> Figures:
    group = load.shape.in_flight
    floor = measure_floor(disk_folder, group, load.size + FRAME_OVERHEAD, extent.floor_time, extent.floor_file)
    return Figures(
        load=str(load),
        subject=FLOOR,
        round=number,
        rate=floor.messages_per_second,
        p50_ms=floor.p50 / 1e6,
        p99_ms=floor.p99 / 1e6,
        max_ms=floor.slowest / 1e6,
        cpu_us={"server": floor.cpu_seconds * _MICRO / (floor.groups * group)},
    )


def _send(
    running: Running, subject: Subject, generator: Generator, load: Sends, extent: Extent, number: int
) -> Figures:
    if extent.warm_up:
        warming = Sending(load.size, seconds=extent.warm_up, seed=100 + number)
        run_plan(generator, running.send_plan(load.shape, warming))
    plan = running.send_plan(load.shape, Sending(load.size, seconds=extent.run_time, seed=1 + number))
    with Run(generator, plan) as run:
        before = usage_of_roles(running)
        report = run.go()
        after = usage_when_calm(running, extent.calm_time)
    return _figures(str(load), subject, number, report, report.acknowledged, before, after)


def _drain(running: Running, subject: Subject, generator: Generator, extent: Extent, number: int) -> Figures:
    filling = Sending(CONTENT_SIZE, messages=extent.drained, seed=1 + number)
    fill = run_plan(generator, running.send_plan(_FILL_SHAPE, filling))
    plan = running.drain_plan(
        extent.drain_connections, CONTENT_SIZE, close_each=extent.close_each, waiting=fill.per_target
    )
    with Run(generator, plan) as run:
        before = usage_of_roles(running)
        report = run.go()
        after = usage_when_calm(running, extent.calm_time)
    figures = _figures(str(Drain()), subject, number, report, report.messages, before, after)
    figures.errors += fill.errors + miscounted(fill, report)
    return figures


def miscounted(fill: Report, drain: Report) -> int:
    """Messages too few or too many, mailbox by mailbox, and mailboxes that were not emptied."""
    pairs = zip(fill.per_target, drain.per_target, strict=True)
    return sum(abs(stored - fetched) for stored, fetched in pairs) + len(drain.per_target) - drain.finished_targets


def _waiting(subject: Subject, generator: Generator, extent: Extent, disk_folder: Path, number: int) -> Figures:
    values: dict[str, float] = {}
    errors = 0
    for many in (False, True) if number % 2 == 0 else (True, False):
        with _started(subject, extent, disk_folder, 2 * extent.recipients) as (running, folder):
            level, wrong = measure_level(running, generator, extent, folder, many=many)
        values |= level
        errors += wrong
    return waiting_figures(subject.name, number, values, errors)


def _idle(running: Running, subject: Subject, generator: Generator, extent: Extent, number: int) -> Figures:
    running.await_accepted()
    empty = usage_of_roles(running)
    with Run(generator, running.idle_plan(extent.idle)) as run:
        running.await_accepted()
        fresh = usage_of_roles(running)
        report = run.go()
        used = usage_of_roles(running)
    figures = _figures(str(Idle()), subject, number, report, 0, empty, used)
    for role, at_start in empty.items():
        figures.values[f"{role} fresh"] = (fresh[role].resident_bytes - at_start.resident_bytes) / extent.idle
        figures.values[role] = (used[role].resident_bytes - at_start.resident_bytes) / extent.idle
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
        figures.cpu_us[GENERATOR] = report.cpu_seconds * _MICRO / messages
        figures.disk_bytes = sum(end.disk_bytes - before[role].disk_bytes for role, end in after.items()) / messages
    return figures


def _what_went_wrong(report: Report) -> str:
    kinds = ("refused", "wrong", "unexpected", "unanswered", "closed_early", "wrong_size", "disordered")
    return ", ".join(f"{getattr(report, kind)} {kind}" for kind in kinds if getattr(report, kind))
