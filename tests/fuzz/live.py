"""A running server, fed with altered conversations over TCP and TLS.

Owns: the connections of one run. Promises: after each round the server answers somebody else, and
its two programs are the ones that were started; anything else is a fault, which names the round.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from torture.programs import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUND: Final = 20
"""Connections between two looks at the server."""
_PATIENCE: Final = 2.0


class LiveFault(Exception):
    """The server did not stand it."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[Server, int]]:
    """A server on 127.0.0.1, and its port for TLS."""
    tls_port = free_port()
    with Server(folder, gateway_arguments=("--tls-listen", f"127.0.0.1:{tls_port}")).start() as server:
        yield server, tls_port


def run(server: Server, tls_port: int, inputs: Iterator[bytes], rounds: int, inside_tls: bool) -> int:
    """Send each input on a connection of its own; how many were sent. Raises `LiveFault`."""
    started = [program.pid for program in server.programs]
    for number in range(rounds):
        for _ in range(ROUND):
            with contextlib.suppress(OSError):
                _speak(tls_port if inside_tls else server.port, next(inputs), inside_tls)
        if not server.answers() or [program.pid for program in server.programs] != started:
            raise LiveFault(f"after round {number} the server does not answer any more")
    return rounds * ROUND


def _speak(port: int, data: bytes, inside_tls: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as plain:
        if not inside_tls:
            _exchange(plain, data)
            return
        with _tls().wrap_socket(plain) as speaker:
            _exchange(speaker, data)


def _exchange(speaker: socket.socket, data: bytes) -> None:
    speaker.settimeout(0.05)
    speaker.sendall(data)
    with contextlib.suppress(TimeoutError):
        while speaker.recv(65536):
            pass


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
