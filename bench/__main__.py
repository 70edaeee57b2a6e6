"""`python -m bench`: measure the server under load and print one table. `--help` tells the choices.

Owns: arguments, signals, and putting the pieces together.
Promises: prints the table on stdout and progress on stderr; ends with 0, with 1 where anything was not as it should be
(an answer missing or wrong, a message too few), with 2 for arguments that can't be used. Nothing is left running.
"""

import argparse
import dataclasses
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from bench.generator import GeneratorFailed, find_generator
from bench.measure import DRAIN, FULL, IDLE, QUICK, STANDARD, Extent, measure_all, medians
from bench.messageu import MessageU
from bench.results import RESULTS_FOLDER, file_system_of, gather_facts, keep, table
from bench.subject import Shape, SubjectFailed

_PROJECT: Final = Path(__file__).resolve().parent.parent
_WORK_FOLDER: Final = Path(__file__).resolve().parent / ".work"
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_SPARE_DESCRIPTORS: Final = 1_000


def _shape(text: str) -> Shape | str:
    if text in {DRAIN, IDLE}:
        return text
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,3})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither CONNECTIONSxWINDOW nor {DRAIN} nor {IDLE}")
    return Shape(int(match[1]), int(match[2]))


def _server(text: str) -> MessageU:
    name, equals, folder = text.rpartition("=")
    path = Path(folder)
    try:
        return MessageU(name if equals else path.resolve().name, path)
    except SubjectFailed as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date YYYY-MM-DD") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure MessageU under load; see docs/benchmarks.md.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, judges no time")
    size.add_argument("--full", action="store_true", help="1x32, 1000x1 and 1000x32 too")
    parser.add_argument(
        "--only",
        metavar="LOAD",
        type=_shape,
        action="append",
        help=f"only this load: CONNECTIONSxWINDOW, {DRAIN} or {IDLE}; may be given several times",
    )
    parser.add_argument("--rounds", metavar="N", type=int, help="the median of so many rounds is told (3)")
    parser.add_argument("--seconds", metavar="S", type=float, help="how long each load of sends lasts (3)")
    parser.add_argument(
        "--server",
        metavar="[NAME=]FOLDER",
        type=_server,
        action="append",
        help="code folder of the server, this project by default; several are measured in turn and compared",
    )
    parser.add_argument(
        "--disk", metavar="FOLDER", type=Path, help="where the stores are made and removed again (bench/.work)"
    )
    parser.add_argument("--close-each", action="store_true", help="drain with a new connection for each request")
    parser.add_argument("--python-generator", action="store_true", help="do not use the C compiler")
    parser.add_argument("--date", type=_date, help="the date the results are filed under (today, UTC)")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where results are kept (bench/results)")
    parser.add_argument("--no-keep", action="store_true", help="keep no files; --quick keeps none unless told where")
    return parser


def _extent(options: argparse.Namespace) -> Extent:
    extent = QUICK if options.quick else FULL if options.full else STANDARD
    if options.rounds is not None:
        extent = dataclasses.replace(extent, rounds=max(1, options.rounds))
    if options.seconds is not None:
        extent = dataclasses.replace(extent, run_time=min(60.0, max(0.05, options.seconds)))
    if options.close_each:
        extent = dataclasses.replace(extent, close_each=True)
    if options.only:
        extent = dataclasses.replace(
            extent,
            shapes=tuple(load for load in options.only if isinstance(load, Shape)),
            drained=extent.drained if DRAIN in options.only else 0,
            idle=extent.idle if IDLE in options.only else 0,
        )
    return extent


def _raise_descriptor_limit(extent: Extent) -> str:
    """Raise the limit for this process and what it starts; what has to be said when that is not enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max([extent.idle, *(shape.connections for shape in extent.shapes)]) + _SPARE_DESCRIPTORS
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return "" if wanted == needed else f"only {hard} open files are allowed here, {needed} are needed"


def _end(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep. The exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    extent = _extent(options)
    subjects = options.server or [MessageU("ours", _PROJECT)]
    if len({subject.name for subject in subjects}) < len(subjects):
        parser.error("two servers have the same name: use --server NAME=FOLDER")
    disk_folder: Path = options.disk or _WORK_FOLDER
    disk_folder.mkdir(parents=True, exist_ok=True)
    if file_system_of(disk_folder) in _IN_MEMORY and not options.quick:
        parser.error(f"{disk_folder} is in memory, where nothing waits for a disk: choose another with --disk FOLDER")
    too_few = _raise_descriptor_limit(extent)
    if too_few:
        parser.error(too_few)

    generator = find_generator(allow_compiler=not options.python_generator)
    if generator.remark:
        print(f"bench: {generator.remark}", file=sys.stderr)
    started_on = options.date or datetime.now(UTC).date().isoformat()
    versions = {subject.name: subject.version for subject in subjects}
    facts = gather_facts(started_on, versions, disk_folder, [generator.remark])
    run_folder = Path(tempfile.mkdtemp(dir=disk_folder))
    try:
        rounds = measure_all(subjects, generator, extent, run_folder, lambda line: print(line, file=sys.stderr))
    except (SubjectFailed, GeneratorFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(run_folder, ignore_errors=True)
    summary = medians(rounds)
    text = table(summary, extent, facts)
    print(text, end="")
    folder = options.keep or (None if options.quick else RESULTS_FOLDER)
    if folder is not None and not options.no_keep:
        print(f"kept: {keep(folder, facts, extent, rounds, summary, text).name}", file=sys.stderr)
    return 1 if any(figures.errors for figures in summary) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
