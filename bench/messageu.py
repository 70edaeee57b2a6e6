"""The MessageU server as something to measure.

Owns: starting and ending the two server programs of one code folder, registering users, and the plans that speak
part 1 of the client protocol.
Promises: a server of its own for each start: a free port, a store of its own in the given folder; both programs have
ended when the `with` is left. It asks nothing that the published protocol does not have.
Exposure: 127.0.0.1 only.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.plan import Mode, Plan
from bench.subject import Shape, SubjectFailed
from common.values import CLIENT_ID_SIZE, NO_CLIENT, ClientId, MessageKind, PublicKey, Username
from common.wire.codes import ResponseCode
from common.wire.fields import RESPONSE_HEADER
from common.wire.requests import LargeSendRequest, PullRequest, RegisterRequest, encode

PROGRAMS: Final = {"worker": "storage_worker", "gateway": "gateway"}
_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG: Final = 1
_START_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 6.0
_LONGEST_SEND: Final = 60.0
_LONGEST_DRAIN: Final = 120.0
_REGISTRATIONS_IN_FLIGHT: Final = 64
_IDLE_SOURCES: Final = 4
_IDLE_AT_A_TIME: Final = 32
_KEY_START: Final = bytes.fromhex("30819d300d06092a864886f70d010101050003818b0030818702818100")
_KEY_END: Final = bytes.fromhex("020111")
_MODULUS_SIZE: Final = 128


def synthetic_key(number: int) -> PublicKey:
    """160 bytes that look like the DER of an RSA-1024 key; nobody has the private half."""
    modulus = random.Random(number).randbytes(_MODULUS_SIZE)
    return PublicKey(_KEY_START + bytes([modulus[0] | 0x80]) + modulus[1:] + _KEY_END)


def register(port: int, names: Sequence[str]) -> list[ClientId]:
    """Register users at 127.0.0.1, pipelined; their ids in the order of `names`.

    Raises `SubjectFailed` for any answer but 2100, `OSError` where there is no answer at all.
    """
    ids: list[ClientId] = []
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        answers = connection.makefile("rb")
        for first in range(0, len(names), _REGISTRATIONS_IN_FLIGHT):
            group = names[first : first + _REGISTRATIONS_IN_FLIGHT]
            requests = [
                RegisterRequest(NO_CLIENT, Username(name), synthetic_key(first + number))
                for number, name in enumerate(group)
            ]
            connection.sendall(b"".join(map(encode, requests)))
            for name in group:
                head = answers.read(RESPONSE_HEADER.size)
                if len(head) < RESPONSE_HEADER.size:
                    raise ConnectionResetError(f"no answer to the registration of {name!r}")
                _version, code, size = RESPONSE_HEADER.unpack(head)
                if (code, size) != (ResponseCode.REGISTERED, CLIENT_ID_SIZE):
                    raise SubjectFailed(f"registering {name!r} was answered {code}")
                ids.append(ClientId(answers.read(size)))
    return ids


class RunningMessageU:
    """A started pair of server programs with registered users; see `subject.Running`."""

    def __init__(self, port: int, process_ids: Mapping[str, int]) -> None:
        self.process_ids = process_ids
        self.port = port
        self._recipients: list[ClientId] = []
        self._senders: list[ClientId] = []
        self._probes = 0

    def register_users(self, recipients: int, senders: int) -> None:
        """Make the users of the plans. Raises `SubjectFailed`."""
        try:
            self._recipients = register(self.port, [f"recipient {number}" for number in range(recipients)])
            self._senders = register(self.port, [f"sender {number}" for number in range(senders)])
        except OSError as error:
            raise SubjectFailed(f"users can't be registered: {error}") from error

    def await_accepted(self) -> None:
        """Register somebody on a connection of its own: connections are accepted in the order they came."""
        self._probes += 1
        register(self.port, [f"probe {self._probes}"])

    def send_plan(self, shape: Shape, size: int, *, seconds: float, messages: int, seed: int) -> Plan:
        """603 of type 3 from one sender for each connection. `size` bytes of content, `seconds` or `messages`."""
        heads = [
            encode(LargeSendRequest(NO_CLIENT, recipient, MessageKind.TEXT, size))[CLIENT_ID_SIZE:]
            for recipient in self._recipients
        ]
        return Plan(
            mode=Mode.SEND,
            port=self.port,
            connections=shape.connections,
            window=shape.window,
            run_time=seconds,
            messages=messages,
            limit_time=seconds + _LONGEST_SEND,
            seed=seed,
            keys=self._recipients,
            prefixes=[self._senders[number % len(self._senders)] for number in range(shape.connections)],
            heads=heads,
            body=random.Random(seed).randbytes(size),
        )

    def drain_plan(self, connections: int, size: int, *, close_each: bool) -> Plan:
        """604 for every recipient until it is answered with an empty 2104. `size`: bytes of each content."""
        return Plan(
            mode=Mode.DRAIN,
            port=self.port,
            connections=connections,
            limit_time=_LONGEST_DRAIN,
            close_each=close_each,
            content_size=size,
            keys=self._recipients,
            heads=self._pulls(),
        )

    def idle_plan(self, connections: int) -> Plan:
        """One 604 for each connection."""
        return Plan(
            mode=Mode.IDLE,
            port=self.port,
            connections=connections,
            window=_IDLE_AT_A_TIME,
            limit_time=_LONGEST_SEND,
            sources=_IDLE_SOURCES,
            keys=self._recipients,
            heads=self._pulls(),
        )

    def _pulls(self) -> list[bytes]:
        return [encode(PullRequest(recipient)) for recipient in self._recipients]


class MessageU:
    """The server programs in one code folder; see `subject.Subject`."""

    def __init__(self, name: str, code_folder: Path) -> None:
        self.name = name
        self._code_folder = code_folder.resolve()
        missing = [program for program in PROGRAMS.values() if not (self._code_folder / program).is_dir()]
        if missing:
            raise SubjectFailed(f"the code folder of {name!r} has no {' and no '.join(missing)}")

    @property
    def version(self) -> str:
        """The commit, with a plus sign where files were changed since; empty outside of git."""
        try:
            commit = self._git("rev-parse", "--short", "HEAD")
            return commit + ("+" if self._git("status", "--porcelain", "--untracked-files=no") else "")
        except (OSError, subprocess.SubprocessError):
            return ""

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self._code_folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    @contextmanager
    def start(self, folder: Path, *, recipients: int, senders: int) -> Iterator[RunningMessageU]:
        """Start both programs with an empty store in `folder`. Raises `SubjectFailed`."""
        with _Programs(self._code_folder, folder) as programs:
            programs.await_answer()
            running = RunningMessageU(programs.port, programs.process_ids)
            running.register_users(recipients, senders)
            yield running


class _Programs:
    """The two processes, in a folder with a `myport.info` of their own."""

    def __init__(self, code_folder: Path, folder: Path) -> None:
        self.port = _free_port()
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "myport.info").write_text(f"{self.port}\n")
        environment = {
            **os.environ,
            "PYTHONPATH": str(code_folder),
            "MESSAGEU_DATA": str((folder / "data").resolve()),
        }
        try:
            for role, program in PROGRAMS.items():
                with self._log(role).open("wb") as log:
                    self._processes[role] = subprocess.Popen(
                        [sys.executable, "-P", "-m", program],
                        cwd=folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        preexec_fn=_end_with_parent,  # noqa: PLW1509 - this program has one thread
                    )
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process_ids(self) -> dict[str, int]:
        """By role."""
        return {role: process.pid for role, process in self._processes.items()}

    def await_answer(self) -> None:
        """Wait until a registration is answered. Raises `SubjectFailed`."""
        deadline = time.monotonic() + _START_SECONDS
        for attempt in count(1):
            for role, process in self._processes.items():
                if process.poll() is not None:
                    raise SubjectFailed(f"the {role} ended with {process.returncode}: {self._said(role)}")
            try:
                register(self.port, [f"attempt {attempt}"])
            except (OSError, SubjectFailed) as error:
                if time.monotonic() > deadline:
                    said = " | ".join(f"{role}: {self._said(role)}" for role in self._processes)
                    raise SubjectFailed(f"no registration in {_START_SECONDS:.0f} s ({error}); {said}") from error
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """SIGTERM to both; what has not ended in time is killed, and a line on stderr says so."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for role, process in self._processes.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"bench: the {role} did not end within {_STOP_SECONDS:.0f} s and is killed", file=sys.stderr)
                process.kill()
                process.wait()

    def _log(self, role: str) -> Path:
        return self._folder / f"{role}.log"

    def _said(self, role: str) -> str:
        return self._log(role).read_text(errors="replace").strip()[-400:] or "nothing said"


def _end_with_parent() -> None:
    """In a fresh child: SIGTERM when the benchmark is killed, for the server would run on for ever."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
