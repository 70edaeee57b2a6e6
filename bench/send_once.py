"""642 beside 603: what a send that is stored once costs more. `python -m bench.send_once`.

Owns: authenticated connections, and the two loads in turn against one server.
Promises: every answer is checked; tokens are never used twice; the same generator, in Python, for
both, so that only the ratio between them says something. Bounded in count, and it ends by itself.
Exposure: 127.0.0.1 only.
"""

import argparse
import os
import random
import socket
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pss

from bench.messageu import MessageU, register
from bench.subject import SubjectFailed
from common.client_protocol.fields import RESPONSE_HEADER
from common.client_protocol.requests import HelloRequest, ProveRequest, RegisterRequest, SendRequest, encode
from common.client_protocol.responses import HELLO_REPLY, STORED, ResponseCode
from common.client_protocol.versions import EXTENSION_VERSION
from common.values import NO_CLIENT, ClientId, MessageKind, PublicKey, Token, Username

_ANSWER: Final = RESPONSE_HEADER.size + STORED.size
_STORED_HEAD: Final = struct.pack("<HI", ResponseCode.STORED, STORED.size)
_SECONDS: Final = 20.0


class Figures(NamedTuple):
    """One load: acknowledged messages a second, and microseconds of the server programs'
    CPU for each.
    """

    per_second: float
    cpu_us: float


class Sender:
    """One user on one connection, authenticated."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        key = RSA.generate(1024, e=17)
        public = PublicKey(key.public_key().export_key("DER"))
        self.client_id = ClientId(self._ask(encode(RegisterRequest(NO_CLIENT, Username(name), public)), 16))
        reply = HELLO_REPLY.unpack(self._ask(encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, 0)), HELLO_REPLY.size))
        server_id, nonce = reply[4], reply[6]
        signed = b"MessageU prove 1\0" + server_id + nonce + self.client_id + bytes(32)
        self._ask(encode(ProveRequest(self.client_id, pss.new(key, salt_bytes=32).sign(SHA256.new(signed)))), 0)

    def _ask(self, request: bytes, size: int) -> bytes:
        self._socket.sendall(request)
        answer = self._take(RESPONSE_HEADER.size)
        _version, code, found = RESPONSE_HEADER.unpack(answer)
        if found != size:
            raise SubjectFailed(f"an answer {code} with {found} bytes in place of {size}")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                raise SubjectFailed("the server closed a connection")
            parts += part
        return parts

    def send(self, requests: bytes) -> None:
        """Write many requests at once."""
        self._socket.sendall(requests)

    def check(self, count: int) -> None:
        """Read and check as many answers. Raises `SubjectFailed`."""
        answers = self._take(count * _ANSWER)
        if any(answers[at + 1 : at + 7] != _STORED_HEAD for at in range(0, len(answers), _ANSWER)):
            raise SubjectFailed("a send was not answered with 2103")


def requests(sender: Sender, recipients: list[ClientId], body: bytes, count: int, *, once: bool) -> bytes:
    """`count` sends to recipients at random, with tokens where `once`."""
    return b"".join(
        [
            encode(
                SendRequest(
                    sender.client_id,
                    random.choice(recipients),
                    MessageKind.TEXT,
                    body,
                    Token(os.urandom(16)) if once else None,
                )
            )
            for _ in range(count)
        ]
    )


def measure(
    senders: list[Sender],
    recipients: list[ClientId],
    programs: list[psutil.Process],
    options: argparse.Namespace,
    *,
    once: bool,
) -> Figures:
    """One load; the requests are encoded before the clock starts."""
    body = os.urandom(options.size)
    bursts = [
        [requests(sender, recipients, body, options.window, once=once) for sender in senders]
        for _ in range(options.messages // (options.window * len(senders)))
    ]
    before = sum([sum(program.cpu_times()[:2]) for program in programs])
    begin = time.monotonic()
    for burst in bursts:
        for sender, data in zip(senders, burst, strict=True):
            sender.send(data)
        for sender in senders:
            sender.check(options.window)
    seconds = time.monotonic() - begin
    cpu = sum([sum(program.cpu_times()[:2]) for program in programs]) - before
    sent = len(bursts) * len(senders) * options.window
    return Figures(sent / seconds, cpu / sent * 1e6)


def main() -> int:
    """Print both loads and their ratio."""
    parser = argparse.ArgumentParser(
        prog="bench.send_once", description="642 beside 603, on authenticated connections.", allow_abbrev=False
    )
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--window", type=int, default=32, help="requests in flight on each connection")
    parser.add_argument("--messages", type=int, default=40_000, help="of each load and round")
    parser.add_argument("--size", type=int, default=256, help="bytes of content")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    work = root / "bench" / ".work"
    work.mkdir(exist_ok=True)
    found: dict[bool, list[Figures]] = {False: [], True: []}
    with (
        tempfile.TemporaryDirectory(dir=work) as name,
        MessageU("ours", root).start(Path(name), recipients=0, senders=0) as running,
    ):
        port = running.port
        recipients = register(port, [f"mailbox {number}" for number in range(1000)])
        senders = [Sender(port, f"authenticated {number}") for number in range(options.connections)]
        programs = [psutil.Process(process_id) for process_id in running.process_ids.values()]
        for _ in range(options.rounds):
            for once in (False, True):
                found[once].append(measure(senders, recipients, programs, options, once=once))
    for once, figures in found.items():
        per_second = statistics.median([figure.per_second for figure in figures])
        cpu = statistics.median([figure.cpu_us for figure in figures])
        code = "642" if once else "603"
        print(f"{code}  {per_second:>9,.0f} acknowledged/s  {cpu:6.2f} us CPU of both programs a message")
    ratios = [once.per_second / plain.per_second for plain, once in zip(found[False], found[True], strict=True)]
    print(f"642 / 603, round by round: median {statistics.median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
