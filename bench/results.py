"""Figures as a table to read, and as files to compare later.

Owns: the table's text, the machine's facts, the files under `bench/results/`.
Promises: the files hold no host name and no absolute path, and enough to make the very same table
again, which is made of their figures in a run too; a file that existed before the run is never
overwritten.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil

from bench.figures import FLOOR, GENERATOR, Figures, medians
from bench.loads import CONTENT_SIZE, Extent, Load, load_named
from bench.subject import Kind
from bench.waiting import FEW, MANY

RESULTS_FOLDER: Final = Path(__file__).parent / "results"
_ROLE_ORDER: Final = ("gateway", "worker")
_ONLY_ROLE: Final = "server"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a reader has to know of the machine and the programs."""

    date: str
    """YYYY-MM-DD"""
    versions: dict[str, str]
    """Of each server."""
    cores: int
    kernel: str
    python: str
    file_system: str
    remarks: tuple[str, ...] = ()


def file_system_of(folder: Path) -> str:
    """The type of the file system that holds `folder` ("ext4", "tmpfs" …); "unknown"
    where it can't be told.
    """
    resolved = folder.resolve()
    best = Path()
    found = "unknown"
    for partition in psutil.disk_partitions(all=True):
        mounted = Path(partition.mountpoint)
        if resolved.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, found = mounted, partition.fstype
    return found


def gather_facts(date: str, versions: dict[str, str], disk_folder: Path, remarks: Sequence[str]) -> Facts:
    """The facts of this machine. `date`: YYYY-MM-DD."""
    return Facts(
        date=date,
        versions=versions,
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        file_system=file_system_of(disk_folder),
        remarks=tuple(remark for remark in remarks if remark),
    )


