"""One large content through the server, up and down, and small sends beside it.

Owns: the transfer over plain sockets, and what is read meanwhile.
Promises: every byte that comes back is compared with what was sent; the small sends of all three
runs are the same.
Exposure: 127.0.0.1 only.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.figures import Figures
from bench.generator import Generator, Run
from bench.loads import CONTENT_SIZE, Extent, Large
from bench.plan import TOKEN_SIZE, Report
from bench.signing_in import connect_as
from bench.subject import Running, Sending, Shape, SubjectFailed
from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import FetchRequest, LargeSendRequest, PullRequest, encode
from common.client_protocol.responses import FETCHED_HEAD, STORED, WAITING_HEAD, ResponseCode
from common.values import ClientId, MessageKind, Token

_BLOCK: Final = os.urandom(1 << 20)
_SHAPE: Final = Shape(4, 1)
_STALL_SECONDS: Final = 60.0
_LONGEST: Final = 300.0
_MEGA: Final = 1e6


def _connect(port: int, user: ClientId, *, extension: bool) -> socket.socket:
    if extension:
        connection = connect_as(port, user)
        connection.settimeout(_STALL_SECONDS)
        return connection
    return socket.create_connection(("127.0.0.1", port), _STALL_SECONDS)


def upload(port: int, sender: ClientId, recipient: ClientId, size: int, *, extension: bool = False) -> None:
    """Send one content of `size` bytes, by 603 or by 642, until it is acknowledged. Raises
    `OSError`, `SubjectFailed`.
    """
    token = Token(os.urandom(TOKEN_SIZE)) if extension else None
    with _connect(port, sender, extension=extension) as connection:
        connection.sendall(encode(LargeSendRequest(sender, recipient, MessageKind.FILE, size, token)))
        for at in range(0, size, len(_BLOCK)):
            connection.sendall(_BLOCK[: min(len(_BLOCK), size - at)])
        answer = connection.makefile("rb").read(RESPONSE_HEADER.size)
    # A refusal has no more than this, and the rest of a 2103 names the only recipient there is.
    if len(answer) < RESPONSE_HEADER.size or RESPONSE_HEADER.unpack(answer)[1:] != (ResponseCode.STORED, STORED.size):
        raise SubjectFailed(f"a content of {size} bytes was answered {answer.hex() or 'by the end of the connection'}")


def download(port: int, recipient: ClientId, size: int, *, extension: bool = False) -> None:
    """Fetch it, by 604 or by 643, and say that it has come. Raises `OSError`, `SubjectFailed` where
    it is not what was sent.
    """
    entry_head, mail = (FETCHED_HEAD, ResponseCode.FETCHED) if extension else (WAITING_HEAD, ResponseCode.WAITING)
    with _connect(port, recipient, extension=extension) as connection:
        connection.sendall(encode(FetchRequest(recipient, 0, size, 0) if extension else PullRequest(recipient)))
        head = bytearray(RESPONSE_HEADER.size + entry_head.size)
        _exactly(connection, head)
        _version, code, payload_size = RESPONSE_HEADER.unpack_from(head)
        if (code, payload_size) != (mail, entry_head.size + size):
            raise SubjectFailed(f"the large content was announced as {code} with {payload_size} bytes")
        block = bytearray(len(_BLOCK))
        for at in range(0, size, len(_BLOCK)):
            wanted = min(len(_BLOCK), size - at)
            _exactly(connection, memoryview(block)[:wanted])
            if memoryview(block)[:wanted] != memoryview(_BLOCK)[:wanted]:
                raise SubjectFailed(f"the large content differs after {at} bytes")
        sequence = entry_head.unpack_from(head, RESPONSE_HEADER.size)[2] if extension else 0
        connection.sendall(encode(FetchRequest(recipient, sequence, 0, 0) if extension else PullRequest(recipient)))
        _exactly(connection, bytearray(RESPONSE_HEADER.size))


def _exactly(connection: socket.socket, buffer: bytearray | memoryview) -> None:
    """Fill the buffer."""
    view = memoryview(buffer)
    at = 0
    while at < len(view):
        got = connection.recv_into(view[at:])
        if not got:
            raise ConnectionResetError("the server closed the connection")
        at += got


def measure_large(
    running: Running,
    generator: Generator,
    extent: Extent,
    number: int,
    subject: str,
    transfers: Mapping[str, Callable[[], None]],
) -> Figures:
    """Small sends alone, then beside each of the `transfers` (of `extent.large_size` bytes, by
    name), in their order.

    Raises `GeneratorFailed`, `SubjectFailed`.
    """
    figures = Figures(load=str(Large()), subject=subject, round=number)
    values = figures.values
    forget_peaks(running.process_ids)
    _note(figures, "alone", _small_sends(running, generator, lambda: time.sleep(extent.run_time)))
    for name, transfer in transfers.items():
        timed = _Timed(transfer)
        report = _small_sends(running, generator, timed.run)
        if timed.failure is not None:
            raise SubjectFailed(f"{name}: {timed.failure}") from timed.failure
        _note(figures, f"beside {name}", report)
        values[f"{name} MB/s"] = extent.large_size / timed.seconds / _MEGA
    for role, process_id in running.process_ids.items():
        values[f"{role} peak MB"] = peak_bytes(process_id) / _MEGA
    return figures


class _Timed:
    """A transfer in a thread: how long it took, or why it failed."""

    def __init__(self, transfer: Callable[[], None]) -> None:
        self.seconds = 0.0
        self.failure: Exception | None = None
        self._transfer = transfer

    def run(self) -> None:
        """Do it; never raises what a transfer may raise."""
        begin = time.monotonic()
        try:
            self._transfer()
        except (OSError, SubjectFailed) as error:
            self.failure = error
        self.seconds = time.monotonic() - begin


def _small_sends(running: Running, generator: Generator, work: Callable[[], None]) -> Report:
    """Small sends for as long as `work` takes."""
    plan = running.send_plan(_SHAPE, Sending(CONTENT_SIZE, seconds=_LONGEST))
    with Run(generator, plan) as run:

        def work_and_stop() -> None:
            work()
            run.stop()

        stopper = threading.Thread(target=work_and_stop, daemon=True)
        stopper.start()
        report = run.go()
        stopper.join()
    return report


def _note(figures: Figures, when: str, report: Report) -> None:
    figures.values[f"{when} sends/s"] = report.acknowledged / max(report.seconds, 1e-9)
    figures.values[f"{when} p50 ms"] = report.latency(50) / 1e6
    figures.values[f"{when} p99 ms"] = report.latency(99) / 1e6
    figures.errors += report.errors


def forget_peaks(process_ids: Mapping[str, int]) -> None:
    """Let the kernel count each process' peak of resident memory from now on."""
    for process_id in process_ids.values():
        Path(f"/proc/{process_id}/clear_refs").write_text("5")


def peak_bytes(process_id: int) -> int:
    """The peak of a process' resident memory (VmHWM). Raises `SubjectFailed` when it has ended."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError as error:
        raise SubjectFailed(f"process {process_id} can't be looked at: {error}") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
