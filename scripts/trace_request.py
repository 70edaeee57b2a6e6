#!/usr/bin/env python3
"""Which modules of the gateway one request passes through: `scripts/trace_request.py [603 | 604]`.

Owns: a gateway in this process and a storage worker of its own, on a throw-away data folder.
Promises: prints each visit of a module in order, indented by depth, and how often each is visited.
A visit is a call from a function of another module; modules outside `gateway` and `common` are
ignored. Leaves nothing behind. Exposure: none; a server of its own on the loopback.

Run it by hand when a module is split or a seam is moved: a module that is visited again and again
within one request is asked many small questions.
"""

# ruff: noqa: E402 - what is imported is set up first

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import _setup

if __name__ == "__main__":
    _setup.continue_in_venv("run")

from common.client_protocol.client_connection import ClientConnection, Event
from common.client_protocol.requests import PullRequest, RegisterRequest, Request, SendRequest, encode
from common.client_protocol.responses import RegisteredResponse
from common.data_folder import data_folder, link_endpoint
from common.values import NO_CLIENT, ClientId, PublicKey, username
from gateway.connection.context import SessionContext
from gateway.event_loop import EventLoop
from gateway.listener import Listener, open_listener
from gateway.settings import Settings
from gateway.storage.link import StorageLink

OURS: Final = ("gateway", "common")
LINK: Final = "gateway.storage.link"
BATCHES: Final = ("common.storage_protocol.batch_sender", "common.storage_protocol.send_run")
KEY: Final = PublicKey(bytes(160))
LONGEST: Final = 20.0
"""Seconds for an answer, the worker's start among them."""


class Visit(NamedTuple):
    """A function of `module` was called by one of `caller`. `depth`: visits that it lies in."""

    caller: str
    module: str
    function: str
    depth: int


class Tracer:
    """While it is entered, notes every visit."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self._inside: list[tuple[FrameType, str]] = []

    def __enter__(self) -> "Tracer":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "return" and self._inside and self._inside[-1][0] is frame:
            self._inside.pop()
        elif event == "call":
            module = frame.f_globals.get("__name__", "")
            caller = self._inside[-1][1] if self._inside else ""
            if module.partition(".")[0] in OURS and module != caller:
                self.visits.append(Visit(caller, module, frame.f_code.co_name, len(self._inside)))
                self._inside.append((frame, module))

    def crossings(self) -> list[Visit]:
        """Those in which the link calls what makes batches, or the other way round."""
        return [
            visit
            for visit in self.visits
            if (visit.caller == LINK and visit.module in BATCHES) or (visit.caller in BATCHES and visit.module == LINK)
        ]


class Stage:
    """A gateway, turned by hand, its worker, and one client."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "MESSAGEU_DATA": str(folder), "PYTHONPATH": str(ROOT)}
        self._worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "storage_worker", "--log-level", "error"], env=environment
        )
        self._loop = EventLoop(time.monotonic)
        endpoint = link_endpoint(data_folder(environment, folder))
        context = SessionContext(
            self._loop,
            lambda listener: StorageLink(self._loop, endpoint, 0, lambda: os.urandom(16), listener),
            Settings(),
            os.urandom,
        )
        self._context = context
        listening = open_listener("127.0.0.1", 0)
        self._listener = Listener(listening, context)
        self._client = socket.create_connection(listening.getsockname())
        self._client.settimeout(0)

    def ask(self, request: Request, tracer: Tracer | None = None) -> list[Event]:
        """What the gateway answers, in parts; its turns are traced, and nothing else is."""
        self._client.sendall(encode(request))
        connection = ClientConnection()
        parts: list[Event] = []
        give_up = time.monotonic() + LONGEST
        while not parts or not connection.idle:
            if time.monotonic() > give_up:
                raise SystemExit("the gateway does not answer")
            with tracer or nullcontext():
                self._loop.turn(1.0)
            with suppress(BlockingIOError):
                connection.receive_data(self._client.recv(1 << 20))
            while (part := connection.next_event()) is not None:
                parts.append(part)
        return parts

    def close(self) -> None:
        """End all of it."""
        self._client.close()
        self._listener.close()
        for session in list(self._context.sessions):
            session.stop()
        self._loop.turn(0)
        self._context.link.close()
        self._loop.close()
        self._worker.terminate()
        self._worker.wait()


def traced(number: int, folder: Path) -> Tracer:
    """The visits of one 603 or 604, on a connection that has asked for as much before."""
    stage = Stage(folder)
    try:
        registered = stage.ask(RegisterRequest(NO_CLIENT, username("traced"), KEY))[0]
        assert isinstance(registered, RegisteredResponse)
        user = ClientId(registered.client_id)
        send, pull = SendRequest(user, user, 3, b"content"), PullRequest(user)
        for request in (send, send) if number == 603 else (send, pull, send):
            stage.ask(request)
        tracer = Tracer()
        stage.ask(send if number == 603 else pull, tracer)
        return tracer
    finally:
        stage.close()


def report(tracer: Tracer) -> str:
    """The visits, each module's number of them, and the sums."""
    lines = [f"{'  ' * visit.depth}{visit.module}.{visit.function}" for visit in tracer.visits]
    counted = Counter(visit.module for visit in tracer.visits)
    lines += ["", *[f"{count:4}  {module}" for module, count in counted.most_common()], ""]
    lines.append(
        f"{len(tracer.visits)} visits of {len(counted)} modules, {len(tracer.visits) - len(counted)} of them "
        f"re-entries; {len(tracer.crossings())} crossings between the link and what makes batches"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(description="Trace one request through the gateway.", allow_abbrev=False)
    parser.add_argument("request", type=int, nargs="?", choices=(603, 604), default=603)
    number: int = parser.parse_args(arguments).request
    with tempfile.TemporaryDirectory() as folder:
        print(report(traced(number, Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
