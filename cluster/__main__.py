"""`scripts/cluster up`, `kill`, `status` and `down`: a cluster on one machine to try it.

Owns: the command line, the folder and the socket by which `up` is told what the other commands ask.
Promises: `up` stays in the foreground and ends everything on Ctrl-C, SIGTERM and `down`; one
cluster a user at a time. Exit codes: 0 done, 1 not possible, with a sentence on standard error.
Exposure: the socket is in a folder of mode 0700.
"""

import argparse
import os
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from cluster.postgres import PostgresFailed, programs
from cluster.running import Cluster, NotPossible
from common.data_folder import exclusive
from common.errors import SettingRejected
from common.shards import NUMBERS_OF_SHARDS
from torture.programs import ProgramFailed

_LOOK_EVERY: Final = 0.1
_LONGEST: Final = 1024
_MOST_GATEWAYS: Final = 32
_LOCK: Final = "lock"
_DONE: Final = "."
"""The last line of an answer; another one says why it was not done."""


class _Asked(Exception):
    """The end was asked for."""


def home() -> Path:
    """The folder of this user's cluster; tests have another one."""
    named = os.environ.get("MESSAGEU_CLUSTER")
    if named:
        return Path(named)
    return Path("/tmp") / f"messageu-cluster-{os.geteuid()}"  # noqa: S108 - it is refused where it is somebody else's


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cluster", description="A MessageU cluster on this machine, to try it and to break it.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, and stay until Ctrl-C", allow_abbrev=False)
    up.add_argument("--workers", type=int, default=2, metavar="N", help="a power of two (default: %(default)s)")
    up.add_argument("--gateways", type=int, default=2, metavar="M", help="default: %(default)s")
    up.add_argument("--port", type=int, metavar="P", help="of HAProxy (default: one that is free)")
    kill = commands.add_parser("kill", help="kill -9 a part of it", allow_abbrev=False)
    kill.add_argument("kind", choices=("primary", "standby", "worker", "gateway"))
    kill.add_argument("number", nargs="?", type=int, metavar="K", help="of worker and gateway, from 0")
    commands.add_parser("status", help="what runs", allow_abbrev=False)
    commands.add_parser("down", help="end it", allow_abbrev=False)
    found = parser.parse_args(arguments)
    if found.command == "up":
        if found.workers not in NUMBERS_OF_SHARDS:
            parser.error("--workers is a power of two up to 256")
        if not 1 <= found.gateways <= _MOST_GATEWAYS:
            parser.error(f"--gateways is 1 to {_MOST_GATEWAYS}")
    if found.command == "kill" and (found.number is None) == (found.kind in {"worker", "gateway"}):
        parser.error(f"kill {found.kind} {'needs a' if found.number is None else 'takes no'} number")
    return found


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _make_home(resources: ExitStack) -> Path:
    """The folder, empty, for as long as `resources`. Raises `NotPossible` where a cluster runs
    already, and `SettingRejected` where the folder is somebody else's.
    """
    folder = home()
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise NotPossible(f"{folder} is not a folder of this user: remove it")
    folder.chmod(0o700)
    running = NotPossible("a cluster of this user runs already: `scripts/cluster down` ends it")
    resources.enter_context(exclusive(folder / _LOCK, running))
    for path in folder.iterdir():
        # Of a cluster that was killed.
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()
    return folder


def up(workers: int, gateways: int, port: int | None) -> None:
    """Start a cluster, serve what is asked, end it. Raises `NotPossible`."""
    if programs() is None:
        raise NotPossible("PostgreSQL's packages are not installed: `scripts/test --version` does that")
    with ExitStack() as resources:
        folder = _make_home(resources)
        handlers = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
        cluster = Cluster(folder, workers, gateways, port, _say)
        try:
            _run(cluster, folder)
        except _Asked:
            _say("Ending everything.")
        finally:
            for number in handlers:
                # Once is enough.
                signal.signal(number, signal.SIG_IGN)
            cluster.end()
            shutil.rmtree(folder, ignore_errors=True)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    _say("Nothing of it runs any more.")


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Asked


def _run(cluster: Cluster, folder: Path) -> None:
    """Until `_Asked`."""
    with socket.socket(socket.AF_UNIX) as listener:
        cluster.start()
        listener.bind(str(folder / "socket"))
        listener.listen()
        listener.settimeout(_LOOK_EVERY)
        _say(f"Up. Clients: --server {cluster.address}. `scripts/cluster kill primary` breaks it, Ctrl-C ends it.")
        while True:
            cluster.look()
            with suppress(TimeoutError):
                _serve(listener.accept()[0], cluster)


def _serve(connection: socket.socket, cluster: Cluster) -> None:
    """Answer one command. Raises `_Asked`."""
    with connection, suppress(ConnectionError, TimeoutError):
        connection.settimeout(5)
        words = connection.recv(_LONGEST).decode(errors="replace").split()
        try:
            match words:
                case ["kill", kind, number]:
                    lines = [cluster.kill(kind, int(number))]
                    _say(lines[0])
                case ["status"]:
                    lines = cluster.status()
                case ["down"]:
                    connection.sendall(f"It ends.\n{_DONE}\n".encode())
                    raise _Asked
                case _:
                    raise NotPossible(f"unknown: {words}")
            lines.append(_DONE)
        except (NotPossible, PostgresFailed) as error:
            lines = [str(error)]
        connection.sendall("".join(f"{line}\n" for line in lines).encode())


def _ask(request: str) -> list[str]:
    """What the running cluster answers. Raises `OSError` where none runs, and `NotPossible`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home() / "socket"))
        connection.sendall(request.encode())
        with connection.makefile() as file:
            lines = file.read().splitlines()
    if not lines or lines[-1] != _DONE:
        raise NotPossible(lines[-1] if lines else "the cluster ended meanwhile")
    return lines[:-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; the exit code."""
    settings = _parse(arguments)
    try:
        if settings.command == "up":
            up(settings.workers, settings.gateways, settings.port)
            return 0
        words = [settings.command]
        if settings.command == "kill":
            words += [settings.kind, str(settings.number or 0)]
        try:
            lines = _ask(" ".join(words))
        except OSError as error:
            raise NotPossible("no cluster of this user runs, or it is still starting: `scripts/cluster up`") from error
    except (NotPossible, PostgresFailed, ProgramFailed, SettingRejected) as error:
        sys.stderr.write(f"cluster: {error}\n")
        return 1
    for line in lines:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
