"""PostgreSQL: one row a message, INSERT with synchronous_commit on, each in a transaction of its
own.

Owns: its settings and its plans.
Promises: an acknowledged message is committed and synced. What is in flight on a connection is
pipelined, which its extended protocol allows; nothing is put into one transaction that the load
does not put there.
`started` is the same server without its table, for our own store in it.
Exposure: 127.0.0.1 only, trusting everybody there, for as long as it is measured. It does not run
as root: for root it is started as the user `postgres`, to whom its folder is given.
"""

import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.plan import Dialect, Plan
from bench.programs import Programs
from bench.rivals.running import RunningRival
from bench.subject import Kind, Sending, Shape, SubjectFailed, version_in
from torture.programs import free_port

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
_INIT_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 10.0
_MOST_CLIENTS: Final = 1_100
_BYTEA, _INT4 = 17, 23
_SYNC: Final = b"S" + struct.pack("!I", 4)
_EXECUTE: Final = b"E" + struct.pack("!I", 9) + b"\0" + struct.pack("!I", 0)
_BINARY_RESULTS: Final = struct.pack("!HH", 1, 1)
_DEBIAN_PROGRAMS: Final = Path("/usr/lib/postgresql")
_USER: Final = "postgres"
SCHEMA: Final = (
    b"CREATE TABLE message (id bigserial, recipient integer NOT NULL, content bytea NOT NULL)",
    b"CREATE INDEX ON message (recipient, id)",
)
INSERT: Final = b"INSERT INTO message (recipient, content) VALUES ($1, $2)"
SELECT: Final = b"SELECT content FROM message WHERE recipient = $1 ORDER BY id"
DELETE: Final = b"DELETE FROM message WHERE recipient = $1"


def message(kind: bytes, payload: bytes) -> bytes:
    """One message of the frontend."""
    return kind + struct.pack("!I", 4 + len(payload)) + payload


def parse(name: bytes, statement: bytes, *types: int) -> bytes:
    """Prepare a statement whose parameters have these types."""
    return message(b"P", b"%s\0%s\0" % (name, statement) + struct.pack(f"!H{len(types)}I", len(types), *types))


def startup() -> bytes:
    """The first message of a connection."""
    payload = struct.pack("!I", 3 << 16) + b"user\0%s\0database\0postgres\0\0" % _USER.encode()
    return struct.pack("!I", 4 + len(payload)) + payload


def bind(name: bytes, recipient: int) -> bytes:
    """Bind, Execute and Sync of a statement whose only parameter is the recipient."""
    parameters = struct.pack("!HHHIi", 1, 1, 1, 4, recipient)
    return message(b"B", b"\0%s\0" % name + parameters + _BINARY_RESULTS) + _EXECUTE + _SYNC


def insert_head(recipient: int, size: int) -> bytes:
    """An INSERT's beginning, up to the content of `size` bytes."""
    parameters = struct.pack("!HHHIiI", 1, 1, 2, 4, recipient, size)
    payload = b"\0i\0" + parameters
    return b"B" + struct.pack("!I", 4 + len(payload) + size + len(_BINARY_RESULTS)) + payload


GREETING: Final = (
    startup() + parse(b"i", INSERT, _INT4, _BYTEA) + parse(b"s", SELECT, _INT4) + parse(b"d", DELETE, _INT4) + _SYNC
)
GREETED: Final = b"1\0\0\0\x04Z\0\0\0\x05I"
"""The last ParseComplete, and ReadyForQuery."""


