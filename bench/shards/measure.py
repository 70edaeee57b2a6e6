"""The cost of a message with so many shards: processor time of gateway, workers and PostgreSQL.

Owns: one measurement: the programs of it, from an empty store, under a fixed load for each shard.
Promises: processor time is what the system counts for each process, so it is right on a machine
that is too small for so many workers, or busy with other things; latencies are not, and say only
that the load was served.
Exposure: 127.0.0.1 only.
"""

import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import urlopen

import psutil

from bench.messageu import register
from bench.rivals.postgres import started
from bench.shards.load import Load, Outcome
from bench.subject import SubjectFailed
from common.shards import shard_of
from common.values import ClientId
from storage_worker import admin
from torture.programs import Program, free_port
from torture.sharded_server import ShardedServer

_ANSWER_SECONDS: Final = 10.0
_USERS_PER_SHARD: Final = 64
_CONNECTIONS_PER_SHARD: Final = 4
_FLUSHED_AFTER: Final = 3.0
"""Seconds, in which the workers flush their journals."""
_PARTS: Final = ("gateway", "worker", "postgresql")


class Plan(NamedTuple):
    """A load: `burst` messages for each shard, each `period` seconds, for `seconds` after
    `warm_up`.
    """

    burst: int = 400
    period: float = 0.5
    seconds: float = 20.0
    warm_up: float = 4.0
    gateways: int = 1
    connections: int = 0
    """In all; 0: `_CONNECTIONS_PER_SHARD`."""


class Cost(NamedTuple):
    """What was measured with `shards` shards. `batches`: for each message. Processor time in
    microseconds a message; latencies in milliseconds.
    """

    shards: int
    burst: int
    gateways: int
    messages: int
    batches: float
    gateway: float
    worker: float
    postgresql: float
    median: float
    p99: float

    @property
    def all(self) -> float:
        """Of all programs."""
        return self.gateway + self.worker + self.postgresql


class Death(NamedTuple):
    """The same load before a worker died, and while it was away. Rates: accepted of sent."""

    shards: int
    before: float
    accepted: float
    refused: float
    p99_before: float
    p99: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Running:
    """A server with users and a load."""

    def __init__(self, server: ShardedServer, database: int, plan: Plan, status_port: int) -> None:
        self._status_port = status_port
        self._database = psutil.Process(database)
        self.server = server
        self.plan = plan
        chance = random.Random(server.shards)
        users = _as_many_of_each(
            register(server.port, [f"user {number}" for number in range(_USERS_PER_SHARD * server.shards)]),
            server.shards,
        )
        connections = plan.connections or _CONNECTIONS_PER_SHARD * server.shards
        self.load = Load(server.ports, users, connections, plan.burst * server.shards // connections, chance)
        self.users: Sequence[ClientId] = users

    def processor_seconds(self) -> dict[str, float]:
        """So far, of each kind of program."""
        of_gateways = [seconds_of(psutil.Process(program.pid)) for program in self.server.gateways]
        of_workers = [seconds_of(psutil.Process(program.pid)) for program in self.server.workers if program.running]
        database = [self._database, *self._database.children(recursive=True)]
        return dict(
            zip(_PARTS, (sum(of_gateways), sum(of_workers), sum(seconds_of(one) for one in database)), strict=True)
        )

    def batches(self) -> int:
        """That the first gateway has sent."""
        with urlopen(f"http://127.0.0.1:{self._status_port}/metrics", timeout=_ANSWER_SECONDS) as page:
            text = page.read().decode()
        return sum(int(float(value)) for value in re.findall(r"^messageu_gateway_batches_total (\S+)$", text, re.M))

    def run(self, seconds: float) -> Outcome:
        """Load it."""
        return self.load.run(seconds, self.plan.period)


def _as_many_of_each(users: Sequence[ClientId], shards: int) -> list[ClientId]:
    """As many users of each shard as there are of the one that has the fewest, in turn."""
    of_shards: list[list[ClientId]] = [[] for _ in range(shards)]
    for user in users:
        of_shards[shard_of(user, shards)].append(user)
    return [user for together in zip(*of_shards, strict=False) for user in together]


def seconds_of(process: psutil.Process) -> float:
    """Of all threads, by the scheduler's clock: that of `cpu_times` has steps of 10 ms."""
    found = 0
    try:
        for thread in process.threads():
            found += int(Path(f"/proc/{process.pid}/task/{thread.id}/schedstat").read_text().split()[0])
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        # An autovacuum, say: it is counted as long as it is there.
        return 0.0
    return found / 1e9


def with_server(folder: Path, shards: int, plan: Plan, use: Callable[[Running], None]) -> None:
    """Start everything, use it, end it. Raises `SubjectFailed`, `ProgramFailed` and `OSError`."""
    # PostgreSQL's user has to reach its own folder.
    folder.chmod(0o755)
    with started(folder / "postgresql", "server") as (port, process_ids):
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        for number in range(shards):
            if admin.main(["store", "create", "--store", url, "--shard", f"{number}/{shards}", "--json"]):
                raise SubjectFailed(f"shard {number} can't be made")
        arguments = ("--limits", "off", "--log-level", "warning")
        status_port = free_port()
        with ShardedServer(
            folder / "server", url, shards, plan.gateways, gateway_arguments=arguments, worker_arguments=arguments[2:]
        ) as server:
            server.gateways[0].arguments += ["--metrics", f"127.0.0.1:{status_port}"]
            server.start()
            running = Running(server, process_ids["server"], plan, status_port)
            try:
                use(running)
            finally:
                running.load.close()


def cost(folder: Path, shards: int, plan: Plan) -> Cost:
    """Measure the cost of a message."""
    found: list[Cost] = []

    def use(running: Running) -> None:
        running.run(plan.warm_up)
        before, batches = running.processor_seconds(), running.batches()
        outcome = running.run(plan.seconds)
        batches = running.batches() - batches
        # What the journals hold goes into pages now: it is a part of the cost.
        time.sleep(_FLUSHED_AFTER)
        after = running.processor_seconds()
        if outcome.accepted != outcome.sent:
            raise SubjectFailed(f"{outcome.sent - outcome.accepted} of {outcome.sent} messages were not accepted")
        gateway, worker, postgresql = [(after[part] - before[part]) * 1e6 / outcome.accepted for part in _PARTS]
        median, p99 = [percentile(outcome.latencies, share) * 1000 for share in (0.5, 0.99)]
        each = batches / outcome.accepted
        found.append(
            Cost(shards, plan.burst, plan.gateways, outcome.accepted, each, gateway, worker, postgresql, median, p99)
        )

    with_server(folder, shards, plan, use)
    return found[0]


def death(folder: Path, shards: int, plan: Plan) -> Death:
    """Measure the same load while the last worker is dead."""
    found: list[Death] = []

    def use(running: Running) -> None:
        running.run(plan.warm_up)
        before = running.run(plan.seconds)
        victim: Program = running.server.workers[-1]
        victim.kill()
        # From now on what is for it is refused, after a second at first.
        running.run(plan.warm_up)
        outcome = running.run(plan.seconds)
        found.append(
            Death(
                shards,
                before.accepted / before.sent,
                outcome.accepted / outcome.sent,
                outcome.refused / outcome.sent,
                percentile(before.latencies, 0.99) * 1000,
                percentile(outcome.latencies, 0.99) * 1000,
            )
        )

    with_server(folder, shards, plan, use)
    return found[0]
