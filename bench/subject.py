"""What can be measured: a server that is started for a run, and what its processes use.

Owns: what a server has to offer to be measured beside others, and the reading of processor time,
memory and disk.
Promises: a whole process tree is counted for each role; nothing in here knows MessageU.
Exposure: Linux's /proc, through psutil.
"""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

import psutil

from bench.plan import Dialect, Plan

_SAMPLE_SECONDS: Final = 0.25
_CALM_SECONDS: Final = 0.015
"""A process that used no more than this between two samples was calm; the kernel counts
in steps of 0.01 s.
"""


class SubjectFailed(RuntimeError):
    """A server did not start, or ended; the text has what it said."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a load arrives: so many connections, each with so many messages in flight."""

    connections: int
    window: int

    @property
    def in_flight(self) -> int:
        """Messages that wait for their acknowledgement at any time."""
        return self.connections * self.window

    def __str__(self) -> str:
        return f"{self.connections}x{self.window}"


class Kind(Enum):
    """What can be measured of a server."""

    SENDS = "sends"
    DRAIN = "drain"
    WAITING = "waiting"
    LARGE = "large"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Sending:
    """What a load sends: so many bytes each, for so many seconds or so many messages in all."""

    size: int
    seconds: float = 0.0
    messages: int = 0
    seed: int = 1
    among: tuple[int, int | None] = (0, None)
    """Which of the recipients get them: from the first number up to before the second."""


class Running(Protocol):
    """A started server with users who are not online. Sizes in bytes, times in seconds."""

    @property
    def process_ids(self) -> Mapping[str, int]:
        """The first process of each role ("gateway", "worker" …)."""

    def send_plan(self, shape: Shape, sending: Sending) -> Plan:
        """Messages to recipients at random, each acknowledged when the server says that
        it has it.
        """

    def drain_plan(self, connections: int, size: int, *, close_each: bool, waiting: Sequence[int]) -> Plan:
        """The first recipients, each of whom `waiting` messages of `size` bytes wait for,
        fetch all of them.
        """

    def idle_plan(self, connections: int) -> Plan:
        """Connections that are opened, and then ask once each."""

    def restart(self) -> None:
        """End it, start it again over the same store, and return when it answers. Raises
        `SubjectFailed`.
        """

    def await_accepted(self) -> None:
        """Return when every connection that was opened before has been taken by the server."""


class Subject(Protocol):
    """A server that can be started."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def version(self) -> str:
        """Which one it is, as far as it can be told."""

    @property
    def missing(self) -> str:
        """Why it can't be measured here; empty when it can."""

    @property
    def dialect(self) -> Dialect:
        """Whose answers a generator has to read."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What can be measured of it."""

    def start(self, folder: Path, *, recipients: int, senders: int) -> AbstractContextManager[Running]:
        """Start it with an empty store in `folder`. Raises `SubjectFailed`."""


def version_in(command: Sequence[str], pattern: str) -> str:
    """What `pattern`'s first group matches in what a program says of itself; empty where
    nothing does.
    """
    try:
        said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(pattern, said.stdout + said.stderr)
    return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process tree has used so far, and what it holds."""

    cpu_seconds: float
    """User and system, of all processes and threads."""
    resident_bytes: int
    disk_bytes: int
    """Handed to the disk by writes, as the kernel counts it (page cache flushed or not)."""


def usage_of(process_id: int) -> Usage:
    """The usage of a process and its descendants now. Raises `SubjectFailed` when it has ended."""
    cpu = 0.0
    resident = disk = 0
    try:
        root = psutil.Process(process_id)
        for process in [root, *root.children(recursive=True)]:
            times = process.cpu_times()
            cpu += times.user + times.system
            resident += process.memory_info().rss
            disk += process.io_counters().write_bytes
        gone = root.cpu_times()
        cpu += gone.children_user + gone.children_system
    except psutil.Error as error:
        raise SubjectFailed(f"process {process_id} can't be looked at: {error}") from error
    return Usage(cpu, resident, disk)


def usage_of_roles(running: Running) -> dict[str, Usage]:
    """The usage of every role now."""
    return {role: usage_of(process_id) for role, process_id in running.process_ids.items()}


def usage_when_calm(running: Running, calm_time: float, limit: float = 20.0) -> dict[str, Usage]:
    """The usage of every role once none has worked for `calm_time` seconds, or after `limit`
    seconds; 0: at once.

    What a server puts off (deleting what was fetched, moving a log into its place) belongs to its
    cost too.
    """
    latest = usage_of_roles(running)
    begin = calm_since = time.monotonic()
    while (now := time.monotonic()) - calm_since < calm_time and now - begin < limit:
        time.sleep(_SAMPLE_SECONDS)
        before, latest = latest, usage_of_roles(running)
        if any(latest[role].cpu_seconds - before[role].cpu_seconds > _CALM_SECONDS for role in latest):
            calm_since = time.monotonic()
    return latest
