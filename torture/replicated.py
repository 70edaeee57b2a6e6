"""A server over PostgreSQL with a standby, for drills.

Owns: the two PostgreSQL servers, the store in them, and the course of a drill that must
lose.
Promises: what was started has ended when the `with` is left.
Exposure: none.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from cluster.postgres import Address, Pair
from torture.caller import Account, Caller, token_of
from torture.cast import Cast, extension_cast
from torture.drill import Place, Row, must_lose
from torture.patience import HANG_SECONDS
from torture.programs import ROOT, Program, ProgramFailed, Server

_TRY_AGAIN: Final = 0.01
_MORE: Final = 20
"""Messages that are acknowledged before a control loses its standby, and after it."""


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


def nothing() -> None:
    """What is done where nothing has to be done."""


def fail_over(site: Site, worker: Program, heal: Callable[[], object] = nothing) -> None:
    """The primary is killed, its standby promoted, and the worker started again. `heal` lets the
    standby be reached once the primary is gone.
    """
    site.pair.primary.kill()
    heal()
    site.pair.promote()
    worker.end()
    worker.start()


def losing_row(place: Place, drill: str, server: Server, lose: Callable[[Cast], object]) -> Row:
    """The row of a control: `lose` has messages acknowledged that no standby has, then fails over
    to it.
    """
    cast = extension_cast(place, drill, server)
    try:
        cast.start()
        cast.await_more(_MORE)
        # They would ask for what comes after mail that is lost.
        for receiver in cast.receivers:
            receiver.kill()
        lose(cast)
        for receiver in cast.receivers:
            receiver.start()
        cast.finish()
        return must_lose(cast.row(drill, 1, ""))
    finally:
        cast.end()


def loss_without_a_standby(
    place: Place,
    drill: str,
    site: Site,
    server: Server,
    cut: Callable[[], object],
    heal: Callable[[], object] = nothing,
) -> Row:
    """The row of a control whose commits wait for no standby: `cut` keeps the log from it. `heal`:
    as of `fail_over`.
    """

    def lose(cast: Cast) -> None:
        site.pair.give_up_standby()
        cut()
        cast.await_more(_MORE)
        fail_over(site, server.worker, heal)

    return losing_row(place, drill, server, lose)
