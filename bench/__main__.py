"""`python -m bench`: measure the server under load and print one table. `--help` lists the choices.

Owns: arguments, signals, and putting the pieces together.
Promises: prints the table on stdout and progress on stderr; exits with 0, with 1 if anything was
wrong (an answer missing or wrong, a message missing), or with 2 for arguments that can't be used.
Nothing is left running.
"""

import argparse
import dataclasses
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

from bench import suite
from bench.figures import Figures
from bench.generator import Generator, find_generator
from bench.install import install, install_wheels
from bench.loads import OTHERS, QUICK, WHOLE, Extent, Idle, Load, Sends, load_named
from bench.measure import measure_all
from bench.messageu import MessageU
from bench.plots import plot
from bench.results import RESULTS_FOLDER, Results, file_system_of, fresh_path, gather_facts, keep
from bench.rivals import ALWAYS, RIVALS, WHEELS_FOLDER
from bench.subject import Subject, SubjectFailed

_PROJECT: Final = Path(__file__).resolve().parent.parent
_WORK_FOLDER: Final = Path(__file__).resolve().parent / ".work"
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_SPARE_DESCRIPTORS: Final = 1_000


def _load(text: str) -> Load:
    try:
        return load_named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure MessageU under load; see docs/benchmarks.md. `suite` as the only word "
        "before its own options measures the cipher suites.",
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, judges no time")
    parser.add_argument("--all", action="store_true", help="beside every rival, not only Redis with AOF always")
    parser.add_argument(
        "--rival",
        choices=[*RIVALS, "none"],
        action="append",
        help="only beside this rival; may be given several times; none: alone",
    )
    parser.add_argument(
        "--only",
        metavar="LOAD",
        type=_load,
        action="append",
        help=f"only this load: CONNECTIONSxWINDOW, @4K or @1M behind it for larger messages, "
        f"{', '.join(map(str, OTHERS))}; may be given several times",
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
    parser.add_argument(
        "--tls",
        action="store_true",
        help="measure each server over TLS too; both by the generator in Python, without rivals unless named",
    )
    parser.add_argument(
        "--limits",
        action="store_true",
        help="measure each server with limits for everybody too, so wide that they refuse nothing",
    )
    parser.add_argument(
        "--store",
        choices=["postgresql"],
        help="measure each server with its store in PostgreSQL too, beside PostgreSQL itself unless others are named",
    )
    parser.add_argument(
        "--requests",
        choices=["published", "extension", "both"],
        help="what our server is loaded with: 603 and 604 of the published protocol, 642 and 643 of our own client, "
        "or each in turn (both; with --tls, --limits, --close-each and --store: published)",
    )
    parser.add_argument(
        "--python",
        metavar="PROGRAM",
        type=Path,
        action="append",
        help="measure each server run by this interpreter too, which has its packages; may be given several times",
    )
    parser.add_argument("--python-generator", action="store_true", help="do not use the C compiler")
    parser.add_argument(
        "--profile",
        metavar="FOLDER",
        type=Path,
        help="profile our programs into files there; best with --only LOAD --rival none --rounds 1",
    )
    parser.add_argument("--date", type=_date, help="the date the results are filed under (today, UTC)")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where results are kept (bench/results)")
    parser.add_argument("--no-keep", action="store_true", help="keep no files; --quick keeps none unless told where")
    parser.add_argument("--install", action="store_true", help="get the rivals from the system's packages, and end")
    parser.add_argument("--table", metavar="FILE", type=Path, nargs="+", help="print the tables of kept files again")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the rates and p99 of the first --table into this SVG file"
    )
    return parser


def variants(servers: list[MessageU], options: argparse.Namespace) -> tuple[list[MessageU], dict[str, str]]:
    """Each server in every way in which it is to be loaded; and with which other one each is
    compared: the first server in the same way, or, where there is one server, its first way.
    """
    if options.store:
        servers = [one for server in servers for one in (server, server.over_postgres())]
    servers = [one for server in servers for one in (server, *(server.run_by(path) for path in options.python or ()))]
    requests = options.requests or ("published" if options.close_each or options.store else "both")
    if options.tls:
        ways = [[server, server.over_tls()] for server in servers]
    elif options.limits:
        ways = [[server, server.limited()] for server in servers]
    elif requests == "published":
        ways = [[server] for server in servers]
    elif requests == "extension":
        ways = [[server.by_extension()] for server in servers]
    else:
        ways = [[server, server.by_extension()] for server in servers]
    if len(servers) == 1:
        firsts = {other.name: ways[0][0].name for other in ways[0][1:]}
    else:
        firsts = {other.name: first.name for way in ways[1:] for other, first in zip(way, ways[0], strict=True)}
    return [one for way in ways for one in way], firsts


def _extent(options: argparse.Namespace) -> Extent:
    extent: Extent = QUICK if options.quick else WHOLE
    if options.rounds is not None:
        extent = dataclasses.replace(extent, rounds=max(1, options.rounds))
    if options.seconds is not None:
        extent = dataclasses.replace(extent, run_time=min(60.0, max(0.05, options.seconds)))
    if options.close_each:
        extent = dataclasses.replace(extent, close_each=True)
    if options.only:
        extent = dataclasses.replace(extent, loads=tuple(dict.fromkeys(options.only)))
    return extent


