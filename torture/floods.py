"""Drill: floods. An innocent client beside crowds that send rubbish, pipeline, don't read, or hold
things half-done.

Owns: the kinds of flood, and what is measured beside each: the innocent client's p99 and the
gateway's memory.
Promises: the innocent client is served beside every flood and loses nothing; in the long form its
p99 is at most `SLOWER` times that of a calm server or `SLOW_SECONDS`, whichever is more. The short
form judges no speed, nor does the long one where the machine is busy with other things
(`BUSY_SECONDS`); the row says how often it did.
Exposure: none.
"""

import os
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import psutil

from common.client_protocol.fields import REQUEST_HEADER
from common.client_protocol.requests import (
    SEND_HEAD,
    ListUsersRequest,
    PublicKeyRequest,
    RegisterRequest,
    RequestCode,
    SendRequest,
    encode,
)
from common.client_protocol.responses import RegisteredResponse
from common.values import NO_CLIENT, ClientId, PublicKey, Username
from torture.actors import Actor
from torture.caller import Account, Caller, Mail, new_account
from torture.checker import Verdict, judge
from torture.crowds import Habits, Pieces, crowd, raise_descriptors
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage, parse_content
from torture.programs import Server

NAME: Final = "floods"
SLOWER: Final = 5
SLOW_SECONDS: Final = 0.040
BUSY_SECONDS: Final = 0.004
"""A calm server's p99, before a flood or the next one, from which on it is the machine's
speed that is measured.
"""
MEMORY_BOUND: Final = 400 * 1024 * 1024
"""Bytes of the gateway: its budget for what is in flight, and what Python, the allocator
and connections need.
"""
_CONNECTIONS_ALLOWED: Final = 12_000
_FEW_PLACES: Final = 150
_LIMITED: Final = ("--limits=on", "--limit-messages=500+1/s", "--limit-requests=100K+1K/s")
"""The flood shares one limit of messages, for it proves nothing; the innocent client has its own,
and sends fewer than that. It asks for keys more often than people do.
"""
_PIECE: Final = 32 * 1024
_HALF_FRAME: Final = 65_536
_HALF_UPLOAD: Final = 255 * 1024
_FULL_SAMPLES: Final = 200
_QUICK_SAMPLES: Final = 20
_FULL_ROUNDS: Final = 3
"""The median of so many p99s is judged: a single one may be that of another program's moment."""
_ASK_EVERY: Final = 0.002
"""Seconds between two requests of the innocent client."""
_MESSAGE_EVERY: Final = 10
"""Of its requests so many ask for a key, then one sends a message."""
_WARM_UP: Final = 1.0
"""Seconds of a flood before anything is measured."""
_USERS_AT_ONCE: Final = 500


class Flood(NamedTuple):
    """One kind. `judged`: whether the innocent client's p99 is held to the bound.
    `places`: for connections, in all. `limits`: the gateway's options.
    """

    name: str
    habits: Habits
    judged: bool = True
    places: int = _CONNECTIONS_ALLOWED
    limits: tuple[str, ...] = ()


