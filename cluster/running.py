"""A cluster on one machine: PostgreSQL with a standby, storage workers, gateways, and HAProxy where
the machine has it.

Owns: all of its processes and their folders; what Patroni does elsewhere: a primary that has ended
is replaced by its standby, and a server that has ended comes back as one.
Promises: what was started has ended when `end` returns, and its folders are gone. Each step is told
in a sentence. Workers and gateways that die are started again by their keepers, as the Procfile has
it.
Exposure: 127.0.0.1 alone, without TLS, and a folder of mode 0700: this is for trying it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cluster.postgres import Node, Pair
from common.client_protocol.requests import PublicKeyRequest
from common.client_protocol.responses import ErrorResponse
from common.errors import MessageUError
from common.values import ClientId, RefusalReason
from torture.caller import Caller
from torture.programs import ROOT, Program, free_port, wait_until

Say = Callable[[str], None]
NAMES: Final = ("primary", "standby", "worker", "gateway")
_BACK_AFTER: Final = 5.0
"""Seconds until a server of PostgreSQL that has ended comes back as the standby."""
_IMPATIENT: Final = 3.0
_HAPROXY: Final = """
global
    log stderr format raw local0 notice
defaults
    mode tcp
    log global
    timeout connect 2s
    # Clients may wait for mail as long as they like; TCP itself finds those that are gone.
    timeout client 24h
    timeout server 24h
    option clitcpka
    option srvtcpka
    option redispatch
listen messageu
    bind 127.0.0.1:{port}
    balance leastconn
"""


class NotPossible(MessageUError):
    """Something was asked for that can't be done; the text says why."""


