"""Drill: flood. A thousand addresses attack at once, each in one of a dozen ways, a server that
limits them; an innocent client is beside them.

Owns: the crowds, and what is judged: the innocent client's p99 and mail, the gateway's memory, and
what the attackers are told.
Promises: the innocent client is served and loses nothing; the attackers are refused with reason 7
and a time to wait; in the long form the p99 is at most `SLOWER` times that of the same server
without them or `SLOW_SECONDS`, whichever is more. The short form judges no speed, nor does the long
one where the machine is busy with other things (`BUSY_SECONDS` of `torture.floods`); the row says
so. The same crowds without limits come first, and are refused nothing: that is the control.
Exposure: binds to addresses of 127.0.0.0/8.
"""

import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from common.client_protocol.requests import (
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PullRequest,
    SendRequest,
    encode,
)
from common.client_protocol.versions import EXTENSION_VERSION
from common.values import NO_CLIENT
from torture.actors import Actor
from torture.caller import FEATURES, Account, Caller, new_account
from torture.checker import Verdict
from torture.crowds import Habits, Pieces, Refusals, crowd, raise_descriptors
from torture.drill import Place, Row, examples, say
from torture.floods import (
    BUSY_SECONDS,
    MEMORY_BOUND,
    Innocent,
    Memory,
    again_and_again,
    be_idle,
    crowd_of_users,
    half_upload,
    once,
    p99,
    registrations,
)
from torture.programs import Server, free_port

NAME: Final = "flood"
SLOWER: Final = 2
SLOW_SECONDS: Final = 0.020
_FULL_SECONDS: Final = 60.0
_QUICK_SECONDS: Final = 3.0
_ADDRESSES: Final = 1_000
_PLACES: Final = 900
"""Fewer than the attackers want: they take all that there are."""
_SAMPLES: Final = 100
_MESSAGE_EVERY: Final = 100
"""The innocent client keeps to the limit of messages, however long the run is."""
_ASK_EVERY: Final = 0.05
"""Seconds between two of its requests, for the same reason."""
_WAITING: Final = 1_000
"""Messages in the mailbox that is fetched over and over."""
_PER_NETWORK: Final = 250
_NICENESS: Final = 19
"""Of a dozen processes that stand for other machines. In the long form, which judges the innocent
client's time, they give way: a dozen nice ones still keep a program that wakes up waiting for their
slices of the processor, some ten milliseconds a request.
"""


class _Crowd(NamedTuple):
    """One way to attack. `over_tls`: on the TLS port."""

    name: str
    pieces: Pieces
    reads: bool = True
    every: float = 0.0
    over_tls: bool = False


def greeted(data: bytes) -> Pieces:
    """The same without end, by somebody who asked for reasons."""
    hello = encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, FEATURES))

    def pieces(number: int) -> Iterator[bytes]:
        yield hello
        yield from again_and_again(data)(number)

    return pieces


def _greeted_registrations(number: int) -> Iterator[bytes]:
    yield encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, FEATURES))
    yield from registrations(number)


def dripped(data: bytes) -> Pieces:
    """A byte at a time."""
    return lambda _number: (data[at : at + 1] for at in range(len(data)))


def client_hello() -> bytes:
    """The first that a client of TLS says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


def _crowds(villain: Account, mailbox: Account) -> list[_Crowd]:
    me = villain.client_id
    hello = client_hello()
    send = encode(SendRequest(me, me, 3, b"x"))
    proof = encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, FEATURES)) + encode(ProveRequest(me, bytes(128)))
    users = encode(ListUsersRequest(me))
    return [
        _Crowd("603 pipelined", greeted(send)),
        _Crowd("600", _greeted_registrations),
        _Crowd("601", again_and_again(users)),
        _Crowd("601 unread", once(users * 24), reads=False),
        _Crowd("604 over much mail", again_and_again(encode(PullRequest(mailbox.client_id)))),
        _Crowd("640 and 641, bad signatures", again_and_again(proof)),
        _Crowd("half uploads", once(half_upload(villain)), reads=False),
        _Crowd("a byte a second", dripped(send), every=1.0),
        _Crowd("a byte a second of a handshake", dripped(hello), every=1.0, over_tls=True),
        # What follows ends the connection, and another one comes.
        _Crowd("handshakes", once(hello + b"\x16\x03\x03\0\1x"), over_tls=True),
        _Crowd("handshakes that stand still", once(hello), over_tls=True),
        _Crowd("idle", be_idle),
    ]


def source_addresses(first: int, count: int) -> Callable[[int], str]:
    """Of connection number n: one of `count`, from number `first` on."""

    def source(number: int) -> str:
        network, host = divmod(first + number % count, _PER_NETWORK)
        return f"127.1.{network}.{host + 1}"

    return source


class _Attack:
    """All crowds at once, from `addresses` in all."""

    def __init__(self, server: Server, tls_port: int, crowds: list[_Crowd], addresses: int, *, gives_way: bool) -> None:
        self.refusals = {one.name: Refusals() for one in crowds}
        share = addresses // len(crowds)
        self._actors = [
            Actor(
                crowd,
                tls_port if one.over_tls else server.port,
                Habits(
                    share + (addresses % len(crowds) if one is crowds[-1] else 0),
                    one.pieces,
                    reads=one.reads,
                    source=source_addresses(index * share, addresses),
                    every=one.every,
                    refusals=self.refusals[one.name],
                    understands=not one.over_tls,
                    niceness=_NICENESS,
                    gives_way=gives_way,
                ),
            )
            for index, one in enumerate(crowds)
        ]

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Meanwhile."""
        try:
            for actor in self._actors:
                actor.start()
            yield
            assert all(actor.process.is_alive() for actor in self._actors), "a crowd has ended by itself"
        finally:
            for actor in self._actors:
                actor.kill()

    def told(self) -> str:
        """What each crowd was told, for the log."""
        return ", ".join(f"{name}: {one.too_fast} refused, {one.closed} closed" for name, one in self.refusals.items())