# --- the table
# ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Results:
    """One run: its facts, its extent, and the figures of every round so far."""

    facts: Facts
    extent: Extent
    rounds: list[Figures]

    def table(self) -> str:
        """All medians as text: an overview, then one paragraph for each kind."""
        summary = self.medians()
        parts = [_headline(self.facts, self.extent)]
        sends = _of_kind(summary, Kind.SENDS)
        drains = _of_kind(summary, Kind.DRAIN)
        waits = _of_kind(summary, Kind.WAITING)
        larges = _of_kind(summary, Kind.LARGE)
        idles = _of_kind(summary, Kind.IDLE)
        if len({one.load for one in [*sends, *drains]}) > 1:
            parts.append(_overview([*sends, *drains]))
        if sends:
            parts.append(
                f"Messages to {self.extent.recipients:,} offline recipients; connections x in flight, "
                f"of {CONTENT_SIZE} bytes where nothing else is said\n" + _rates(sends, "acked/s")
            )
        if drains:
            how = "a new connection for each request" if self.extent.close_each else "connections kept"
            parts.append(
                f"Drain of {self.extent.drained:,} messages out of {self.extent.recipients:,} mailboxes over "
                f"{self.extent.drain_connections} connections, {how}; latency of a whole answer\n"
                + _rates(drains, "messages/s")
            )
        if waits:
            parts.append(
                f"Messages that wait: {self.extent.waiting_few:,} (few) and {self.extent.waiting_many:,} (many); "
                f"{self.extent.waiting_sent:,} sent and fetched beside them, after a restart\n" + _waiting_grid(waits)
            )
        if larges:
            parts.append(
                f"One content of {self.extent.large_size / (1 << 20):,.0f} MiB, and small sends (4x1) alone "
                "and beside it\n" + _values_grid(larges)
            )
        if idles:
            parts.append(
                f"{self.extent.idle:,} idle connections: resident bytes for each, only opened | after one request\n"
                + _idle_grid(idles)
            )
        return "\n\n".join(parts) + "\n"

    def as_json(self) -> str:
        """For a results file."""
        content = {
            "facts": asdict(self.facts),
            "extent": {**asdict(self.extent), "loads": [str(load) for load in self.extent.loads]},
            "medians": [one.as_json() for one in self.medians()],
            "rounds": [one.as_json() for one in self._rounds()],
        }
        return json.dumps(_rounded(content), indent=1) + "\n"

    def _rounds(self) -> list[Figures]:
        return [_as_kept(one) for one in self.rounds]

    def medians(self) -> list[Figures]:
        """One `Figures` for each load and server."""
        return [_as_kept(one) for one in medians(self._rounds())]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Out of a results file. Raises `ValueError`, `KeyError` or `TypeError` for
        anything else.
        """
        content = json.loads(text)
        facts = {**content["facts"], "remarks": tuple(content["facts"]["remarks"])}
        loads: tuple[Load, ...] = tuple(load_named(name) for name in content["extent"]["loads"])
        return cls(
            Facts(**facts),
            Extent(**{**content["extent"], "loads": loads}),
            [Figures.from_json(one) for one in content["rounds"]],
        )


def _of_kind(figures: Sequence[Figures], kind: Kind) -> list[Figures]:
    return [one for one in figures if load_named(one.load).kind is kind]


def _headline(facts: Facts, extent: Extent) -> str:
    versions = ", ".join(f"{name} {version}".strip() for name, version in facts.versions.items())
    lines = [
        f"{facts.date}  {versions}",
        f"{facts.cores} cores, Linux {facts.kernel}, Python {facts.python}, {facts.file_system}; "
        f"median of {extent.rounds}, {extent.run_time:g} s each",
    ]
    return "\n".join([*lines, *facts.remarks])


def _overview(figures: Sequence[Figures]) -> str:
    """One row for each server: messages a second, and the ratio to Redis where it was measured."""
    loads = list(dict.fromkeys(one.load for one in figures))
    by_place = {(one.subject, one.load): one for one in figures}
    rows = [
        [subject, *(_cell(by_place.get((subject, load))) for load in loads)]
        for subject in dict.fromkeys(one.subject for one in figures)
    ]
    return (
        "Messages a second, processor time a message of all the server's processes, ratio to Redis AOF always\n"
        + _grid(["server", *loads], rows)
    )


def _cell(one: Figures | None) -> str:
    if one is None or not one.rate:
        return "-"
    ratio = "" if one.to_redis is None else f" {one.to_redis:.2f}"
    # What would be shown as 10.0 is 10.
    cost = f"{one.server_us:.0f}" if one.server_us >= 9.95 else f"{one.server_us:.1f}"
    return f"{_short(one.rate)} ({cost} us){ratio}"


def _short(rate: float) -> str:
    if rate >= 999_500:
        return f"{rate / 1e6:.2f}M"
    return f"{rate / 1e3:.0f}k" if rate >= 9_950 else f"{rate / 1e3:.1f}k" if rate >= 1_000 else f"{rate:.0f}"


def _roles(figures: Sequence[Figures]) -> list[str]:
    named = {role for one in figures for role in one.cpu_us} - {GENERATOR, _ONLY_ROLE}
    return sorted(named, key=lambda role: (role not in _ROLE_ORDER, role))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of rates: what stands above it, and what one measurement has in it."""

    header: str
    cell: Callable[[Figures], str]


def _ratio(of: Callable[[Figures], float | None]) -> Callable[[Figures], str]:
    def cell(one: Figures) -> str:
        value = of(one)
        return "" if value is None else f"{value:.3f}"

    return cell


def _role_column(role: str) -> _Column:
    return _Column(f"{role} us", lambda one: f"{one.cpu_us[role]:.2f}" if role in one.cpu_us else "")