class RunningPostgres(RunningRival):
    """A started server with an empty table. Idle connections are not measured: each is a
    process.
    """

    dialect = Dialect.POSTGRES
    longest = 180.0
    greeting = GREETING
    greeted = GREETED

    def __init__(self, port: int, process_ids: Mapping[str, int], recipients: int) -> None:
        super().__init__(port, process_ids)
        self._recipients = range(recipients)

    def await_accepted(self) -> None:
        """Connect."""
        query(self._port, b"SELECT 1")

    def send_plan(self, shape: Shape, sending: Sending) -> Plan:
        """INSERT of `sending.size` bytes."""
        heads = [insert_head(recipient, sending.size) for recipient in self._recipients[slice(*sending.among)]]
        return self._sends(shape, sending, heads, self._content(sending) + _BINARY_RESULTS + _EXECUTE + _SYNC)

    def drain_plan(self, connections: int, size: int, *, close_each: bool, waiting: Sequence[int]) -> Plan:
        """SELECT of a recipient's messages, and once they have come DELETE of them."""
        recipients = self._recipients[: len(waiting)]
        heads = [bind(b"s", recipient) for recipient in recipients]
        closers = [bind(b"d", recipient) for recipient in recipients]
        return self._drain(connections, size, heads, closers, close_each=close_each)


class Postgres:
    """The system's PostgreSQL; see `subject.Subject`."""

    name = "PostgreSQL commit on"
    dialect = Dialect.POSTGRES
    kinds = frozenset({Kind.SENDS, Kind.DRAIN})
    packages = ("postgresql",)
    wheels: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """See `subject.Subject`."""
        return "" if _program("postgres") and _program("initdb") else "PostgreSQL is not installed"

    @property
    def version(self) -> str:
        """As it says itself, such as "15.8"."""
        return version_in([_program("postgres"), "--version"], r"\) (\S+)") if not self.missing else ""

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningPostgres]:
        """Start it with an empty table; `senders` are not known to it."""
        with started(folder, "server") as (port, process_ids):
            query(port, b"; ".join(SCHEMA))
            yield RunningPostgres(port, process_ids, recipients)


@contextmanager
def started(folder: Path, role: str) -> Iterator[tuple[int, Mapping[str, int]]]:
    """A server without tables: its port, and its first process under `role`. Raises
    `SubjectFailed`.
    """
    user = _USER if os.geteuid() == 0 else None
    port = free_port()
    with Programs(folder, stop_seconds=_STOP_SECONDS) as programs:
        if user is not None:
            folder.chmod(0o755)
            shutil.chown(folder, user, user)
        _init(folder, user)
        programs.start(role, _command(port), user=user, stop_signal=signal.SIGINT)
        programs.await_answer(lambda _attempt: query(port, b"SELECT 1"), _START_SECONDS)
        yield port, programs.process_ids


def _program(name: str) -> str:
    """Where one of its programs is: the newest of Debian's folders, which are not on the
    PATH, or the PATH's.
    """
    versions = sorted(_DEBIAN_PROGRAMS.glob("*"), key=lambda path: (len(path.name), path.name))
    found = [str(path / "bin" / name) for path in versions if (path / "bin" / name).exists()]
    return found[-1] if found else shutil.which(name) or ""


def _init(folder: Path, user: str | None) -> None:
    options = ["-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    try:
        subprocess.run(
            [_program("initdb"), *options],
            cwd=folder,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            check=True,
            capture_output=True,
            text=True,
            timeout=_INIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise SubjectFailed(f"initdb failed: {said.strip()[-400:]}") from error


def _command(port: int) -> list[str]:
    settings = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": str(_MOST_CLIENTS),
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "4GB",
        "shared_buffers": "256MB",
    }
    return [_program("postgres"), "-D", "data", *(word for item in settings.items() for word in ("-c", "=".join(item)))]


def query(port: int, statements: bytes) -> None:
    """Have it do something. Raises `OSError`, or `SubjectFailed` when it refuses."""
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        connection.sendall(startup() + message(b"Q", statements + b"\0"))
        answers = connection.makefile("rb")
        ready = 0
        while ready < 2:
            head = answers.read(5)
            if len(head) < 5:
                raise ConnectionResetError("PostgreSQL closed the connection")
            text = answers.read(int.from_bytes(head[1:], "big") - 4)
            if head[:1] == b"E":
                raise SubjectFailed(text.replace(b"\0", b" ").decode(errors="replace"))
            ready += head[:1] == b"Z"
        connection.sendall(message(b"X", b""))
