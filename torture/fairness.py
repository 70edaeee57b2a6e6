"""Drill: fairness. An innocent client during one kind of attack at a time, from this machine, on a
server with limits for everybody.

Owns: the kinds of attack, and what is judged during each: the innocent client's p99 and mail, the
gateway's memory, and what the attackers are told.
Promises: the innocent client is served and loses nothing; in the long form its p99 is at most
`SLOWER` times that of the same server before the attack or `SLOW_SECONDS`, whichever is more. The
short form judges no speed, nor does the long one if the machine is busy with other things
(`BUSY_SECONDS` of `torture.floods`); the row says how often it did. All kinds attack the same
store, which has many users and a mailbox with much mail; each has a server that was just started.
Exposure: binds to addresses of 127.0.0.0/8.
"""

import time
from typing import Final, NamedTuple

import psutil

from common.client_protocol.requests import (
    HelloRequest,
    ListUsersRequest,
    ProveRequest,
    PublicKeyRequest,
    PullRequest,
    SendRequest,
    encode,
)
from common.client_protocol.responses import StoredResponse
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
    typical_p99,
)
from torture.many_sources import SLOW_SECONDS, SLOWER, client_hello, dripped, greeted, source_addresses
from torture.programs import Server, free_port

NAME: Final = "fairness"
_CONNECTIONS: Final = 100
"""Of an attack, each from an address of its own, unless its kind is about their number."""
_DRIPPING: Final = 10_000
_PLACES: Final = 12_000
_FEW_DESCRIPTORS: Final = 256
"""Of the gateway, if an attack wants more."""
_USERS: Final = 100_000
_WAITING: Final = 1_000_000
_SENT_AT_ONCE: Final = 1_000
_READ_AT_MOST: Final = 64 * 1024
"""Bytes of a long answer after which an attacker hangs up, and comes again."""
_FULL_SAMPLES: Final = 200
_QUICK_SAMPLES: Final = 20
_FULL_ROUNDS: Final = 3
"""The median of so many p99s is judged: a single one may be that of another program's moment."""
_MESSAGE_EVERY: Final = 200
_ASK_EVERY: Final = 0.03
"""Seconds. The innocent client keeps to the limits of messages and of requests."""
_WARM_UP: Final = 1.0
"""Seconds of an attack before anything is measured."""


class Attack(NamedTuple):
    """One kind. `over_tls`: on the TLS port; `few_descriptors`: the gateway runs out of them."""

    name: str
    habits: Habits
    over_tls: bool = False
    few_descriptors: bool = False


def attacks(place: Place, villain: Account, mailbox: Account) -> list[Attack]:
    """All kinds, in the size of the run."""
    me = villain.client_id
    many = 20 if place.quick else _CONNECTIONS
    send = encode(SendRequest(me, me, 3, b"x"))
    users = encode(ListUsersRequest(me))
    pull = encode(PullRequest(mailbox.client_id))
    proof = encode(HelloRequest(NO_CLIENT, EXTENSION_VERSION, FEATURES)) + encode(ProveRequest(me, bytes(128)))
    hello = client_hello()

    def habits(pieces: Pieces, connections: int = many, *, reads: bool = True, **more: float) -> Habits:
        return Habits(
            connections,
            pieces,
            reads=reads,
            source=source_addresses(0, _CONNECTIONS),
            every=more.get("every", 0.0),
            hangs_up_after=int(more.get("hangs_up_after", 0)),
        )

    return [
        Attack("603 pipelined", habits(greeted(send))),
        Attack("602 pipelined", habits(greeted(encode(PublicKeyRequest(me, me))))),
        Attack("601 of many users", habits(greeted(users))),
        Attack("601, hung up on", habits(greeted(users), hangs_up_after=_READ_AT_MOST)),
        Attack("604 of much mail, hung up on", habits(greeted(pull), hangs_up_after=_READ_AT_MOST)),
        Attack("640 and 641, bad signatures", habits(again_and_again(proof))),
        Attack("half uploads", habits(once(half_upload(villain)), many * 10, reads=False)),
        Attack("601 unread", habits(once(users * 24), reads=False)),
        Attack("604 unread", habits(once(pull), reads=False)),
        Attack("a byte a second", habits(dripped(send), 50 if place.quick else _DRIPPING, every=1.0)),
        # What follows ends the connection, and another one comes.
        Attack("handshakes", habits(once(hello + b"\x16\x03\x03\0\1x")), over_tls=True),
        Attack("handshakes that stand still", habits(once(hello), many * 10), over_tls=True),
        Attack("idle, more than there are descriptors", habits(be_idle, _FEW_DESCRIPTORS * 2), few_descriptors=True),
        Attack(
            "half messages, more than there are descriptors",
            habits(once(send[:-1]), _FEW_DESCRIPTORS * 2),
            few_descriptors=True,
        ),
        Attack("604 of much mail", habits(greeted(pull))),
    ]


class Measured(NamedTuple):
    """Beside one attack. Seconds and bytes; `refused`: requests, with reason 7 and a time."""

    name: str
    calm: float
    p99: float
    memory: int
    refused: int
    timeless: int

    def __str__(self) -> str:
        return (
            f"{self.name}: calm {self.calm * 1000:.1f} ms, beside {self.p99 * 1000:.1f} ms, {self.memory >> 20} MiB, "
            f"{self.refused} refused"
        )

    @property
    def bound(self) -> float:
        """What the p99 may be."""
        return max(SLOWER * self.calm, SLOW_SECONDS)


