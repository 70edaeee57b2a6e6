"""Figures as a table for people and as files to compare later.

Owns: the table's text, the machine's facts, the files under `bench/results/`.
Promises: the files hold no host name and no absolute path; a file that exists is never written over.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from bench.measure import CONTENT_SIZE, DRAIN, FLOOR, IDLE, Extent, Figures

RESULTS_FOLDER: Final = Path(__file__).parent / "results"
_ROLE_ORDER: Final = ("gateway", "worker")
_GENERATOR: Final = "generator"


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
    """The type of the file system that holds `folder` ("ext4", "tmpfs" …); "unknown" where it can't be told."""
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


def table(figures: Sequence[Figures], extent: Extent, facts: Facts) -> str:
    """All medians as text, one paragraph for each kind."""
    sends = [one for one in figures if one.load not in {DRAIN, IDLE}]
    drains = [one for one in figures if one.load == DRAIN]
    idles = [one for one in figures if one.load == IDLE]
    parts = [_headline(facts, extent)]
    if sends:
        parts.append(
            f"{CONTENT_SIZE}-byte messages to {extent.recipients:,} offline recipients; connections x in flight\n"
            + _grid(_rate_header(sends, "acked/s"), [_rate_row(one, sends) for one in sends])
        )
    if drains:
        how = "a new connection for each 604" if extent.close_each else "connections kept"
        parts.append(
            f"Drain of {extent.drained:,} messages out of {extent.recipients:,} mailboxes over "
            f"{extent.drain_connections} connections, {how}; latency of a whole 2104\n"
            + _grid(_rate_header(drains, "messages/s"), [_rate_row(one, drains) for one in drains])
        )
    if idles:
        roles = _roles(idles)
        parts.append(
            f"{extent.idle:,} idle connections: resident bytes for each, only opened | after one 604\n"
            + _grid(
                ["server", *roles, "errors"],
                [
                    [
                        one.subject,
                        *(f"{one.memory_bytes[f'{role} fresh']:.0f} | {one.memory_bytes[role]:.0f}" for role in roles),
                        _errors(one),
                    ]
                    for one in idles
                ],
            )
        )
    return "\n\n".join(parts) + "\n"


def _headline(facts: Facts, extent: Extent) -> str:
    versions = ", ".join(f"{name} {version}".strip() for name, version in facts.versions.items())
    lines = [
        f"{facts.date}  {versions}",
        f"{facts.cores} cores, Linux {facts.kernel}, Python {facts.python}, {facts.file_system}; "
        f"median of {extent.rounds}, {extent.run_time:g} s each",
    ]
    return "\n".join([*lines, *facts.remarks])


def _roles(figures: Sequence[Figures]) -> list[str]:
    named = {role for one in figures for role in (*one.cpu_us, *one.memory_bytes) if not role.endswith(" fresh")}
    named.discard(_GENERATOR)
    return sorted(named, key=lambda role: (role not in _ROLE_ORDER, role))


def _rate_header(figures: Sequence[Figures], rate: str) -> list[str]:
    header = ["load", "server", rate, "p50 ms", "p99 ms", "max ms"]
    header += [f"{role} us" for role in [*_roles(figures), _GENERATOR]]
    header += ["disk B/msg", "to floor"]
    if any(one.to_first is not None for one in figures):
        header.append("to first")
    return [*header, "errors"]


def _rate_row(one: Figures, all_figures: Sequence[Figures]) -> list[str]:
    row = [one.load, one.subject, f"{one.rate:,.0f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.max_ms:.1f}"]
    roles = [*_roles(all_figures), _GENERATOR]
    row += [f"{one.cpu_us[role]:.2f}" if role in one.cpu_us else "" for role in roles]
    row.append("" if one.subject == FLOOR else f"{one.disk_bytes:.0f}")
    row.append("" if one.to_floor is None else f"{one.to_floor:.3f}")
    if any(other.to_first is not None for other in all_figures):
        row.append("" if one.to_first is None else f"{one.to_first:.2f}")
    return [*row, "" if one.subject == FLOOR else _errors(one)]


def _errors(one: Figures) -> str:
    return f"{one.errors:,} ({one.remark})" if one.remark else f"{one.errors:,}"


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side: text to the left, figures to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = {"load", "server"}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in texts else cell.rjust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def keep(
    folder: Path, facts: Facts, extent: Extent, rounds: Sequence[Figures], summary: Sequence[Figures], text: str
) -> Path:
    """Write the table and everything behind it to fresh files named by the date; the JSON file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "facts": asdict(facts),
        "extent": {**asdict(extent), "shapes": [str(shape) for shape in extent.shapes]},
        "medians": [one.as_json() for one in summary],
        "rounds": [one.as_json() for one in rounds],
    }
    path = _fresh_name(folder, facts.date)
    path.write_text(json.dumps(_rounded(content), indent=1) + "\n")
    path.with_suffix(".txt").write_text(text)
    return path


def _fresh_name(folder: Path, date: str) -> Path:
    number = 1
    while True:
        path = folder / (f"{date}.json" if number == 1 else f"{date}-{number}.json")
        if not path.exists() and not path.with_suffix(".txt").exists():
            return path
        number += 1


def _rounded(value: Any) -> Any:
    """Floats to five significant digits: what follows is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