def _rivals(options: argparse.Namespace, generator: Generator) -> tuple[list[Subject], list[str]]:
    """The rivals that can be measured, and what is to be said of the others."""
    names = list(RIVALS) if options.all else [] if options.quick or options.tls else list(ALWAYS)
    if options.store and not (options.all or options.quick or options.tls):
        names = ["postgres"]
    if options.rival:
        names = [name for name in RIVALS if name in options.rival]
    able: list[Subject] = []
    remarks = []
    for rival in (RIVALS[name] for name in names):
        if rival.missing:
            remarks.append(f"{rival.name}: {rival.missing}; scripts/bench --install gets it")
        elif rival.dialect not in generator.dialects:
            remarks.append(f"{rival.name}: only the generator in C speaks to it")
        else:
            able.append(rival)
    return able, remarks


def _raise_descriptor_limit(extent: Extent) -> str:
    """Raise the limit for this process and what it starts; what has to be said when that
    is not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    counts = [load.shape.connections for load in extent.loads if isinstance(load, Sends)]
    counts += [extent.idle] if Idle() in extent.loads else []
    needed = max([extent.drain_connections, *counts]) + _SPARE_DESCRIPTORS
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return "" if wanted == needed else f"only {hard} open files are allowed here, {needed} are needed"


def _end(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


def _print_tables(paths: Sequence[Path], picture: Path | None, parser: argparse.ArgumentParser) -> int:
    for number, path in enumerate(paths):
        try:
            results = Results.from_json(path.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} can't be read as a results file: {error}")
        print(("\n" if number else "") + results.table(), end="")
        if picture is not None and number == 0:
            try:
                picture.write_text(plot(results.medians()))
            except (OSError, ValueError) as error:
                parser.error(f"{path} can't be drawn into {picture}: {error}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep. The exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["suite"]:
        return suite.main(given[1:])
    parser = make_parser()
    options = parser.parse_args(given)
    if options.install:
        problem = install(list(dict.fromkeys(name for rival in RIVALS.values() for name in rival.packages)))
        wheels = [wheel for rival in RIVALS.values() for wheel in rival.wheels]
        problem = problem or install_wheels(wheels, WHEELS_FOLDER)
        print(f"bench: {problem}" if problem else "bench: the rivals are installed", file=sys.stderr)
        return 1 if problem else 0
    if options.table:
        return _print_tables(options.table, options.plot, parser)
    if options.plot:
        parser.error("--plot draws what --table FILE names")
    extent = _extent(options)
    servers: list[MessageU] = options.server or [MessageU("ours", _PROJECT)]
    if options.requests in {"extension", "both"} and (options.tls or options.limits or options.close_each):
        parser.error("--tls, --limits and --close-each are measured with --requests published")
    if options.limits and (options.tls or options.store):
        parser.error("--limits goes with neither --tls nor --store")
    servers, firsts = variants(servers, options)
    lacking = [server.missing for server in servers if server.missing]
    if lacking:
        parser.error(f"--store: {lacking[0]}; scripts/bench --install gets it")
    for server in servers if options.profile else ():
        server.profile_into(options.profile)
    names = [subject.name for subject in [*servers, *RIVALS.values()]]
    if len(set(names)) < len(names):
        parser.error("two servers have the same name: use --server NAME=FOLDER")
    disk_folder: Path = options.disk or _WORK_FOLDER
    disk_folder.mkdir(parents=True, exist_ok=True)
    if file_system_of(disk_folder) in _IN_MEMORY and not options.quick:
        parser.error(f"{disk_folder} is in memory, where nothing waits for a disk: choose another with --disk FOLDER")
    too_few = _raise_descriptor_limit(extent)
    if too_few:
        parser.error(too_few)

    generator = find_generator(allow_compiler=not (options.python_generator or options.tls))
    rivals, remarks = _rivals(options, generator)
    remarks = [remark for remark in [generator.remark, *remarks] if remark]
    for remark in remarks:
        print(f"bench: {remark}", file=sys.stderr)
    subjects = [*servers, *rivals]
    started_on = options.date or datetime.now(UTC).date().isoformat()
    versions = {subject.name: subject.version for subject in subjects}
    results = Results(gather_facts(started_on, versions, disk_folder, remarks), extent, [])
    folder = options.keep or (None if options.quick else RESULTS_FOLDER)
    path = None if folder is None or options.no_keep else fresh_path(folder, started_on)

    def take(figures: Sequence[Figures]) -> None:
        results.rounds.extend(figures)
        if path is not None:
            keep(path, results)

    run_folder = Path(tempfile.mkdtemp(dir=disk_folder))
    # PostgreSQL, which does not run as root, has a folder of its own in it.
    run_folder.chmod(0o755)
    interrupted = False
    try:
        measure_all(subjects, generator, extent, run_folder, lambda line: print(line, file=sys.stderr), take, firsts)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        shutil.rmtree(run_folder, ignore_errors=True)
    print(results.table(), end="")
    if path is not None and path.exists():
        print(f"kept: {path.name}", file=sys.stderr)
    if interrupted:
        return 130
    return 1 if any(figures.errors for figures in results.rounds) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
