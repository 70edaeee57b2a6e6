"""RabbitMQ: a durable queue for each recipient, persistent messages, publisher confirms.

Owns: its settings, its queues and its plans.
Promises: quorum queues, of one node: a message is confirmed once it is in the synced write-ahead
log.
Exposure: 127.0.0.1 only, as its own user `guest`, for as long as it is measured; name, cookie,
ports and port mapper are its own, so that another node on the machine is not touched.
"""

import os
import secrets
import shutil
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.plan import Dialect, Plan
from bench.programs import Programs
from bench.rivals.running import RunningRival
from bench.subject import Kind, Sending, Shape, SubjectFailed, version_in
from torture.programs import free_port

_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 120.0
_FRAME_MAX: Final = 131_072
_METHOD, _HEADER, _BODY = 1, 2, 3
_END: Final = b"\xce"
_PERSISTENT: Final = struct.pack("!HB", 0x1000, 2)
_DEBIAN_PROGRAM: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack("!BHI", kind, channel, len(payload)) + payload + _END


def method(channel: int, kind: int, number: int, arguments: bytes = b"") -> bytes:
    """A method's frame."""
    return frame(_METHOD, channel, struct.pack("!HH", kind, number) + arguments)


def short(value: bytes) -> bytes:
    """A short string."""
    return bytes([len(value)]) + value


def long(value: bytes) -> bytes:
    """A long string; a table too."""
    return struct.pack("!I", len(value)) + value


GREETING: Final = (
    b"AMQP\0\0\x09\x01"
    + method(0, 10, 11, long(b"") + short(b"PLAIN") + long(b"\0guest\0guest") + short(b"en_US"))
    + method(0, 10, 31, struct.pack("!HIH", 1, _FRAME_MAX, 0))
    + method(0, 10, 40, short(b"/") + short(b"") + b"\0")
    + method(1, 20, 10, short(b""))
    + method(1, 85, 10, b"\0")
)
"""Start-ok, tune-ok, open; a channel with confirms."""
GREETED: Final = method(1, 85, 11)


def queue(number: int) -> bytes:
    """A recipient's."""
    return b"mailbox.%08d" % number


def declare(name: bytes) -> bytes:
    """A durable quorum queue."""
    arguments = short(b"x-queue-type") + b"S" + long(b"quorum")
    return method(1, 50, 10, b"\0\0" + short(name) + b"\x02" + long(arguments))


def publish_head(name: bytes, size: int) -> bytes:
    """basic.publish, and the header of a persistent content of `size` bytes."""
    return method(1, 60, 40, b"\0\0" + short(b"") + short(name) + b"\0") + frame(
        _HEADER, 1, struct.pack("!HHQ", 60, 0, size) + _PERSISTENT
    )


def bodies(content: bytes) -> bytes:
    """A content in frames."""
    step = _FRAME_MAX - 8
    return b"".join(frame(_BODY, 1, content[at : at + step]) for at in range(0, len(content), step))


class RunningRabbit(RunningRival):
    """A started node with a queue for each recipient."""

    dialect = Dialect.AMQP
    longest = 180.0
    greeting = GREETING
    greeted = GREETED

    def __init__(self, port: int, process_ids: Mapping[str, int], recipients: int) -> None:
        super().__init__(port, process_ids)
        self._queues = [queue(number) for number in range(recipients)]

    def await_accepted(self) -> None:
        """Connect."""
        greet(self._port)

    def send_plan(self, shape: Shape, sending: Sending) -> Plan:
        """basic.publish of `sending.size` bytes."""
        heads = [publish_head(name, sending.size) for name in self._queues[slice(*sending.among)]]
        return self._sends(shape, sending, heads, bodies(self._content(sending)))

    def drain_plan(self, connections: int, size: int, *, close_each: bool, waiting: Sequence[int]) -> Plan:
        """Consume a queue without a limit of what is unacknowledged; once all has come,
        acknowledge it in one.
        """
        names = self._queues[: len(waiting)]
        consume = [method(1, 60, 20, b"\0\0" + short(name) + short(b"c") + b"\0" + long(b"")) for name in names]
        closer = method(1, 60, 80, struct.pack("!QB", 0, 1)) + method(1, 60, 30, short(b"c") + b"\0")
        keys = [struct.pack("<I", count) for count in waiting]
        return self._drain(connections, size, consume, [closer] * len(names), keys=keys)


class RabbitMQ:
    """The system's rabbitmq-server; see `subject.Subject`."""

    name = "RabbitMQ quorum, confirms"
    dialect = Dialect.AMQP
    kinds = frozenset({Kind.SENDS, Kind.DRAIN})
    packages = ("rabbitmq-server",)
    wheels: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """See `subject.Subject`."""
        return "" if _program() and shutil.which("epmd") else "RabbitMQ is not installed"

    @property
    def version(self) -> str:
        """Debian's package version, for the program can't say its own without a node."""
        return version_in(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"], r"^([^-+]+)")

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningRabbit]:
        """Start a node and declare the queues; `senders` are not known to it."""
        port, mapper_port = free_port(), free_port()
        environment = _environment(folder.resolve(), port, mapper_port)
        # The mapper of node names would else be started by the node, and outlive it.
        with Programs(folder) as mapper, Programs(folder, stop_seconds=_STOP_SECONDS) as programs:
            cookie = folder / ".erlang.cookie"
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)
            (folder / "plugins").write_text("[].\n")
            (folder / "rabbitmq.conf").write_text(_settings(port))
            mapper.start("mapper", ["epmd", "-address", "127.0.0.1", "-port", str(mapper_port)])
            programs.start("server", [_program()], environment=environment)
            programs.await_answer(lambda _attempt: greet(port), _START_SECONDS)
            declare_all(port, recipients)
            yield RunningRabbit(port, programs.process_ids, recipients)


def _program() -> str:
    # Debian's program on the PATH insists on becoming the user `rabbitmq`.
    return str(_DEBIAN_PROGRAM) if _DEBIAN_PROGRAM.exists() else shutil.which("rabbitmq-server") or ""


def _settings(port: int) -> str:
    lines = [
        f"listeners.tcp.1 = 127.0.0.1:{port}",
        "log.console = true",
        "log.console.level = error",
        "log.file = false",
        "vm_memory_high_watermark.relative = 0.6",
        "disk_free_limit.absolute = 100MB",
    ]
    return "\n".join(lines) + "\n"


def _environment(folder: Path, port: int, mapper_port: int) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "HOSTNAME": "localhost",
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
    }


def greet(port: int) -> None:
    """Connect and leave. Raises `OSError`."""
    declare_all(port, 0)


def declare_all(port: int, recipients: int) -> None:
    """Make the recipients' queues. Raises `OSError`, or `SubjectFailed` when it refuses."""
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        connection.sendall(GREETING + b"".join(declare(queue(number)) for number in range(recipients)))
        answers = connection.makefile("rb")
        wanted = [(85, 11)] + [(50, 11)] * recipients
        while wanted:
            head = answers.read(7)
            if len(head) < 7:
                raise ConnectionResetError("RabbitMQ closed the connection")
            payload = answers.read(int.from_bytes(head[3:], "big") + 1)
            kind, number = struct.unpack_from("!HH", payload)
            if (kind, number) == wanted[0]:
                wanted.pop(0)
            elif (kind, number) in {(10, 50), (20, 40)}:
                raise SubjectFailed(payload[7:].decode(errors="replace"))
