"""Mosquitto: QoS 1 to subscribers who are offline and have persistent sessions.

Owns: its settings and its plans.
Promises: persistence is on, and nothing that is queued is dropped. But Mosquitto writes its store
at intervals and when it ends, not before it acknowledges: what the last half hour brought is lost
with it.
Exposure: 127.0.0.1 only, for everybody there, for as long as it is measured.
"""

import os
import shutil
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.plan import Dialect, Plan
from bench.programs import Programs
from bench.rivals.running import RunningRival
from bench.subject import Kind, Sending, Shape, SubjectFailed, version_in
from torture.programs import free_port

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 10.0
_CLEAN: Final = 2
CONNECTED: Final = bytes.fromhex("20020000")
_PING: Final = bytes.fromhex("c000")


def packet(first: int, payload: bytes, more: int = 0) -> bytes:
    """A control packet: its first byte, its length, and its payload, of which `more`
    bytes come from elsewhere.
    """
    left = len(payload) + more
    length = b""
    while left > 127:
        length += bytes([left & 127 | 128])
        left >>= 7
    return bytes([first]) + length + bytes([left]) + payload


def text(value: bytes) -> bytes:
    """A string with its length."""
    return struct.pack("!H", len(value)) + value


def connect(client: bytes, flags: int) -> bytes:
    """CONNECT of version 3.1.1; no keep-alive."""
    return packet(0x10, text(b"MQTT") + struct.pack("!BBH", 4, flags, 0) + text(client))


def topic(number: int) -> bytes:
    """Where a recipient's messages go."""
    return b"mailbox/%08d" % number


def subscribe_all(port: int, recipients: int) -> None:
    """A persistent session for each recipient. Raises `OSError`, `SubjectFailed`."""
    for number in range(recipients):
        with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
            asked = packet(0x82, struct.pack("!H", 1) + text(topic(number)) + b"\1")
            connection.sendall(connect(b"recipient %d" % number, 0) + asked)
            answer = connection.makefile("rb").read(9)
            if answer != CONNECTED + bytes.fromhex("9003000101"):
                raise SubjectFailed(f"subscribing was answered {answer.hex()}")
            connection.sendall(bytes.fromhex("e000"))


class RunningMosquitto(RunningRival):
    """A started broker whose subscribers are offline. Not drained: it pushes to a session
    as soon as that connects.
    """

    dialect = Dialect.MQTT
    longest = 120.0
    greeting = connect(b"", _CLEAN)
    greeted = CONNECTED

    def __init__(self, port: int, process_ids: Mapping[str, int], recipients: int) -> None:
        super().__init__(port, process_ids)
        self._recipients = range(recipients)

    def await_accepted(self) -> None:
        """Connect."""
        greet(self._port)

    def send_plan(self, shape: Shape, sending: Sending) -> Plan:
        """PUBLISH with QoS 1 of `sending.size` bytes."""
        topics = [text(topic(number)) for number in self._recipients[slice(*sending.among)]]
        heads = [packet(0x32, name, 2 + sending.size) for name in topics]
        tags = [struct.pack("!H", place + 1) for place in range(shape.window)]
        return self._sends(shape, sending, heads, self._content(sending), tags=tags)

    def idle_plan(self, connections: int) -> Plan:
        """One PINGREQ for each connection."""
        return self._idle(connections, [_PING])


class Mosquitto:
    """The system's mosquitto; see `subject.Subject`."""

    name = "Mosquitto QoS 1"
    dialect = Dialect.MQTT
    kinds = frozenset({Kind.SENDS, Kind.IDLE})
    packages = ("mosquitto",)
    wheels: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """See `subject.Subject`."""
        return "" if _program() else "Mosquitto is not installed"

    @property
    def version(self) -> str:
        """As it says itself, such as "2.0.11"."""
        return version_in([_program(), "-h"], r"version (\S+)") if not self.missing else ""

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningMosquitto]:
        """Start it, and let every recipient subscribe and leave; `senders` are not known to it."""
        port = free_port()
        with Programs(folder, stop_seconds=_STOP_SECONDS) as programs:
            (folder / "mosquitto.conf").write_text(_settings(port))
            programs.start("server", [_program(), "-c", "mosquitto.conf"])
            programs.await_answer(lambda _attempt: greet(port), _START_SECONDS)
            subscribe_all(port, recipients)
            yield RunningMosquitto(port, programs.process_ids, recipients)


def _program() -> str:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin") or ""


def _settings(port: int) -> str:
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence true",
        "persistence_location ./",
        "max_queued_messages 0",
        "max_queued_bytes 0",
        "max_inflight_messages 0",
        "set_tcp_nodelay true",
        "log_type error",
        "log_dest stderr",
        # Root would become the user `mosquitto`, who may not write here.
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    return "\n".join(lines) + "\n"


def greet(port: int) -> None:
    """Connect and leave. Raises `OSError`, `SubjectFailed`."""
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        connection.sendall(connect(b"", _CLEAN))
        answer = connection.makefile("rb").read(len(CONNECTED))
        if answer != CONNECTED:
            raise SubjectFailed(f"CONNECT was answered {answer.hex()}")
