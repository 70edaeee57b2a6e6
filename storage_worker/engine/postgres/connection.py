"""One connection to PostgreSQL: statements in, rows out, and what its errors mean.

Owns: the driver, of which libpq's own calls are used alone; no other module imports it.
Promises: a statement is prepared once, and waited for before the next one is sent: there is no
pipeline, which was seen to hang with large parameters, and nothing that is prepared is dropped by a
rollback. `commit`, and a `change` outside of a transaction, return when the server and its
synchronous standbys have acknowledged. A commit whose wait for standbys was cancelled is committed,
with a warning, and no standby may have it: that is `StoreFailed`, as is a connection that is lost.
Exposure: the server is the operator's. Sentences with a connection string in them have no password.

Errors become `StoreFull` (rolled back, go on) where the server has no room, `StoreUnusable` for a
connection string that is none, else `StoreFailed`.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import conninfo, pq

from storage_worker.engine.errors import StoreFailed, StoreFull, StoreUnusable

log = logging.getLogger("storage_worker")

Value = int | bytes | str | None
Parameter = Value | Sequence[Value]
"""What a statement is given: values, and arrays of them."""
Row = tuple[Any, ...]

_DEFAULTS: Final = {
    # Of several hosts, the one that takes writes.
    "target_session_attrs": "read-write",
    "connect_timeout": "2",
    # A server that is cut off is noticed, although nothing is sent while a commit is waited for: so
    # early that the next worker answers what gateways wait 15 seconds for.
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""What a connection string gets where it does not say otherwise."""
_LONGEST_PAUSE: Final = "10s"
"""How long a transaction of a worker that stands still, or is cut off, keeps the next one from
taking over."""
_ALWAYS: Final = {"client_encoding": "UTF8", "application_name": "messageu-storage-worker"}

_WAITING: Final = ("on", "remote_apply")
"""Values of synchronous_commit with which a commit waits for disks."""

_DISK_FULL: Final = "53100"
_WARNING: Final = "01000"

_ARRAY_HEAD: Final = Struct("!iiIii")
_LENGTH: Final = Struct("!i")
_OID_BOOL, _OID_BYTEA, _OID_INT8, _OID_INT2, _OID_INT4, _OID_TEXT = 16, 17, 20, 21, 23, 25
_TEXT, _BINARY = 0, 1


def shown(url: str) -> str:
    """A connection string for people: without its password. Raises `StoreUnusable` where it is
    none.
    """
    parts = _parts(url)
    places = [parts.get(name, "") for name in ("host", "port", "dbname")]
    return "PostgreSQL at " + "/".join(str(place) for place in places if place)


def _parts(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo.conninfo_to_dict(url))
    except psycopg.Error as error:
        # Its words may have the password in them.
        raise StoreUnusable("--store is no connection string that PostgreSQL's library can read") from error


class ServerAddress(NamedTuple):
    """Which server it is: `address` is a number, empty for a socket in a folder."""

    host: str
    address: str
    port: str

    def alone(self, parts: dict[str, Any]) -> dict[str, Any]:
        """A connection string that leads to no other one."""
        others = {name: value for name, value in parts.items() if name != "hostaddr"}
        return {**others, "host": self.host, "port": self.port, **({"hostaddr": self.address} if self.address else {})}

    def first(self, parts: dict[str, Any]) -> dict[str, Any]:
        """The same with this one in front, if it is one of several."""
        hosts = str(parts.get("host", "")).split(",")
        ports = str(parts.get("port", "")).split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        if len(hosts) == 1 or len(ports) != len(hosts) or "hostaddr" in parts:
            return parts

        def is_other(place: tuple[str, str]) -> bool:
            host, port = place
            # One that is left out is the usual one.
            return host != self.host or port not in {self.port, ""}

        places = sorted(zip(hosts, ports, strict=True), key=is_other)
        return {**parts, "host": ",".join(host for host, _ in places), "port": ",".join(port for _, port in places)}


_answered: Final[dict[str, ServerAddress]] = {}
"""Which of several servers took the last connection of this process, by connection string: each one
that is asked in vain costs the time-out once more."""