def _rates(figures: Sequence[Figures], rate: str) -> str:
    columns = [
        _Column("load", lambda one: one.load),
        _Column("server", lambda one: one.subject),
        _Column(rate, lambda one: f"{one.rate:,.0f}"),
        _Column("to floor", _ratio(lambda one: one.to_floor)),
        _Column("to Redis", _ratio(lambda one: one.to_redis)),
        _Column("to first", _ratio(lambda one: one.to_first)),
        _Column("p50 ms", lambda one: f"{one.p50_ms:.2f}"),
        _Column("p99 ms", lambda one: f"{one.p99_ms:.2f}"),
        _Column("max ms", lambda one: f"{one.max_ms:.1f}"),
        _Column("server us", lambda one: f"{one.server_us:.2f}"),
        *(_role_column(role) for role in (*_roles(figures), GENERATOR)),
        _Column("disk B/msg", lambda one: "" if one.subject == FLOOR else f"{one.disk_bytes:.0f}"),
        _Column("errors", lambda one: "" if one.subject == FLOOR else _errors(one)),
    ]
    shown = [column for column in columns if any(column.cell(one) for one in figures)]
    return _grid([column.header for column in shown], [[column.cell(one) for column in shown] for one in figures])


def _idle_grid(figures: Sequence[Figures]) -> str:
    roles = list(dict.fromkeys(name for one in figures for name in one.values if not name.endswith(" fresh")))
    rows = [[one.subject, *(_fresh_and_used(one.values, role) for role in roles), _errors(one)] for one in figures]
    return _grid(["server", *(role if role != _ONLY_ROLE else "its process" for role in roles), "errors"], rows)


def _values_grid(figures: Sequence[Figures]) -> str:
    """One row for each value, one column for each server."""
    names = dict.fromkeys(name for one in figures for name in one.values)
    rows = [[name, *(_plain(one.values[name]) if name in one.values else "" for one in figures)] for name in names]
    rows.append(["errors", *(_errors(one) for one in figures)])
    return _grid(["load", *(one.subject for one in figures)], rows)


def _waiting_grid(figures: Sequence[Figures]) -> str:
    """One row for each figure, one column for each server: few, many, and their ratio
    where one is made.
    """
    names = dict.fromkeys(
        name.removeprefix(f"{MANY} ") for one in figures for name in one.values if name.startswith(f"{MANY} ")
    )
    rows = [[name, *(_few_and_many(one.values, name) for one in figures)] for name in names]
    rows.append(["errors", *(_errors(one) for one in figures)])
    return _grid(["few | many | ratio", *(one.subject for one in figures)], rows)


def _few_and_many(values: Mapping[str, float], name: str) -> str:
    if f"{MANY} {name}" not in values:
        return ""
    cells = [_plain(values[f"{level} {name}"]) for level in (FEW, MANY)]
    ratio = values.get(f"{name.removesuffix(' s')} ratio")
    return " | ".join([*cells, "" if ratio is None else f"{ratio:.2f}"]).removesuffix(" | ")


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _fresh_and_used(values: Mapping[str, float], role: str) -> str:
    return f"{values[f'{role} fresh']:.0f} | {values[role]:.0f}" if role in values else ""


def _errors(one: Figures) -> str:
    return f"{one.errors:,} ({one.remark})" if one.remark else f"{one.errors:,}"


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side: text to the left, figures to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = {"load", "server", "few | many | ratio"}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in texts else cell.rjust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


# --- the files
# ------------------------------------------------------------------------------------------------


def fresh_path(folder: Path, date: str) -> Path:
    """A path for a run's JSON in `folder`, which is made: its name, and the same with
    .txt, do not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / (f"{date}.json" if number == 1 else f"{date}-{number}.json")
        if not path.exists() and not path.with_suffix(".txt").exists():
            return path
        number += 1


def keep(path: Path, results: Results) -> None:
    """Write the table and everything behind it to `path` and beside it; a file is there
    whole or as it was before.
    """
    for file, text in ((path, results.as_json()), (path.with_suffix(".txt"), results.table())):
        fresh = file.with_name(file.name + ".new")
        fresh.write_text(text)
        fresh.replace(file)


def _as_kept(one: Figures) -> Figures:
    """The same as a results file has it."""
    return Figures.from_json(_rounded(one.as_json()))


def _rounded(value: Any) -> Any:
    """Floats to eight significant digits, which is more than the table shows and less
    than noise.
    """
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
