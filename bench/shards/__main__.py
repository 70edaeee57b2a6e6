"""`scripts/shards`: what a message costs with several shards, and what that means for many.

Owns: the command line, and the files of results. Promises: nothing in docs/ changes without
--write; a measurement that failed ends it with code 1 and a sentence.
Exposure: whoever runs it; 127.0.0.1 only.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from bench.rivals.postgres import Postgres
from bench.shards import pages
from bench.shards.batches import cost_of_batch
from bench.shards.measure import Cost, Death, Plan, cost, death
from bench.shards.model import Costs, Model, Point, loads
from bench.subject import SubjectFailed
from torture.programs import ProgramFailed

ROOT: Final = Path(__file__).resolve().parent.parent.parent
RESULTS: Final = ROOT / "bench" / "results" / "shards.json"
PAGE: Final = ROOT / "docs" / "scaling.md"
SIMULATED: Final = tuple(2**exponent for exponent in range(9))
_SEED: Final = 1
_TURNS: Final = 400
_OF_DEATH: Final = 4
_MICRO: Final = 1e-6

Found = TypeVar("Found")


def _in_folder(measure: Callable[[Path], Found]) -> Found:
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "measured"
        place.mkdir()
        return measure(place)


def _machine() -> str:
    cpus = os.cpu_count() or 1
    return f"a virtual machine with {cpus} shared processors, Python {sys.version.split()[0]}, PostgreSQL"


def _gateway_batch(costs: list[Cost]) -> tuple[float, float]:
    """A message and a batch, in microseconds of the gateway, of two loads that differ in
    batches.
    """
    few, many = costs
    batch = (many.gateway - few.gateway) / (many.batches - few.batches)
    return max(few.gateway - batch * few.batches, 0.0), batch


def simulate(
    measured: list[Cost], of_gateway: tuple[float, float], batch_of_worker: float, users: int, commit: float
) -> list[Point]:
    """The simulation with measured costs, in microseconds; `commit` in seconds."""
    largest = measured[-1]
    message, batch = of_gateway
    model = Model(
        Costs(0.0, batch * _MICRO, message * _MICRO),
        # All that PostgreSQL does counts for the worker's turn: it waits for most of it.
        Costs(commit, batch_of_worker * _MICRO, (largest.worker + largest.postgresql) * _MICRO),
    )
    chance = random.Random(_SEED)
    by_first_byte = loads(users, chance)
    return [model.at(shards, by_first_byte, _TURNS, chance) for shards in SIMULATED]


def main(arguments: list[str] | None = None) -> int:
    """Measure, simulate, write; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/shards", allow_abbrev=False, description=__doc__.split("\n")[0])
    parser.add_argument("--shards", default="1,2,4,8,16", help="numbers of shards to measure (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=2, help="take the cheapest of so many (default: %(default)s)")
    parser.add_argument("--users", type=int, default=10_000_000, help="of the simulation (default: %(default)s)")
    parser.add_argument("--commit-ms", type=float, default=2.0, help="how long a commit takes in the simulation")
    parser.add_argument("--write", action="store_true", help="put tables and pictures into docs/scaling.md")
    parser.add_argument("--again", action="store_true", help="measure nothing: use the results of the last run")
    options = parser.parse_args(arguments)
    if options.again:
        kept = json.loads(RESULTS.read_text())
    else:
        missing = Postgres().missing
        if missing:
            sys.stderr.write(f"{missing}: apt-get install postgresql\n")
            return 1
        try:
            kept = _measured([int(number) for number in options.shards.split(",")], options.seconds, options.repeat)
        except (SubjectFailed, ProgramFailed, OSError) as error:
            sys.stderr.write(f"the measurement failed: {error}\n")
            return 1
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    costs = [Cost(*one) for one in kept["costs"]]
    of_gateway = _gateway_batch([Cost(*one) for one in kept["of_gateway"]])
    commit = options.commit_ms / 1000
    points = simulate(costs, of_gateway, kept["batch_of_worker"], options.users, commit)
    results = pages.Results(
        kept["machine"],
        costs,
        kept["batch_of_worker"],
        of_gateway[1],
        commit,
        options.users,
        points,
        Death(*kept["death"]),
    )
    sys.stdout.write(pages.tables(results) + "\n")
    if options.write:
        PAGE.write_text(pages.put_into(PAGE.read_text(), pages.tables(results)))
        for name, picture in pages.pictures(results).items():
            (PAGE.parent / name).write_text(picture)
    return 0


def _measured(numbers: list[int], seconds: float, repeat: int) -> dict[str, object]:
    def told(one: Found) -> Found:
        sys.stderr.write(f"{one}\n")
        return one

    def of(shards: int, plan: Plan) -> Cost:
        # Whatever else runs on the machine makes it dearer, never cheaper.
        found = [told(_in_folder(lambda folder: cost(folder, shards, plan))) for _ in range(repeat)]
        return min(found, key=lambda one: one.all)

    plan = Plan(seconds=seconds)
    costs = [of(shards, plan) for shards in numbers]
    # As many messages on as many connections, to two shards and to sixteen.
    of_gateway = [of(shards, plan._replace(burst=400 // shards, connections=8)) for shards in (2, 16)]
    return {
        "machine": _machine(),
        "costs": costs,
        "of_gateway": of_gateway,
        "batch_of_worker": told(_in_folder(cost_of_batch)),
        "death": told(_in_folder(lambda folder: death(folder, _OF_DEATH, plan))),
    }


if __name__ == "__main__":
    sys.exit(main())
