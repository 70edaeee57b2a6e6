"""The MessageU server as something to measure.

Owns: starting and ending the two server programs of one code folder, registering users, and the
plans that speak part 1 of the client protocol, or 642 and 643 of its extension.
Promises: a server of its own for each start: a free port, a store of its own in the given folder,
or in a PostgreSQL server that is started for it with the settings of that rival; all programs have
ended when the `with` is left. Without the extension it asks nothing that the published protocol
does not have.
Exposure: 127.0.0.1 only.
"""

import os
import random
import socket
import subprocess
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from bench.large import download, upload
from bench.plan import ACK_SIZE, Dialect, Mode, Plan
from bench.profiles import profiled, write_text
from bench.programs import Programs
from bench.rivals.postgres import Postgres, started
from bench.signing_in import shared_public_key
from bench.subject import Kind, Sending, Shape, SubjectFailed, version_in
from common.client_protocol.fields import REQUEST_HEADER, RESPONSE_HEADER
from common.client_protocol.requests import (
    FETCH,
    SEND_HEAD,
    SEND_ONCE_HEAD,
    LargeSendRequest,
    PullRequest,
    RegisterRequest,
    RequestCode,
    encode,
)
from common.client_protocol.responses import ResponseCode
from common.client_protocol.versions import CLIENT_VERSION
from common.values import CLIENT_ID_SIZE, NO_CLIENT, ClientId, MessageKind, PublicKey, Username
from torture.programs import free_port

PROGRAMS: Final = {"worker": "storage_worker", "gateway": "gateway"}
STORE: Final = "postgresql"
"""The role of the server that has the store."""
_START_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 10.0
_LONGEST_SEND: Final = 60.0
_SLOWEST_RATE: Final = 5_000
"""Messages a second; a load of so many messages that takes longer is cut short."""
_LONGEST_DRAIN: Final = 120.0
_REGISTRATIONS_IN_FLIGHT: Final = 64
_FETCHED_AT_ONCE: Final = 64 << 20
"""Bytes of mail that a 643 asks for at most: more than any mailbox has here."""
_IDLE_SOURCES: Final = 4
_IDLE_AT_A_TIME: Final = 32
_KEY_START: Final = bytes.fromhex("30819d300d06092a864886f70d010101050003818b0030818702818100")
_KEY_END: Final = bytes.fromhex("020111")
_MODULUS_SIZE: Final = 128


def synthetic_key(number: int) -> PublicKey:
    """160 bytes that look like the DER of an RSA-1024 key; nobody has the private half."""
    modulus = random.Random(number).randbytes(_MODULUS_SIZE)
    return PublicKey(_KEY_START + bytes([modulus[0] | 0x80]) + modulus[1:] + _KEY_END)