class _Sizes(NamedTuple):
    users: int
    waiting: int
    rounds: int
    samples: int
    warm_up: float


def _sizes(place: Place) -> _Sizes:
    if place.quick:
        return _Sizes(200, 2_000, 1, _QUICK_SAMPLES, 0.2)
    return _Sizes(_USERS, _WAITING, _FULL_ROUNDS, _FULL_SAMPLES, _WARM_UP)


def _much_mail(port: int, villain: Account, mailbox: Account, count: int) -> None:
    frames = encode(SendRequest(villain.client_id, mailbox.client_id, 3, b"x" * 20)) * _SENT_AT_ONCE
    with Caller(port) as caller:
        for _ in range(0, count, _SENT_AT_ONCE):
            caller.post(frames)
            for _ in range(_SENT_AT_ONCE):
                answer = caller.event()
                assert isinstance(answer, StoredResponse), answer


class Accounts(NamedTuple):
    """Whose mail it is: the innocent client's, the attackers', and that of the full mailbox."""

    innocent: Account
    villain: Account
    mailbox: Account


def prepare(server: Server, sizes: _Sizes) -> Accounts:
    """Users and mail, on a server without limits."""
    accounts = Accounts(*(new_account(server.port, name) for name in Accounts._fields))
    crowd_of_users(server.port, sizes.users)
    _much_mail(server.port, accounts.villain, accounts.mailbox, sizes.waiting)
    return accounts


def beside(server: Server, tls_port: int, attack: Attack, innocent: Innocent, sizes: _Sizes) -> Measured:
    """What one attack on a server that was just started does to the innocent client."""
    calm = typical_p99(innocent, sizes.rounds, sizes.samples)
    if attack.few_descriptors:
        # What the gateway has open already counts, too.
        psutil.Process(server.gateway.pid).rlimit(psutil.RLIMIT_NOFILE, (_FEW_DESCRIPTORS, _FEW_DESCRIPTORS))
    refusals = Refusals()
    habits = attack.habits._replace(refusals=refusals, understands=not attack.over_tls)
    attackers = Actor(crowd, tls_port if attack.over_tls else server.port, habits)
    memory = Memory(server.gateway.pid)
    attackers.start()
    try:
        with memory.watched():
            time.sleep(sizes.warm_up)
            measured = typical_p99(innocent, sizes.rounds, sizes.samples)
            assert attackers.process.is_alive(), "the attack has ended by itself"
    finally:
        attackers.kill()
    return Measured(attack.name, calm, measured, memory.largest, refusals.too_fast, refusals.timeless)


def gateway_arguments(limits: str, tls_port: int) -> tuple[str, ...]:
    """Of the gateway that is attacked, and of the one that the store was filled by."""
    return (f"--limits={limits}", f"--connections={_PLACES}", f"--tls-listen=127.0.0.1:{tls_port}")


def run(place: Place) -> Row:
    """A store that is worth attacking, then each attack on it."""
    raise_descriptors()
    sizes = _sizes(place)
    folder = place.folder_of(NAME) / "server"
    tls_port = free_port()
    worker_arguments = (f"--mailbox-messages={2 * sizes.waiting}", "--sender-share=100")
    with Server(
        folder, gateway_arguments=gateway_arguments("off", tls_port), worker_arguments=worker_arguments
    ).start() as server:
        accounts = prepare(server, sizes)
    found: list[Measured] = []
    problems: list[str] = []
    innocent_mail = Verdict()
    for attack in attacks(place, accounts.villain, accounts.mailbox):
        with Server(
            folder, gateway_arguments=gateway_arguments("on", tls_port), worker_arguments=worker_arguments
        ).start() as server:
            innocent = Innocent(server.port, accounts.innocent, _MESSAGE_EVERY, _ASK_EVERY)
            found.append(beside(server, tls_port, attack, innocent, sizes))
            say(f"  {NAME}: {found[-1]}")
            problems += [f"{attack.name}: {program.module} ended" for program in server.programs if not program.running]
            innocent_mail = innocent_mail.combined(innocent.verdict())
    problems += [f"{one}: more than {MEMORY_BOUND >> 20} MiB" for one in found if one.memory > MEMORY_BOUND]
    problems += [f"{one}: {one.timeless} without a time" for one in found if one.timeless]
    # What holds in spite of a busy machine holds.
    judged = [] if place.quick else [one for one in found if one.calm < BUSY_SECONDS or one.p99 <= SLOW_SECONDS]
    problems += [f"{one}: more than {one.bound * 1000:.0f} ms" for one in judged if one.p99 > one.bound]
    for problem in (*problems, examples(innocent_mail)):
        if problem:
            say(f"  {NAME}: {problem}")
    slowest = max(found, key=lambda one: one.p99)
    note = (
        f"{len(found)} kinds: p99 {max(one.calm for one in found) * 1000:.1f} ms calm, the slowest beside "
        f"{slowest.name}: {slowest.p99 * 1000:.1f} ms; gateway at most {max(one.memory for one in found) >> 20} MiB; "
        f"{sum(one.refused for one in found)} refused with reason 7 and a time; speed judged {len(judged)} times"
    )
    passed = innocent_mail.spotless and not problems and innocent_mail.acknowledged > 0
    return Row(NAME, 0, innocent_mail, passed, "; ".join([note, *problems[:2]]))