def _beside(innocent: Innocent, seconds: float) -> float:
    """The p99 of an innocent client, as often as there is time for it; the median."""
    over = time.monotonic() + seconds
    found = [p99(innocent.seconds(_SAMPLES))]
    while time.monotonic() < over:
        found.append(p99(innocent.seconds(_SAMPLES)))
    return statistics.median(found)


def _arguments(limits: str, tls_port: int) -> tuple[str, ...]:
    return (f"--limits={limits}", f"--connections={_PLACES}", f"--tls-listen=127.0.0.1:{tls_port}")


def run(place: Place) -> Row:
    """Without limits, then with them; in each calm, then beside all crowds."""
    raise_descriptors()
    seconds = _QUICK_SECONDS if place.quick else max(_QUICK_SECONDS, _FULL_SECONDS * min(1.0, place.share))
    folder = place.folder_of(NAME) / "server"
    problems: list[str] = []
    tls_port = free_port()
    with Server(folder, gateway_arguments=_arguments("off", tls_port)).start() as server:
        accounts = [new_account(server.port, name) for name in ("innocent", "villain", "mailbox")]
        me, villain, mailbox = accounts
        crowd_of_users(server.port, 200 if place.quick else 20_000)
        with Caller(server.port) as caller:
            for _ in range(_WAITING):
                caller.send(villain.client_id, mailbox.client_id, bytes(1000))
        control = _Attack(server, tls_port, _crowds(villain, mailbox), _ADDRESSES, gives_way=not place.quick)
        with control.going_on():
            time.sleep(_QUICK_SECONDS)
        unlimited = sum(one.too_fast for one in control.refusals.values())
        if unlimited:
            problems.append(f"{unlimited} requests are refused as too fast without limits")
    with Server(folder, gateway_arguments=_arguments("on", tls_port)).start() as server:
        innocent = Innocent(server.port, me, _MESSAGE_EVERY, _ASK_EVERY)
        calm = _beside(innocent, min(3.0, seconds / 4))
        attack = _Attack(server, tls_port, _crowds(villain, mailbox), _ADDRESSES, gives_way=not place.quick)
        memory = Memory(server.gateway.pid)
        with attack.going_on(), memory.watched():
            beside = _beside(innocent, seconds)
        calm = max(calm, _beside(innocent, min(3.0, seconds / 4)))
        problems += [f"{program.module} ended" for program in server.programs if not program.running]
    verdict: Verdict = innocent.verdict()
    say(f"  {NAME}: {attack.told()}")
    refused = sum(one.too_fast for one in attack.refusals.values())
    timeless = sum(one.timeless for one in attack.refusals.values())
    closed = sum(one.closed for one in attack.refusals.values())
    if not refused or timeless:
        problems.append(f"refused with a time to wait: {refused}, without: {timeless}")
    if memory.largest > MEMORY_BOUND:
        problems.append(f"the gateway had more than {MEMORY_BOUND >> 20} MiB")
    bound = max(SLOWER * calm, SLOW_SECONDS)
    # What holds in spite of a busy machine holds.
    is_judged = not place.quick and (calm < BUSY_SECONDS or beside <= SLOW_SECONDS)
    if is_judged and beside > bound:
        problems.append(f"p99 beside the flood {beside * 1000:.1f} ms, more than {bound * 1000:.0f} ms")
    for problem in (*problems, examples(verdict)):
        if problem:
            say(f"  {NAME}: {problem}")
    note = (
        f"{_ADDRESSES} addresses, {seconds:.0f} s: p99 {calm * 1000:.1f} ms calm, {beside * 1000:.1f} ms beside, "
        f"{'judged' if is_judged else 'not judged'}; gateway at most {memory.largest >> 20} MiB; {refused} refused "
        f"with reason 7 and a time, {closed} connections closed; without limits {unlimited} refused"
    )
    passed = verdict.spotless and not problems and verdict.acknowledged > 0
    return Row(NAME, 0, verdict, passed, "; ".join([note, *problems[:2]]))
