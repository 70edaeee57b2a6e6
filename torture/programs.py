"""The two server programs as something to start, stop, kill and start again.

Owns: their processes, in a folder with a myport.info, a data folder and the logs of its own.
Promises: nothing is waited for by sleeping a fixed time; whatever was started has ended when the
`with` is left.
Exposure: 127.0.0.1 only.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import psutil

from common.client_protocol.requests import PublicKeyRequest
from common.values import NO_CLIENT
from torture.caller import Caller
from torture.patience import HANG_SECONDS
from torture.stores import chosen

ROOT: Final = Path(__file__).resolve().parent.parent
_LOOK_EVERY: Final = 0.01
_PATIENT: Final = ("--kill-after", str(HANG_SECONDS))
"""For a keeper: its program may take as long to end as the machine needs."""
_LOWEST_PORT: Final = 10_240
_HIGHEST_PORT: Final = 30_000
_given: Final[set[int]] = set()
"""Ports that this process has given out."""


class ProgramFailed(Exception):
    """A program did not do what it must; the text has its last words."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = HANG_SECONDS) -> None:
    """Look until `condition` holds. Raises `ProgramFailed` that names `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise ProgramFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(_LOOK_EVERY)


def free_port(chance: random.Random | None = None) -> int:
    """A TCP port below those that the system gives to outgoing connections, so that nobody
    has it by chance before the program binds it, nor when it is restarted. Another one each time.
    """
    chance = chance or random.Random(os.urandom(8))
    while True:
        port = chance.randrange(_LOWEST_PORT, _HIGHEST_PORT)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


class Program:
    """One program: `python -m MODULE`, or the same under its keeper if `kept`."""

    def __init__(
        self, module: str, folder: Path, environment: Mapping[str, str], arguments: Sequence[str], *, kept: bool
    ) -> None:
        self.module = module
        self.kept = kept
        self.arguments = list(arguments)
        self.extra_environment: dict[str, str] = {}
        self.prefix: list[str] = []
        """A command that it is started behind, which becomes the program."""
        self._folder = folder
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{module}.log"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        command = [*self.prefix, sys.executable, "-P", "-m", self.module, *self.arguments]
        if self.kept:
            command = [sys.executable, "-P", str(ROOT / "scripts" / "keep_running.py"), *_PATIENT, "--", *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment | self.extra_environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """What was started: the keeper if there is one."""
        assert self._process is not None, f"{self.module} was never started"
        return self._process

    @property
    def running(self) -> bool:
        """Whether what was started has not ended."""
        return self._process is not None and self._process.poll() is None

    def find_pid(self) -> int | None:
        """Of the program itself; None if its keeper has none at the moment."""
        if not self.kept:
            return self.process.pid if self.running else None
        try:
            children = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return None
        return children[0].pid if children else None

    @property
    def pid(self) -> int:
        """Of the program itself. Raises `ProgramFailed` if it does not run."""
        found = self.find_pid()
        if found is None:
            raise ProgramFailed(f"{self.module} is not running: {self.last_words()}")
        return found

    def kill(self) -> None:
        """SIGKILL for the program; its keeper, if there is one, starts it again."""
        os.kill(self.pid, signal.SIGKILL)
        if not self.kept:
            self.process.wait()

    def send_signal(self, number: int) -> None:
        """Send the program a signal."""
        os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM, seconds: float = HANG_SECONDS) -> tuple[int, float]:
        """Ask it to end; the exit code, and the seconds it took. Raises `ProgramFailed` if it takes
        longer.
        """
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise ProgramFailed(f"{self.module} did not end within {seconds} s: {self.last_words()}") from None
        return code, time.monotonic() - began

    def end(self) -> None:
        """Whatever state it is in, it ends now."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            # A keeper takes its program along when it is killed; one that is stopped (SIGSTOP) dies
            # all the same.
            self._process.kill()
        self._process.wait()

    def said(self) -> str:
        """All that it ever logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def last_words(self) -> str:
        """The end of its log."""
        return self.said().strip()[-600:] or "nothing said"


class Server:
    """The pair. `kept`: each under its keeper, as the Procfile has it. `store`: options that say
    where the mail is kept, instead of those for the whole run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kept: bool = False,
        data: Path | None = None,
        gateway_arguments: Sequence[str] = (),
        worker_arguments: Sequence[str] = (),
        worker_module: str = "storage_worker",
        store: Sequence[str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = (data or folder / "data").absolute()
        self.port = free_port()
        (folder / "myport.info").write_text(f"{self.port}\n")
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_DATA": str(self.data)}
        store = chosen().arguments(self.data) if store is None else store
        self.worker = Program(worker_module, folder, self.environment, (*store, *worker_arguments), kept=kept)
        self.gateway = Program("gateway", folder, self.environment, gateway_arguments, kept=kept)
        self.programs: tuple[Program, ...] = (self.worker, self.gateway)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> Self:
        """Start what does not run, and wait until both answer together; if that fails neither is
        left running.
        """
        try:
            for program in self.programs:
                program.start()
            self.await_ready()
        except BaseException:
            self.end()
            raise
        return self

    def answers(self) -> bool:
        """Whether a request goes through both programs and back. It leaves nothing behind."""
        try:
            with Caller(self.port, patience=1.0) as caller:
                caller.ask(PublicKeyRequest(NO_CLIENT, NO_CLIENT))
        except OSError:
            return False
        return True

    def await_ready(self, seconds: float = HANG_SECONDS) -> None:
        """Wait until both programs answer together. Raises `ProgramFailed`."""

        def answers() -> bool:
            for program in self.programs:
                if not program.running:
                    raise ProgramFailed(f"{program.module} has ended: {program.last_words()}")
            return self.answers()

        wait_until(answers, "an answer of the server", seconds)

    def end(self) -> None:
        """Both end now, whatever state they are in."""
        for program in self.programs:
            program.end()