def again_and_again(data: bytes) -> Pieces:
    """The same bytes without end."""
    piece = data * max(1, _PIECE // len(data))

    def pieces(_number: int) -> Iterator[bytes]:
        while True:
            yield piece

    return pieces


def once(data: bytes) -> Pieces:
    """These bytes, and then nothing."""
    return lambda _number: iter([data])


def be_idle(_number: int) -> Iterator[bytes]:
    """Be connected, that is all."""
    return iter(())


def _registration(name: str) -> bytes:
    return encode(RegisterRequest(NO_CLIENT, Username(name), PublicKey(b"k" * 160)))


def registrations(number: int) -> Iterator[bytes]:
    """Users without end, each with a name of its own."""
    label = f"{os.getpid()}-{number}"
    serial = 0
    while True:
        yield b"".join([_registration(f"flood {label}-{serial + one}") for one in range(64)])
        serial += 64


def _half_frame(account: Account) -> bytes:
    """A 603 whose last byte never comes."""
    frame = encode(SendRequest(account.client_id, account.client_id, 3, bytes(_HALF_FRAME)))
    return frame[:-1]


def half_upload(account: Account) -> bytes:
    """A 603 that is large enough to travel in chunks, less than the first of which comes."""
    size = 1024 * 1024
    header = REQUEST_HEADER.pack(account.client_id, 2, RequestCode.SEND, SEND_HEAD.size + size)
    return header + SEND_HEAD.pack(account.client_id, 4, size) + bytes(_HALF_UPLOAD)


def floods(place: Place, account: Account) -> list[Flood]:
    """All kinds, in the size of the run."""
    me = account.client_id
    rubbish = struct.pack("<16sBHI", me, 2, 999, 0)
    key = encode(PublicKeyRequest(me, me))
    send = encode(SendRequest(me, me, 3, b""))
    users = encode(ListUsersRequest(me))

    def many(full: int, quick: int) -> int:
        return quick if place.quick else full

    return [
        Flood("malformed x10", Habits(10, again_and_again(rubbish))),
        Flood("malformed x100", Habits(many(100, 20), again_and_again(rubbish))),
        Flood("602 x10", Habits(10, again_and_again(key))),
        Flood("602 x100", Habits(many(100, 20), again_and_again(key))),
        Flood("603 x10", Habits(10, again_and_again(send))),
        Flood("603 x100", Habits(many(100, 20), again_and_again(send))),
        Flood("603 beyond a limit x100", Habits(many(100, 20), again_and_again(send)), limits=_LIMITED),
        Flood("600 x4", Habits(4, registrations)),
        Flood("600 x100", Habits(many(100, 20), registrations)),
        Flood("601 x10", Habits(10, again_and_again(users))),
        Flood("601 unread x400", Habits(many(400, 20), once(users * 24), reads=False)),
        Flood("idle, more than there are places", Habits(_FEW_PLACES + 50, be_idle), places=_FEW_PLACES),
        Flood("half uploads x4000", Habits(many(4000, 50), once(half_upload(account)), reads=False), judged=False),
        Flood("half frames x8000", Habits(many(8000, 50), once(_half_frame(account)), reads=False), judged=False),
    ]


class Innocent:
    """A client that does what everybody does, one request at a time, and takes the time of each.
    One of `message_every` requests sends a message, the first one too. `pause`: seconds between two
    requests.
    """

    def __init__(
        self, port: int, account: Account, message_every: int = _MESSAGE_EVERY, pause: float = _ASK_EVERY
    ) -> None:
        self._port = port
        self._account = account
        self._message_every = message_every
        self._pause = pause
        self.attempted: list[DrillMessage] = []
        self.received: list[DrillMessage] = []
        self._ack = 0

    def seconds(self, samples: int) -> list[float]:
        """How long each of so many requests took. Raises `OSError` where one is not served."""
        me = self._account
        found: list[float] = []
        with Caller(self._port) as caller:
            caller.prove(me)
            for number in range(samples):
                message = (
                    None if number % self._message_every else DrillMessage(me.name, me.name, len(self.attempted) + 1)
                )
                began = time.perf_counter()
                if message is None:
                    caller.public_key(me.client_id, me.client_id)
                else:
                    caller.send(me.client_id, me.client_id, message.content(200))
                    self.attempted.append(message)
                found.append(time.perf_counter() - began)
                time.sleep(self._pause)
            while mail := caller.fetch(me.client_id, self._ack):
                self.received += map(_message_of, mail)
                self._ack = mail[-1].number
        return found

    def verdict(self) -> Verdict:
        """What the checker says of its messages, each of which was acknowledged."""
        return judge(self.attempted, self.attempted, {self._account.name: self.received})


def _message_of(mail: Mail) -> DrillMessage:
    return parse_content(mail.content) or DrillMessage("damaged", "damaged", 0)


class Memory:
    """The largest resident size of a process, looked at from a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.largest = 0

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.largest = max(self.largest, self._process.memory_info().rss)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Meanwhile."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def p99(seconds: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(seconds, n=100)[98]


def typical_p99(innocent: Innocent, rounds: int, samples: int) -> float:
    """The median of so many, each of so many requests."""
    return statistics.median(p99(innocent.seconds(samples)) for _ in range(rounds))


def crowd_of_users(port: int, count: int) -> None:
    """So many users, whom a 601 has to name."""
    with Caller(port) as caller:
        for first in range(0, count, _USERS_AT_ONCE):
            names = [f"user {number}" for number in range(first, min(count, first + _USERS_AT_ONCE))]
            caller.post(b"".join(map(_registration, names)))
            for _ in names:
                answer = caller.event()
                assert isinstance(answer, RegisteredResponse), answer


class Measured(NamedTuple):
    """Beside one flood. Seconds and bytes. `judged`: whether the p99 is held to the bound."""

    name: str
    judged: bool
    p99: float
    memory: int

    def __str__(self) -> str:
        return f"{self.name} {self.p99 * 1000:.1f} ms, {self.memory >> 20} MiB"


def _beside(flood: Flood, server: Server, innocent: Innocent, rounds: int, samples: int, warm_up: float) -> Measured:
    attackers = Actor(crowd, server.port, flood.habits)
    memory = Memory(server.gateway.pid)
    attackers.start()
    try:
        with memory.watched():
            time.sleep(warm_up)
            measured = typical_p99(innocent, rounds, samples)
            assert attackers.process.is_alive(), "the flood has ended by itself"
    finally:
        attackers.kill()
    return Measured(flood.name, flood.judged, measured, memory.largest)


def run(place: Place) -> Row:
    """Calm, then beside every flood; a server of its own for each, so that none pays for
    the one before.
    """
    raise_descriptors()
    rounds, samples = (1, _QUICK_SAMPLES) if place.quick else (_FULL_ROUNDS, _FULL_SAMPLES)
    users = 200 if place.quick else 20_000
    calm: list[float] = []
    beside: list[Measured] = []
    problems: list[str] = []
    verdict = Verdict()
    for index in range(len(floods(place, _NOBODY))):
        kind = floods(place, _NOBODY)[index]
        arguments = ["--connections", str(kind.places), *kind.limits]
        with Server(place.folder_of(NAME) / str(index), gateway_arguments=arguments) as server:
            server.start()
            account, villain = new_account(server.port, "innocent"), new_account(server.port, "villain")
            flood = floods(place, villain)[index]
            if flood.name.startswith("601"):
                crowd_of_users(server.port, users)
            innocent = Innocent(server.port, account)
            calm.append(typical_p99(innocent, rounds, samples))
            beside.append(_beside(flood, server, innocent, rounds, samples, 0.2 if place.quick else _WARM_UP))
            say(f"  {NAME}: calm {calm[-1] * 1000:.1f} ms, {beside[-1]}")
            problems += [f"{program.module} ended" for program in server.programs if not program.running]
            verdict = verdict.combined(innocent.verdict())
            if beside[-1].memory > MEMORY_BOUND:
                problems.append(f"{beside[-1]}: more than {MEMORY_BOUND >> 20} MiB")
    judged = 0
    for index, measured in enumerate(beside):
        # Before it, and before the next one: each on a server that knows of no flood.
        around = max(calm[index : index + 2])
        if not place.quick and measured.judged and around < BUSY_SECONDS:
            judged += 1
            bound = max(SLOWER * around, SLOW_SECONDS)
            if measured.p99 > bound:
                problems.append(f"{measured}: more than {bound * 1000:.0f} ms")
    for problem in (*problems, examples(verdict)):
        if problem:
            say(f"  {NAME}: {problem}")
    slowest = max((one for one in beside), key=lambda one: one.p99)
    largest = max(one.memory for one in beside)
    note = (
        f"calm p99 {max(calm) * 1000:.1f} ms, the slowest beside {slowest.name}: {slowest.p99 * 1000:.1f} ms; "
        f"gateway at most {largest >> 20} MiB; speed judged {judged} times"
    )
    passed = verdict.spotless and not problems and verdict.acknowledged > 0
    return Row(NAME, 0, verdict, passed, "; ".join([note, *problems[:2]]))


_NOBODY: Final = Account(ClientId(b"n" * 16), "nobody", b"")
