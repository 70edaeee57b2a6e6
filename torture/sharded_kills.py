"""Drill: kill -9 of workers, gateways, senders and receivers of a server with several shards.

Owns: who dies when. Promises: what was acknowledged is there, once, whichever shard, the directory
among them, was away; a shard that is away is refused, and its clients come back by themselves.
Exposure: none.
"""

import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from cluster.postgres import DATABASE, Address, Node
from torture.cast import Cast, extension_cast
from torture.drill import Place, Row
from torture.random_kills import kill_one
from torture.replicated import make_store
from torture.sharded_server import ShardedServer

NAME: Final = "random-kills-of-shards"
_SHARDS: Final = 4
_GATEWAYS: Final = 2
_WEIGHTS: Final = {"worker": 30, "gateway": 14, "sender": 28, "receiver": 28}
_FULL_KILLS: Final = 1_000
_QUICK_KILLS: Final = 16
_PAUSE: Final = 0.25
"""Seconds between two kills, on average."""
_LOOK_AFTER: Final = 8


def _perform(place: Place, server: ShardedServer, cast: Cast) -> Row:
    chance = place.chance(NAME)
    killed: Counter[str] = Counter()
    kills = place.rounds_of(_FULL_KILLS, _QUICK_KILLS)
    before = 0
    try:
        cast.start()
        while killed.total() < kills:
            time.sleep(chance.expovariate(1 / _PAUSE))
            cast.look_for_deaths()
            killed[kill_one(cast, chance, _WEIGHTS, server.workers, server.gateways)] += 1
            if killed.total() % _LOOK_AFTER == 0:
                before = cast.await_more(1, before)
        cast.finish()
        note = ", ".join(f"{who} {number}" for who, number in sorted(killed.items()))
        return cast.row(NAME, killed.total(), f"{_SHARDS} shards, {_GATEWAYS} gateways; {note}")
    finally:
        cast.end()


def run(place: Place) -> Row:
    """Four shards in one PostgreSQL, two gateways."""
    folder = Path(tempfile.mkdtemp(prefix="messageu-pg-", dir="/tmp"))
    folder.chmod(0o711)
    node = Node("one", folder / "one", Address(str(folder / "one")), durable=False)
    try:
        node.make()
        node.configure()
        node.start()
        node.tell(f"CREATE DATABASE {DATABASE} TEMPLATE template0", "postgres")
        for shard in range(_SHARDS):
            make_store(node.url(), shard=f"{shard}/{_SHARDS}")
        server = ShardedServer(place.folder_of(NAME) / "server", node.url(), _SHARDS, _GATEWAYS)
        server.start()
        return _perform(place, server, extension_cast(place, NAME, server, server.ports[1:]))
    finally:
        node.kill()
        shutil.rmtree(folder, ignore_errors=True)