def register(port: int, names: Sequence[str], key: PublicKey | None = None) -> list[ClientId]:
    """Register users at 127.0.0.1, pipelined; their ids in the order of `names`. `key`: that of
    all of them; by default each has a synthetic one.

    Raises `SubjectFailed` for any answer but 2100, `OSError` where there is no answer at all.
    """
    ids: list[ClientId] = []
    with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
        answers = connection.makefile("rb")
        for first in range(0, len(names), _REGISTRATIONS_IN_FLIGHT):
            group = names[first : first + _REGISTRATIONS_IN_FLIGHT]
            requests = [
                RegisterRequest(NO_CLIENT, Username(name), key or synthetic_key(first + number))
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

    def __init__(
        self,
        port: int,
        process_ids: Mapping[str, int],
        start_again: Callable[[], None] | None = None,
        tls_port: int | None = None,
        *,
        extension: bool = False,
    ) -> None:
        """`start_again` ends the programs of `process_ids` and starts others over the
        same store. With a `tls_port` the loads go there. `extension`: the loads are 642 and 643.
        """
        self._extension = extension
        self._load_port = port if tls_port is None else tls_port
        self._tls = tls_port is not None
        self.process_ids = process_ids
        self.port = port
        self._start_again = start_again
        self._recipients: list[ClientId] = []
        self._senders: list[ClientId] = []
        self._probes = 0

    def register_users(self, recipients: int, senders: int) -> None:
        """Make the users of the plans. Raises `SubjectFailed`."""
        try:
            key = shared_public_key() if self._extension else None
            self._recipients = register(self.port, [f"recipient {number}" for number in range(recipients)], key)
            self._senders = register(self.port, [f"sender {number}" for number in range(senders)], key)
        except OSError as error:
            raise SubjectFailed(f"users can't be registered: {error}") from error

    def restart(self) -> None:
        """End both programs, start them again, and wait for an answer. Raises `SubjectFailed`."""
        assert self._start_again is not None
        self._start_again()

    def await_accepted(self) -> None:
        """Register somebody on a connection of its own: connections are accepted in the
        order they came.
        """
        self._probes += 1
        register(self.port, [f"probe {self._probes}"])

    def send_plan(self, shape: Shape, sending: Sending) -> Plan:
        """603, or 642, of type 3 from one sender for each connection."""
        recipients = self._recipients[slice(*sending.among)]
        senders = [self._senders[number % len(self._senders)] for number in range(shape.connections)]
        if self._extension:
            # The token stands between them.
            prefixes = [_header(one, RequestCode.SEND_ONCE, SEND_ONCE_HEAD.size + sending.size) for one in senders]
            heads = [SEND_HEAD.pack(recipient, MessageKind.TEXT, sending.size) for recipient in recipients]
        else:
            prefixes = list[bytes](senders)
            heads = [
                encode(LargeSendRequest(NO_CLIENT, recipient, MessageKind.TEXT, sending.size))[CLIENT_ID_SIZE:]
                for recipient in recipients
            ]
        return Plan(
            mode=Mode.SEND,
            port=self._load_port,
            tls=self._tls,
            extension=self._extension,
            connections=shape.connections,
            window=shape.window,
            run_time=sending.seconds,
            messages=sending.messages,
            limit_time=sending.seconds + sending.messages / _SLOWEST_RATE + _LONGEST_SEND,
            seed=sending.seed,
            keys=recipients,
            prefixes=prefixes,
            heads=heads,
            body=random.Random(sending.seed).randbytes(sending.size),
        )

    def drain_plan(self, connections: int, size: int, *, close_each: bool, waiting: Sequence[int]) -> Plan:
        """604 for every recipient until it is answered with an empty 2104; or 643, each of which
        acknowledges what the one before it brought, on a connection for each recipient,
        `connections` of them at a time.
        """
        recipients = self._recipients[: len(waiting)]
        if self._extension:
            return self._fetches(
                Mode.DRAIN, recipients, recipients, connections, limit_time=_LONGEST_DRAIN, content_size=size
            )
        return Plan(
            mode=Mode.DRAIN,
            port=self._load_port,
            tls=self._tls,
            connections=connections,
            limit_time=_LONGEST_DRAIN,
            close_each=close_each,
            content_size=size,
            keys=recipients,
            heads=[encode(PullRequest(recipient)) for recipient in recipients],
        )

    def _fetches(
        self, mode: Mode, users: Sequence[ClientId], targets: Sequence[ClientId], window: int, *, limit_time: float,
        content_size: int = 0, sources: int = 1,
    ) -> Plan:  # fmt: skip
        """643 on a connection of each of `users`; the ack stands behind its header."""
        return Plan(
            mode=mode,
            port=self._load_port,
            extension=True,
            connections=len(users),
            window=window,
            limit_time=limit_time,
            sources=sources,
            content_size=content_size,
            keys=targets,
            prefixes=[_header(user, RequestCode.FETCH, FETCH.size) for user in users],
            heads=[b""] * len(targets),
            body=FETCH.pack(0, _FETCHED_AT_ONCE, 0)[ACK_SIZE:],
        )

    def transfers(self, size: int) -> dict[str, Callable[[], None]]:
        """Sending one content of `size` bytes to somebody, and their fetching it."""
        extension = self._extension
        (recipient,) = register(self.port, ["large content"], shared_public_key() if extension else None)
        return {
            "upload": lambda: upload(self.port, self._senders[0], recipient, size, extension=extension),
            "download": lambda: download(self.port, recipient, size, extension=extension),
        }

    def idle_plan(self, connections: int) -> Plan:
        """One 604, or 643 that does not wait, for each connection."""
        if self._extension:
            users = [self._recipients[number % len(self._recipients)] for number in range(connections)]
            return self._fetches(
                Mode.IDLE, users, self._recipients, _IDLE_AT_A_TIME, limit_time=_LONGEST_SEND, sources=_IDLE_SOURCES
            )
        return Plan(
            mode=Mode.IDLE,
            port=self._load_port,
            tls=self._tls,
            connections=connections,
            window=_IDLE_AT_A_TIME,
            limit_time=_LONGEST_SEND,
            sources=_IDLE_SOURCES,
            keys=self._recipients,
            heads=[encode(PullRequest(recipient)) for recipient in self._recipients],
        )


def _header(requester: ClientId, code: RequestCode, size: int) -> bytes:
    return REQUEST_HEADER.pack(requester, CLIENT_VERSION, code, size)


_WIDE_LIMITS: Final = (
    "--limits=on",
    "--limit-connections=1000000",
    *(f"--limit-{what}=1T+1T/s" for what in ("registrations", "messages", "bytes", "requests")),
)
"""Every client is counted, also those of this machine. Nothing that a load does is beyond them."""


class MessageU:
    """The server programs in one code folder; see `subject.Subject`."""

    dialect = Dialect.MESSAGEU

    def __init__(
        self, name: str, code_folder: Path, *, tls: bool = False, in_postgres: bool = False, extension: bool = False,
        limits: bool = False, python: str = sys.executable,
    ) -> None:  # fmt: skip
        """`python`: the interpreter that runs it, which has its packages."""
        self.name = name
        self.kinds = frozenset({Kind.SENDS, Kind.DRAIN, Kind.IDLE}) if tls else frozenset(Kind)
        self._tls = tls
        self._in_postgres = in_postgres
        self._extension = extension
        self._limits = limits
        self._python = python
        self._code_folder = code_folder.resolve()
        self._profiles: Path | None = None
        missing = [program for program in PROGRAMS.values() if not (self._code_folder / program).is_dir()]
        if missing:
            raise SubjectFailed(f"the code folder of {name!r} has no {' and no '.join(missing)}")

    def over_tls(self) -> "MessageU":
        """The same server, loaded over TLS."""
        return MessageU(f"{self.name} TLS", self._code_folder, tls=True, python=self._python)

    def over_postgres(self) -> "MessageU":
        """The same server with its store in PostgreSQL."""
        return MessageU(f"{self.name} PostgreSQL", self._code_folder, in_postgres=True, python=self._python)

    @property
    def missing(self) -> str:
        """See `subject.Subject`."""
        return Postgres().missing if self._in_postgres else ""

    def by_extension(self) -> "MessageU":
        """The same server, loaded as our own client does: by 642 and 643, signed in."""
        return MessageU(
            f"{self.name} 642/643",
            self._code_folder,
            in_postgres=self._in_postgres,
            extension=True,
            python=self._python,
        )

    def limited(self) -> "MessageU":
        """The same server, which counts every request against limits that refuse none."""
        return MessageU(f"{self.name} with limits", self._code_folder, limits=True, python=self._python)

    def run_by(self, python: Path) -> "MessageU":
        """The same server, run by another interpreter."""
        version = version_in([str(python), "--version"], r"Python (\S+)")
        return MessageU(f"{self.name} Python {version}", self._code_folder, python=str(python))

    def profile_into(self, folder: Path) -> None:
        """From now on profile both programs, each run into files of its own in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._profiles = folder

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
        port = free_port()
        tls_port = free_port() if self._tls else None
        environment = {
            **os.environ,
            "PYTHONPATH": str(self._code_folder),
            "MESSAGEU_DATA": str((folder / "data").resolve()),
        }
        # The programs end before the server that has their store.
        with ExitStack() as resources:
            store: list[str] = []
            beside: Mapping[str, int] = {}
            if self._in_postgres:
                # That server may run as a user of its own, whose folder is in this one.
                folder.chmod(0o755)
                store_port, beside = resources.enter_context(started(folder / "store", STORE))
                store = ["--store", f"postgresql://postgres@127.0.0.1:{store_port}/postgres"]
                _create_store(store, environment)
            programs = resources.enter_context(Programs(folder))
            (folder / "myport.info").write_text(f"{port}\n")
            starts = count(1)
            profiles: list[Path] = []

            def start() -> None:
                begun = next(starts)
                programs.stop()
                for role, program in PROGRAMS.items():
                    command = [self._python, "-P", "-m", program]
                    if self._profiles is not None:
                        profiles.append(self._profiles.resolve() / f"{role}-{port}-{begun}.profile")
                        command = profiled(program, profiles[-1], self._python)
                    if tls_port is not None and program == PROGRAMS["gateway"]:
                        command = [*command, "--tls-listen", f"127.0.0.1:{tls_port}"]
                    if self._limits and program == PROGRAMS["gateway"]:
                        command = [*command, *_WIDE_LIMITS]
                    if program == PROGRAMS["worker"]:
                        command = [*command, *store]
                    programs.start(role, command, environment=environment)
                # A name can be had once: what was registered before a restart is there after it.
                programs.await_answer(lambda attempt: register(port, [f"start {begun}, {attempt}"]), _START_SECONDS)

            start()
            process_ids = ChainMap(programs.process_ids, dict(beside))
            running = RunningMessageU(port, process_ids, start, tls_port, extension=self._extension)
            running.register_users(recipients, senders)
            yield running
        for profile in profiles:
            print(f"profile: {write_text(profile)}", file=sys.stderr)


def _create_store(store: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", "storage_worker.admin", "store", "create", *store],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise SubjectFailed(f"the store can't be made in PostgreSQL: {said.strip()[-400:]}") from error