class Cluster:
    """N workers, M gateways. `home`: a folder of this user alone. `say` gets each sentence."""

    def __init__(self, home: Path, workers: int, gateways: int, port: int | None, say: Say) -> None:
        self._say = say
        self._home = home
        # Another user has to come to it, and the path of a socket is short.
        self._postgres = Path(tempfile.mkdtemp(prefix="messageu-pg-", dir="/tmp"))
        self.pair = Pair(self._postgres, durable=True)
        self._gone_since: dict[str, float] = {}
        self.workers: list[Program] = []
        self.gateways: list[Program] = []
        self.ports: list[int] = []
        self._proxy: subprocess.Popen[bytes] | None = None
        self._proxy_port = port
        self._shards = workers
        data = [home / f"worker-{number}" / "data" for number in range(workers)]
        for number in range(workers):
            shard = ("--store", self.pair.url(), "--shard", f"{number}/{workers}")
            self.workers.append(self._program("storage_worker", f"worker-{number}", shard))
        links = [word for path in data for word in ("--worker", str(path))]
        for number in range(gateways):
            self.ports.append(free_port())
            words = (*links, "--slot", str(number), "--port", str(self.ports[-1]))
            self.gateways.append(self._program("gateway", f"gateway-{number}", words))

    def _program(self, module: str, name: str, words: Sequence[str]) -> Program:
        folder = self._home / name
        (folder / "data").mkdir(mode=0o700, parents=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MESSAGEU_DATA": str(folder / "data")}
        return Program(module, folder, environment, words, kept=True)

    @property
    def address(self) -> str:
        """What clients are given."""
        if self._proxy is not None:
            return f"127.0.0.1:{self._proxy_port}"
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    # --- up and down
    # ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything, and wait until it answers."""
        self._say("PostgreSQL: making a primary, and a standby that each commit waits for.")
        self.pair.make()
        self._say(f"The store: {_counted(self._shards, 'schema', 'schemas')} in the database, one for each worker.")
        for number in range(self._shards):
            self._make_store(f"{number}/{self._shards}")
        self._say(f"Starting {_counted(len(self.workers), 'storage worker', 'storage workers')}.")
        for program in self.workers:
            program.start()
        self._say(f"Starting {_counted(len(self.gateways), 'gateway', 'gateways')}.")
        for program in self.gateways:
            program.start()
        wait_until(self._answers, "an answer of every worker through every gateway")
        self._start_proxy()

    def _make_store(self, shard: str) -> None:
        words = ("store", "create", "--store", self.pair.url(), "--shard", shard)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "storage_worker.admin", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotPossible(f"the store was not made: {done.stderr.strip()}")

    def _answers(self) -> bool:
        for program in (*self.workers, *self.gateways):
            if not program.running:
                raise NotPossible(f"{program.module} has ended: {program.last_words()}")
        return all(self._gateway_answers(port) for port in self.ports)

    def _gateway_answers(self, port: int) -> bool:
        """Whether it gets an answer from every worker."""
        with suppress(OSError), Caller(port, patience=_IMPATIENT) as caller:
            caller.hello()
            for number in range(self._shards):
                nobody = ClientId(bytes((number * 256 // self._shards, *[0] * 15)))
                answer = caller.ask(PublicKeyRequest(nobody, nobody))
                if isinstance(answer, ErrorResponse) and answer.reason == RefusalReason.UNAVAILABLE:
                    return False
            return True
        return False

    def _start_proxy(self) -> None:
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            self._say("HAProxy is not installed: clients get the list of all gateways.")
            return
        self._proxy_port = self._proxy_port or free_port()
        lines = [
            f"    server gateway-{number} 127.0.0.1:{port} check inter 1s" for number, port in enumerate(self.ports)
        ]
        path = self._home / "haproxy.cfg"
        path.write_text(_HAPROXY.format(port=self._proxy_port) + "\n".join(lines) + "\n")
        keeper = [sys.executable, "-P", str(ROOT / "scripts" / "keep_running.py"), "--ancestors", "1", "--"]
        with (self._home / "haproxy.log").open("ab") as log:
            self._proxy = subprocess.Popen(
                [*keeper, program, "-db", "-f", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        port = self._proxy_port
        wait_until(lambda: self._proxy_ended() or self._gateway_answers(port), "an answer through HAProxy")
        if self._proxy_ended():
            raise NotPossible(f"HAProxy has ended: {(self._home / 'haproxy.log').read_text().strip()[-400:]}")
        self._say(f"HAProxy is in front of the gateways, at 127.0.0.1:{port}.")

    def _proxy_ended(self) -> bool:
        return self._proxy is not None and self._proxy.poll() is not None

    def end(self) -> None:
        """End everything in order: those who accept mail before those who keep it."""
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.wait()
        for programs in (self.gateways, self.workers):
            for program in programs:
                if program.running:
                    program.process.terminate()
            for program in programs:
                if program.running:
                    with suppress(subprocess.TimeoutExpired):
                        program.process.wait(10)
                program.end()
        for node in (self.pair.standby, self.pair.primary):
            node.stop()
        shutil.rmtree(self._postgres, ignore_errors=True)

    # --- what Patroni does
    # ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Called all the time: replace what has ended."""
        now = time.monotonic()
        if not self.pair.primary.running:
            self._replace_primary(now)
        elif not self.pair.standby.running:
            self._replace_standby(now)

    def _replace_primary(self, now: float) -> None:
        dead = self.pair.primary
        if not self.pair.standby.running:
            self._say(f"Both servers of PostgreSQL are gone: {dead.name} is started again, as it was the primary last.")
            dead.configure(synchronous_standby_names="")
            dead.start()
            return
        self.pair.promote()
        self._gone_since[dead.name] = now
        self._say(
            f"PostgreSQL {dead.name}, the primary, is gone: {self.pair.primary.name} is the primary now, "
            f"{time.monotonic() - now:.2f} s after that was seen. It acknowledges alone until it has a standby."
        )

    def _replace_standby(self, now: float) -> None:
        dead = self.pair.standby
        if dead.name not in self._gone_since:
            self._gone_since[dead.name] = now
            self.pair.give_up_standby()
            self._say(f"PostgreSQL {dead.name}, the standby, is gone: {self.pair.primary.name} acknowledges alone.")
        elif now - self._gone_since[dead.name] >= _BACK_AFTER:
            self.pair.follow()
            del self._gone_since[dead.name]
            self._say(f"PostgreSQL {dead.name} is back as the standby; each commit waits for it again.")

    # --- what is asked
    # ----------------------------------------------------------------------------------------------

    def kill(self, kind: str, number: int) -> str:
        """SIGKILL; the sentence. Raises `NotPossible`."""
        if kind in {"primary", "standby"}:
            node = self.pair.primary if kind == "primary" else self.pair.standby
            if not node.running:
                raise NotPossible(f"PostgreSQL {node.name}, the {kind}, does not run")
            node.kill()
            return f"PostgreSQL {node.name}, the {kind}, is killed."
        programs = self.workers if kind == "worker" else self.gateways
        if not 0 <= number < len(programs):
            raise NotPossible(f"there is no {kind} {number}: they are 0 to {len(programs) - 1}")
        found = programs[number].find_pid()
        if found is None:
            raise NotPossible(f"{kind} {number} is just being started again")
        programs[number].kill()
        return f"{kind} {number} is killed; its keeper starts it again."

    def status(self) -> list[str]:
        """A line for each part."""
        lines = [f"clients: {self.address}"]
        if self._proxy is not None:
            lines.append(f"HAProxy: {'runs' if not self._proxy_ended() else 'has ended'}")
        for number, (program, port) in enumerate(zip(self.gateways, self.ports, strict=True)):
            answers = "every worker answers" if self._gateway_answers(port) else "not every worker answers"
            lines.append(f"gateway {number}: {_pid(program)}, 127.0.0.1:{port}, {answers}")
        lines += [f"worker {number}: {_pid(program)}" for number, program in enumerate(self.workers)]
        lines += [
            self._state(kind, node) for kind, node in (("primary", self.pair.primary), ("standby", self.pair.standby))
        ]
        return lines

    def _state(self, kind: str, node: Node) -> str:
        if not node.running:
            return f"{kind}: PostgreSQL {node.name}, has ended"
        if kind == "primary" or not self.pair.primary.running:
            return f"{kind}: PostgreSQL {node.name}, runs"
        state = self.pair.state()
        waits = "each commit waits for it" if state == "sync" else "no commit waits for it"
        return f"{kind}: PostgreSQL {node.name}, runs, {waits}"


def _pid(program: Program) -> str:
    found = program.find_pid()
    return "is being started" if found is None else f"process {found}"


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
