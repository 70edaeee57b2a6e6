"""A server over PostgreSQL with a standby, for drills.

Owns: the two PostgreSQL servers, the store in them, and who counts what was acknowledged.
Promises: what was started has ended when the `with` is left.
Exposure: none.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from cluster.postgres import Address, Pair
from torture.actors import acknowledged_in
from torture.caller import Account, Caller, token_of
from torture.cast import Cast
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, ProgramFailed, Server, wait_until

_TRY_AGAIN: Final = 0.01


def make_store(url: str, prefix: Sequence[str] = (), shard: str = "0/1") -> None:
    """`messageu-admin store create` of one shard, behind a command. Raises `ProgramFailed`."""
    done = subprocess.run(
        [
            *prefix,
            sys.executable,
            "-P",
            "-m",
            "storage_worker.admin",
            "store",
            "create",
            "--store",
            url,
            "--shard",
            shard,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    if done.returncode:
        raise ProgramFailed(f"the store was not made: {done.stderr}")


class Site:
    """The two PostgreSQL servers with an empty store; `server` starts programs over it.
    `own_prefix`: a command behind which they are reached at their addresses.
    """

    def __init__(
        self,
        folder: Path,
        addresses: Sequence[Address] = (),
        prefixes: Sequence[Sequence[str]] = ((), ()),
        own_prefix: Sequence[str] = (),
    ) -> None:
        self._own_prefix = own_prefix
        self.folder = folder
        # Another user has to come to it, and the path of a socket is short.
        self._postgres = Path(tempfile.mkdtemp(prefix="messageu-pg-", dir="/tmp"))
        self.pair = Pair(self._postgres, addresses=addresses, prefixes=prefixes)
        self._servers: list[Server] = []

    def __enter__(self) -> Self:
        try:
            self.pair.make()
            make_store(self.pair.url(), self._own_prefix)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.end()
        self.pair.end()
        shutil.rmtree(self._postgres, ignore_errors=True)

    def server(
        self, name: str = "server", user: str = "postgres", slot: int = 0, worker_module: str = "storage_worker"
    ) -> Server:
        """A gateway and a worker with a data folder of their own; they are not started."""
        server = Server(
            self.folder / name,
            store=("--store", self.pair.url(user)),
            gateway_arguments=("--slot", str(slot)),
            worker_module=worker_module,
        )
        self._servers.append(server)
        return server


def acknowledged(cast: Cast) -> int:
    """How many messages the senders know to be accepted."""
    return sum(len(acknowledged_in(journal)) for journal in cast.sent)


def await_more(cast: Cast, number: int) -> None:
    """Wait until so many more are. Raises `ProgramFailed`."""
    before = acknowledged(cast)
    wait_until(lambda: acknowledged(cast) >= before + number, "messages that come through")


def first_answer(port: int, account: Account, label: str) -> float:
    """Send a message to oneself until it is acknowledged; when it was, in monotonic seconds."""
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        try:
            with Caller(port) as caller:
                caller.prove(account)
                caller.send(account.client_id, account.client_id, label.encode(), token=token_of(label))
                return time.monotonic()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_TRY_AGAIN)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
