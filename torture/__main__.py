"""The torture's command line: `python -m torture [--minutes N] [--rounds N] [--seed S] [--quick]
[--store KIND] [--only DRILL ...]`.

Owns: which drills run, in which order, how long. Promises: exit code 0 if every drill passed, 1 if
one failed; the table goes to stdout, everything else to stderr. Who asks it to end (SIGINT,
SIGTERM) breaks the drill off that runs, and gets the table of those that came to their end.
Exposure: the arguments of whoever runs it.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from torture import (
    cancelled_commits,
    damaged_files,
    deaths_at_points,
    deletions,
    failing_disk,
    failover,
    fairness,
    floods,
    hostile_keys,
    impersonation,
    kills_while_ratcheting,
    lying_server,
    malicious_exports,
    many_sources,
    online_backups,
    orderly_stops,
    over_tls,
    partition,
    power_cuts,
    published_clients,
    random_kills,
    real_clients,
    restored_backup,
    sharded_kills,
    small_disk,
    stale_worker,
    stolen_home,
)
from torture.drill import Drill, Place, Row, broken_off, say
from torture.stores import EMBEDDED, KINDS, POSTGRESQL, PostgresStores, choose, chosen
from torture.table import table

FULL_MINUTES: Final = 10.0
"""The minutes of random kills at which every other drill runs in full."""
DRILLS: Final[Mapping[str, Drill]] = {
    random_kills.NAME: random_kills.run,
    real_clients.NAME: real_clients.run,
    kills_while_ratcheting.NAME: kills_while_ratcheting.run,
    kills_while_ratcheting.CONTROL: kills_while_ratcheting.run_control,
    stolen_home.NAME: stolen_home.run,
    deaths_at_points.NAME: deaths_at_points.run,
    published_clients.NAME: published_clients.run,
    published_clients.RESTARTS: published_clients.run_with_server_kills,
    published_clients.CONTROL: published_clients.run_control,
    power_cuts.NAME: power_cuts.run,
    power_cuts.CONTROL: power_cuts.run_control,
    failing_disk.NAME: failing_disk.run,
    small_disk.NAME: small_disk.run,
    impersonation.NAME: impersonation.run,
    over_tls.HALVES: over_tls.run_halves,
    over_tls.MIDDLEMAN: over_tls.run_middleman,
    orderly_stops.STOPS: orderly_stops.run_stops,
    orderly_stops.STANDSTILL: orderly_stops.run_standstill,
    orderly_stops.GATEWAY_STANDSTILL: orderly_stops.run_gateway_standstill,
    restored_backup.NAME: restored_backup.run,
    online_backups.NAME: online_backups.run,
    online_backups.CONTROL: online_backups.run_control,
    deletions.NAME: deletions.run,
    deletions.CONTROL: deletions.run_control,
    hostile_keys.NAME: hostile_keys.run,
    lying_server.NAME: lying_server.run,
    lying_server.CONTROL: lying_server.run_control,
    floods.NAME: floods.run,
    many_sources.NAME: many_sources.run,
    fairness.NAME: fairness.run,
    malicious_exports.NAME: malicious_exports.run,
    damaged_files.NAME: damaged_files.run,
    damaged_files.CONTROL: damaged_files.run_control,
    failover.NAME: failover.run,
    failover.CONTROL: failover.run_control,
    stale_worker.NAME: stale_worker.run,
    stale_worker.CONTROL: stale_worker.run_control,
    cancelled_commits.NAME: cancelled_commits.run,
    cancelled_commits.CONTROL: cancelled_commits.run_control,
    partition.NAME: partition.run,
    partition.CONTROL: partition.run_control,
    sharded_kills.NAME: sharded_kills.run,
}
OF_THE_EMBEDDED_STORE: Final = frozenset(
    {
        power_cuts.NAME,
        power_cuts.CONTROL,
        failing_disk.NAME,
        small_disk.NAME,
        restored_backup.NAME,
        online_backups.NAME,
        online_backups.CONTROL,
        deletions.NAME,
        deletions.CONTROL,
        damaged_files.NAME,
        damaged_files.CONTROL,
    }
)
"""They look at files of its own, or break its disk: in PostgreSQL that is PostgreSQL's part."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="torture",
        description="Kill, cut and fill the MessageU server, and count what is lost, doubled or wrong.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=FULL_MINUTES,
        metavar="N",
        help="minutes of random kills; less than %(default)g shrinks the other drills too (default: %(default)g)",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="rounds of the drills that count them, such as failover"
    )
    parser.add_argument(
        "--store",
        choices=KINDS,
        default=EMBEDDED,
        help="where the servers keep their mail; the last nine drills have PostgreSQL anyway (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="seed of all choices (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few seconds of each drill")
    parser.add_argument(
        "--only", action="append", choices=list(DRILLS), metavar="DRILL", help=f"of: {', '.join(DRILLS)}; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this folder and leave it as it is at the end")
    found = parser.parse_args(arguments)
    if found.minutes <= 0:
        parser.error("--minutes is more than 0")
    if found.rounds is not None and found.rounds <= 0:
        parser.error("--rounds is more than 0")
    if found.store != EMBEDDED:
        files = sorted(OF_THE_EMBEDDED_STORE.intersection(found.only or ()))
        if files:
            parser.error(f"these drills are of the embedded store alone: {', '.join(files)}")
        found.only = found.only or [name for name in DRILLS if name not in OF_THE_EMBEDDED_STORE]
    return found


def perform(name: str, drill: Callable[[Place], Row], place: Place) -> Row:
    """Run one drill; one that breaks off has failed."""
    say(f"{name} …")
    began = time.monotonic()
    try:
        row = drill(place)
    except Exception as error:
        say(traceback.format_exc())
        row = broken_off(name, str(error))
    say(f"  {name}: {'passed' if row.passed else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drills and print the table; return the exit code."""
    settings = parse(arguments)
    folder: Path = settings.keep or Path(tempfile.mkdtemp(prefix="messageu-torture-"))
    place = Place(folder, settings.seed, settings.minutes / FULL_MINUTES, settings.quick, settings.rounds)
    rows: list[Row] = []
    wanted = [name for name in DRILLS if name in (settings.only or DRILLS)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with PostgresStores() if settings.store == POSTGRESQL else nullcontext(chosen()) as stores:
            choose(stores)
            for name in wanted:
                rows.append(perform(name, DRILLS[name], place))  # noqa: PERF401 - those before one that breaks off count
    except KeyboardInterrupt:
        rows += [broken_off(name, "somebody ended it") for name in wanted[len(rows) : len(rows) + 1]]
    finally:
        if settings.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(f"\nseed {settings.seed}\n{table(rows)}")
    if settings.json is not None:
        settings.json.write_text(json.dumps([_as_json(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def _as_json(row: Row) -> dict[str, object]:
    verdict = row.verdict
    numbers = {
        "kills": row.kills,
        "acknowledged": verdict.acknowledged,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "unexpected": len(verdict.unexpected),
        "out of order": len(verdict.out_of_order),
    }
    return {
        "drill": row.drill,
        **{name: number if row.counted else None for name, number in numbers.items()},
        "passed": row.passed,
        "note": row.note,
    }


if __name__ == "__main__":
    sys.exit(main())