class Connection:
    """An open connection whose statements see the tables of `schema` alone. `at`: the server that
    it has to be, of those that `url` names. Raises `StoreFailed` where the server can't be reached,
    and `StoreUnusable`.
    """

    def __init__(self, url: str, schema: str, at: ServerAddress | None = None) -> None:
        parts = {**_DEFAULTS, **_parts(url), **_ALWAYS}
        if at is not None:
            parts = at.alone(parts)
        elif url in _answered:
            parts = _answered[url].first(parts)
        self._prepared: dict[str, bytes] = {}
        self._warning = ""
        self._inside = False
        try:
            self._server = pq.PGconn.connect(conninfo.make_conninfo("", **parts).encode())
        except psycopg.Error as error:
            raise StoreFailed(f"{shown(url)} can't be reached: {error}") from error
        if self._server.status != pq.ConnStatus.OK:
            told = " ".join(self._server.error_message.decode(errors="replace").split())
            self._server.finish()
            raise StoreFailed(f"{shown(url)} can't be reached: {told}")
        server = self._server
        self.server = ServerAddress(server.host.decode(), server.hostaddr.decode(), server.port.decode())
        _answered[url] = self.server
        self._server.notice_handler = self._noticed
        self.look_into(schema)
        self.rows("SELECT set_config('default_transaction_isolation', 'read committed', false)")
        self.rows("SELECT set_config('idle_in_transaction_session_timeout', $1, false)", _LONGEST_PAUSE)
        # What is acknowledged has to be on disk, here and where the operator wants it besides.
        # Said even where it is so, for this session would follow a setting that is changed later.
        found = self.setting("synchronous_commit")
        wanted = found if found in _WAITING else _WAITING[0]
        self.rows("SELECT set_config('synchronous_commit', $1, false)", wanted)

    def look_into(self, schema: str) -> None:
        """Statements see the tables of this schema from now on."""
        self.rows("SELECT set_config('search_path', $1, false)", schema)

    def let_transactions_wait(self) -> None:
        """The transactions of this connection may stay open without a statement for long."""
        self.rows("SELECT set_config('idle_in_transaction_session_timeout', '0', false)")

    def setting(self, name: str) -> str:
        """A setting of the server, as this connection has it; empty where it knows none."""
        [(value,)] = self.rows("SELECT coalesce(current_setting($1, true), '')", name)
        return str(value)

    # --- statements
    # ----------------------------------------------------------------------------------------------

    def rows(self, statement: str, *parameters: Parameter) -> list[Row]:
        """The rows that a statement gives."""
        result = self._run(statement, parameters)
        columns = range(result.nfields)
        decoders = [_decoder(result.ftype(column)) for column in columns]
        return [
            tuple(
                None if (value := result.get_value(row, column)) is None else decoders[column](value)
                for column in columns
            )
            for row in range(result.ntuples)
        ]

    def change(self, statement: str, *parameters: Parameter) -> int:
        """How many rows a statement changed."""
        result = self._run(statement, parameters)
        if not self._inside:
            self._refuse_warning()
        return result.command_tuples or 0

    def _run(self, statement: str, parameters: Sequence[Parameter]) -> pq.abc.PGresult:
        name = self._prepared.get(statement)
        values: list[Any] = []
        formats: list[int] = []
        for one in parameters:
            value, how = _encoded(one)
            values.append(value)
            formats.append(how)
        self._warning = ""
        try:
            if name is None:
                name = f"s{len(self._prepared)}".encode()
                self._checked(self._server.prepare(name, statement.encode()))
                self._prepared[statement] = name
            return self._checked(self._server.exec_prepared(name, values, formats, _BINARY))
        except psycopg.Error as error:
            raise StoreFailed(f"the connection to PostgreSQL failed: {error}") from error

    def run_script(self, statements: str) -> None:
        """Statements without parameters, one after the other: a schema. Inside a transaction."""
        self._simple(statements.encode())

    def _simple(self, statement: bytes) -> pq.abc.PGresult:
        self._warning = ""
        try:
            return self._checked(self._server.exec_(statement))
        except psycopg.Error as error:
            raise StoreFailed(f"the connection to PostgreSQL failed: {error}") from error

    def _checked(self, result: pq.abc.PGresult) -> pq.abc.PGresult:
        if result.status in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}:
            return result
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        told = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(errors="replace")
        sentence = f"PostgreSQL: {' '.join(told.split())} (SQLSTATE {state or 'none'})"
        if state == _DISK_FULL:
            raise StoreFull(sentence)
        raise StoreFailed(sentence)

    def _noticed(self, result: pq.abc.PGresult) -> None:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        severity = (result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"").decode()
        told = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        if severity == "WARNING":
            log.warning("PostgreSQL: %s (SQLSTATE %s)", told, state)
            if state == _WARNING:
                self._warning = told

    def _refuse_warning(self) -> None:
        if self._warning:
            raise StoreFailed(f"PostgreSQL committed with a warning, which may have no standby: {self._warning}")

    # --- transactions
    # ----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Generator[None]:
        """What is inside is committed, all of it or nothing. Where the end raises anything but
        `StoreFull`, it is not known which.
        """
        self.begin()
        try:
            yield
        except BaseException:
            self.roll_back()
            raise
        self.commit()

    def begin(self) -> None:
        """Begin a transaction, for whoever can't use `transaction`."""
        self._simple(b"BEGIN")
        self._inside = True

    def roll_back(self) -> None:
        """Undo it."""
        self._inside = False
        if self._server.status == pq.ConnStatus.OK:
            self._simple(b"ROLLBACK")

    def commit(self) -> None:
        """Commit it. Raises as `transaction`."""
        self._inside = False
        if self._simple(b"COMMIT").command_status != b"COMMIT":
            raise StoreFailed("PostgreSQL rolled a transaction back that was to be committed")
        self._refuse_warning()

    def close(self) -> None:
        """Let go of the server; a transaction that is open is rolled back."""
        self._server.finish()


def _encoded(value: Parameter) -> tuple[bytes | None, int]:
    """A parameter's bytes, and whether they are text or binary."""
    if value is None or isinstance(value, bytes):
        return value, _BINARY
    if isinstance(value, int):
        # Of a truth value too: the server reads "True".
        return str(value).encode(), _TEXT
    if isinstance(value, str):
        return value.encode(), _TEXT
    first = next((one for one in value if one is not None), None)
    if first is None or isinstance(first, int):
        return ("{" + ",".join(["NULL" if one is None else str(one) for one in value]) + "}").encode(), _TEXT
    return _array(value), _BINARY


def _array(values: Sequence[Any]) -> bytes:
    """An array of bytes or of text."""
    element = _OID_TEXT if any(isinstance(one, str) for one in values) else _OID_BYTEA
    parts = [_ARRAY_HEAD.pack(1, 1, element, len(values), 1)]
    for one in values:
        if one is None:
            parts.append(_LENGTH.pack(-1))
        else:
            data = one.encode() if isinstance(one, str) else one
            parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _decoder(oid: int) -> Any:
    return _DECODERS[oid]


_DECODERS: Final[dict[int, Any]] = {
    _OID_BOOL: lambda value: value != b"\0",
    _OID_BYTEA: bytes,
    _OID_INT8: _integer,
    _OID_INT2: _integer,
    _OID_INT4: _integer,
    _OID_TEXT: bytes.decode,
}
