"""Reports a program's state over HTTP/1.0, from separate threads.

Owns: the port that `--metrics` opens, and `--health`, which asks it.
Promises: the threads call functions that were passed in, one at a time, which only read numbers:
the program's loop never waits for a request. Each connection has a thread. Beyond
`MOST_CONNECTIONS` the oldest one is closed, so that idle ones hold up nobody. A request has at most
`_LONGEST_REQUEST` bytes, and `REQUEST_TIME` seconds to come; no request changes anything.
Exposure: whoever can reach the port; only programs on this machine unless the operator says
otherwise. Pages contain no id, name or address.

Source: docs/operations.md, "Health".
"""

import argparse
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from common.errors import SettingRejected, ValueRejected
from common.server_address import ServerAddress, parse_address

log = logging.getLogger("status")

SILENT_AFTER: Final = 5.0
"""Seconds after which a loop that did not turn, or a worker that did not answer, counts as stuck.
"""
BEAT: Final = 1.0
"""How often a loop that has nothing to do says that it turns."""
LOOPBACK: Final = "127.0.0.1"
MOST_CONNECTIONS: Final = 16
_LONGEST_REQUEST: Final = 4096
REQUEST_TIME: Final = 1.0
_ASKING_TIME: Final = 5.0
_OK: Final = 200
_TEXT: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a page says. `status` of HTTP."""

    status: int
    body: bytes
    content_type: str = _TEXT


Pages = Mapping[str, Callable[[], Answer]]


def health_page(problem: Callable[[], str | None]) -> Callable[[], Answer]:
    """200, or 503 with what is wrong."""

    def answer() -> Answer:
        found = problem()
        return Answer(_OK, b"ok\n") if found is None else Answer(503, f"{found}\n".encode())

    return answer


def text_page(read: Callable[[], tuple[bytes, str]]) -> Callable[[], Answer]:
    """A text, and its type."""
    return lambda: Answer(_OK, *read())


def loop_problem(now: float, turned_at: float) -> str | None:
    """What is wrong with a loop whose last turn was at `turned_at`; monotonic seconds."""
    silent = now - turned_at
    return None if silent < SILENT_AFTER else f"the loop has not turned for {silent:.0f} s"


def status_place(text: str) -> ServerAddress:
    """For argparse: ADDRESS:PORT, or only a port of the loopback."""
    try:
        found = parse_address(text if ":" in text else f"{LOOPBACK}:{text}")
    except ValueRejected as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if found.pins:
        raise argparse.ArgumentTypeError("ADDRESS:PORT, without a pin")
    return found


def add_status_options(parser: argparse.ArgumentParser, port: int) -> None:
    """`--metrics` and `--health`. `port`: where `--health` asks if `--metrics` does not say."""
    parser.add_argument(
        "--metrics",
        type=status_place,
        metavar="[ADDRESS:]PORT",
        help="serve health and metrics (/live, /ready, /metrics) over HTTP at this address; without ADDRESS, at "
        f"{LOOPBACK} (default: do not serve them)",
    )
    parser.add_argument(
        "--health",
        action="store_true",
        help="start nothing; ask the running program with the same --metrics whether it is ready, and exit with 0 or 1 "
        f"(default: {LOOPBACK}:{port})",
    )
    parser.set_defaults(health_place=ServerAddress(LOOPBACK, port))


def ask_health(options: argparse.Namespace) -> tuple[bool, str]:
    """For `--health`: whether the program is ready, and a sentence."""
    import http.client  # noqa: PLC0415 - servers need none of it

    place: ServerAddress = options.metrics or options.health_place
    connection = http.client.HTTPConnection(place.host, place.port, timeout=_ASKING_TIME)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        said = " ".join(response.read(_LONGEST_REQUEST).decode("utf-8", "replace").split())
    except (OSError, http.client.HTTPException) as error:
        return False, f"nothing answers at {place.place}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    return (True, "ready") if response.status == _OK else (False, f"not ready: {said}")


class StatusServer:
    """Serves `pages`, by path, at `place` until `close`. Raises `SettingRejected` if the address
    can't be used.
    """

    def __init__(self, place: ServerAddress, pages: Pages) -> None:
        self._pages = pages
        try:
            family, kind, protocol, _name, address = socket.getaddrinfo(
                place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._sock = socket.socket(family, kind, protocol)
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._sock.bind(address)
                self._sock.listen()
            except OSError:
                self._sock.close()
                raise
        except OSError as error:
            raise SettingRejected(f"can't listen on {place.place} (--metrics): {error.strerror}") from error
        self.port: int = self._sock.getsockname()[1]
        self._connections: dict[socket.socket, threading.Thread] = {}
        """Those that are open, the oldest first."""
        self._lock = threading.Lock()
        self._reading_numbers = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._keep_newest(0)
        self._sock.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _address = self._sock.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    # For want of descriptors or memory.
                    time.sleep(REQUEST_TIME)
                    continue
                return
            self._keep_newest(MOST_CONNECTIONS - 1)
            thread = threading.Thread(target=self._talk, args=(peer,), name="status", daemon=True)
            with self._lock:
                self._connections[peer] = thread
            try:
                thread.start()
            except RuntimeError as error:
                log.warning("a request for health or metrics is not answered: %s", error)
                self._forget(peer)

    def _keep_newest(self, number: int) -> None:
        """Close all connections but so many, and wait for their threads."""
        with self._lock:
            most = len(self._connections) - number
            oldest = list(self._connections.items())[: max(most, 0)]
        for peer, thread in oldest:
            # It may have ended by itself meanwhile.
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _talk(self, peer: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self._answer(peer)
        finally:
            self._forget(peer)

    def _forget(self, peer: socket.socket) -> None:
        with self._lock:
            del self._connections[peer]
        peer.close()

    def _answer(self, peer: socket.socket) -> None:
        deadline = time.monotonic() + REQUEST_TIME
        request = b""
        while b"\r\n\r\n" not in request and b"\n\n" not in request:
            left = deadline - time.monotonic()
            if left <= 0 or len(request) > _LONGEST_REQUEST:
                return
            peer.settimeout(left)
            data = peer.recv(_LONGEST_REQUEST)
            if not data:
                return
            request += data
        status, body, content_type = self._page(request)
        head = (
            f"HTTP/1.0 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        peer.settimeout(REQUEST_TIME)
        peer.sendall(head.encode() + (b"" if request.startswith(b"HEAD ") else body))

    def _page(self, request: bytes) -> Answer:
        method, _, rest = request.partition(b" ")
        if method not in {b"GET", b"HEAD"}:
            return Answer(405, b"GET and HEAD alone\n")
        path = rest.split()[0].partition(b"?")[0].decode("ascii", "replace") if rest.split() else ""
        page = self._pages.get(path)
        if page is None:
            return Answer(404, b"not here\n")
        try:
            with self._reading_numbers:
                return page()
        except Exception:
            log.exception("a request for a page failed unexpectedly")
            return Answer(500, b"a bug: see the log\n")
