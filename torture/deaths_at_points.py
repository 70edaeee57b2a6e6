"""Drill: a program dies at each fail point, for each operation, again and again, and clients get
their work done.

Owns: which operations reach which points, and what a client does to cause them.
Promises: every operation and every response has a row, or this module can't be imported. A point
that was not reached often enough makes the drill fail. After each point the checker looks.
Exposure: none.

Mail of the extension must come exactly once. Mail of the published protocol may come again after
these deaths, for they are the server's; it must not get lost.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from types import TracebackType
from typing import Final, NamedTuple, Self, get_args

from common.client_protocol.responses import ResponseCode
from common.fail_points import VARIABLE, FailPoint
from common.storage_protocol.operations import (
    AbortUpload,
    BeginUpload,
    Chunk,
    ClaimKey,
    CommitUpload,
    DeleteAccount,
    Fetch,
    Forget,
    GetAbout,
    GetProofKey,
    GetPublicKey,
    GetUploadProgress,
    ListUsers,
    MarkAuthenticated,
    Operation,
    PublishKeys,
    Pull,
    PullPage,
    Register,
    Release,
    SetBlock,
    Settle,
    StoreMessage,
    StoreMessages,
    StoreMessagesOnce,
)
from common.tables import complete
from torture.caller import Refused
from torture.checker import Verdict
from torture.drill import Place, Row, say
from torture.insistent_clients import HUGE, LARGE, SMALL, Clients
from torture.patience import HANG_SECONDS
from torture.programs import Program, Server

NAME: Final = "deaths-at-points"
_LOOK_EVERY: Final = 0.005
_FULL_DEATHS: Final = 50
_QUICK_EXTRA: Final = 2
_LANES: Final = 4
_WORKER_POINTS: Final = (
    FailPoint.WORKER_RECEIVED,
    FailPoint.WORKER_BEFORE_COMMIT,
    FailPoint.WORKER_AFTER_COMMIT,
    FailPoint.WORKER_REPLYING,
)
_ABSORBING_POINTS: Final = (FailPoint.WORKER_FLUSHING, FailPoint.WORKER_FLUSHED)
_GATEWAY_POINTS: Final = (FailPoint.GATEWAY_RECEIVED, FailPoint.GATEWAY_SENT, FailPoint.GATEWAY_ANSWERED)

Step = Callable[[Clients], None]


def _send_and_fetch(size: int) -> list[Step]:
    return [lambda clients: clients.send(size), Clients.fetch]


def _write_and_read(size: int) -> list[Step]:
    return [lambda clients: clients.write(size), Clients.read]


def _both(size: int) -> list[Step]:
    # 603 first, because a short run has only one death: without a token, a repetition shows.
    return [*_write_and_read(size), *_send_and_fetch(size)]


_UPLOAD_PROGRESS: Final[Sequence[Step]] = ()
"""Upload progress is asked for only if the disk is slow: nothing causes it reliably."""
_DELETION: Final[Sequence[Step]] = ()
"""The drill expiry-and-deletion kills the worker in it: the clients of this one live on."""
_KEYS: Final[Sequence[Step]] = (Clients.publish, *[Clients.claim] * 5)
"""As many as are published: more than 100 would not be kept."""
_ABOUT: Final[Sequence[Step]] = ()
"""It changes nothing, and always returns the same."""
_OF_BIG_ENDIAN_CLIENTS: Final[Sequence[Step]] = (lambda clients: clients.write_big_endian(SMALL), Clients.read)
"""The messages of others travel in runs."""
_OF_SEVERAL_SHARDS: Final[Sequence[Step]] = ()
"""One worker, as this drill has, is never asked for it."""
_OPERATIONS: Final[Mapping[type[Operation], Sequence[Step]]] = complete(
    "_OPERATIONS of torture/deaths_at_points.py",
    {
        Register: [Clients.register],
        ListUsers: [Clients.list_users],
        GetPublicKey: [Clients.public_key],
        StoreMessages: _write_and_read(SMALL),
        StoreMessagesOnce: _send_and_fetch(SMALL),
        StoreMessage: _OF_BIG_ENDIAN_CLIENTS,
        BeginUpload: _both(LARGE),
        Chunk: _both(HUGE),
        CommitUpload: _both(LARGE),
        AbortUpload: [Clients.begin_and_leave, Clients.public_key],
        Pull: _write_and_read(SMALL),
        PullPage: _both(HUGE),
        Settle: _write_and_read(SMALL),
        Release: [lambda clients: clients.write(LARGE), Clients.read_and_reset, Clients.read],
        Fetch: _send_and_fetch(SMALL),
        GetProofKey: [Clients.prove],
        MarkAuthenticated: [Clients.prove],
        GetUploadProgress: _UPLOAD_PROGRESS,
        DeleteAccount: _DELETION,
        GetAbout: _ABOUT,
        SetBlock: [Clients.block],
        PublishKeys: _KEYS,
        ClaimKey: _KEYS,
        Forget: _OF_SEVERAL_SHARDS,
    },
    get_args(Operation),
)
_REFUSALS: Final[Sequence[Step]] = ()
"""A refusal changes nothing, so that a death there shows nothing."""
_OVER_TLS_ALONE: Final[Sequence[Step]] = ()
"""The clients of this drill use plain TCP; and it changes nothing."""
_RESPONSES: Final[Mapping[ResponseCode, Sequence[Step]]] = complete(
    "_RESPONSES of torture/deaths_at_points.py",
    {
        ResponseCode.REGISTERED: [Clients.register],
        ResponseCode.USERS: [Clients.list_users],
        ResponseCode.PUBLIC_KEY: [Clients.public_key],
        ResponseCode.STORED: _both(SMALL),
        ResponseCode.WAITING: _write_and_read(LARGE),
        ResponseCode.HELLO: [Clients.register],
        ResponseCode.AUTHENTICATED: [Clients.prove],
        ResponseCode.FETCHED: _send_and_fetch(LARGE),
        ResponseCode.KEYS_KEPT: _KEYS,
        ResponseCode.KEY_CLAIMED: _KEYS,
        ResponseCode.DELETED: _DELETION,
        ResponseCode.ABOUT: _ABOUT,
        ResponseCode.BLOCK_SET: [Clients.block],
        ResponseCode.CERTIFICATES: _OVER_TLS_ALONE,
        ResponseCode.ERROR: _REFUSALS,
        ResponseCode.ERROR_WITH_REASON: _REFUSALS,
    },
    ResponseCode,
)


class Case(NamedTuple):
    """A point, what passes through it, and what a client does so that it passes."""

    point: FailPoint
    concern: str
    steps: Sequence[Step]

    @property
    def setting(self) -> str:
        """The form of the environment variable, without the number."""
        return f"{self.point}/{self.concern}" if self.concern else self.point


def cases() -> Iterator[Case]:
    """Every point with all that can pass through it."""
    for point in (*_WORKER_POINTS, *_GATEWAY_POINTS):
        for operation, steps in _OPERATIONS.items():
            if steps:
                yield Case(point, operation.__name__, steps)
    for code, steps in _RESPONSES.items():
        if steps:
            yield Case(FailPoint.GATEWAY_REPLYING, str(int(code)), steps)
    # Deleting a file makes the database take in what the journal holds.
    for point in _ABSORBING_POINTS:
        yield Case(point, "", _both(LARGE))
    yield Case(FailPoint.GATEWAY_AFTER_WAITING, "", _OPERATIONS[Settle])
    for ending in (Settle, Release):
        yield Case(FailPoint.GATEWAY_BEFORE_SETTLE, ending.__name__, _OPERATIONS[ending])


class Reviver(threading.Thread):
    """Starts a program that died again, armed for its next death, until it has died often
    enough.
    """

    def __init__(self, program: Program, setting: str, deaths: int, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.deaths = 0
        self._program = program
        self._setting = setting
        self._wanted = deaths
        self._chance = chance
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._arm()
        self._program.kill()
        self._program.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()
        self._program.extra_environment = {}
        if not self.done and self._program.running:
            # It is armed still.
            self._program.kill()
        self._program.start()

    @property
    def done(self) -> bool:
        """Whether it died often enough."""
        return self.deaths >= self._wanted

    def _arm(self) -> None:
        armed = {} if self.done else {VARIABLE: f"{self._setting}:{self._chance.choice((1, 1, 2))}"}
        self._program.extra_environment = armed

    def run(self) -> None:
        """Check until told to end."""
        while not self._over.wait(_LOOK_EVERY):
            if not self._program.running:
                self.deaths += 1
                self._arm()
                self._program.start()


class Found(NamedTuple):
    """What one lane found."""

    deaths: int
    repeats: int
    verdict: Verdict
    problems: Sequence[str]


def _lane(server: Server, chosen: Sequence[Case], deaths_each: int, chance: random.Random) -> Found:
    """Case after case at one server."""
    deaths = 0
    problems: list[str] = []
    with server.start():
        clients = Clients(server.port)
        for case in chosen:
            is_worker = case.point in (*_WORKER_POINTS, *_ABSORBING_POINTS)
            program = server.worker if is_worker else server.gateway
            with Reviver(program, case.setting, deaths_each, chance) as reviver:
                give_up = time.monotonic() + HANG_SECONDS
                try:
                    while not reviver.done and time.monotonic() < give_up:
                        for step in case.steps:
                            step(clients)
                except Refused as error:
                    problems.append(f"{case.setting}: {error}")
            deaths += reviver.deaths
            if not reviver.done:
                problems.append(f"{case.setting}: died {reviver.deaths} times of {deaths_each}")
            server.await_ready()
            clients.check(case.setting)
            say(f"  {case.setting}: {reviver.deaths} deaths")
        clients.list_users()
        clients.close()
    return Found(deaths, clients.repeats, clients.verdict(), [*problems, *clients.problems])


def run(place: Place) -> Row:
    """Every case, as often as the place says; a short run takes a sample, at least one of each
    point.

    Most of the time is spent waiting for programs to start, so several lanes run beside each other.
    """
    chance = place.chance(NAME)
    chosen = list(cases())
    chance.shuffle(chosen)
    if place.quick:
        of_each = {
            case.point: case for case in [*chosen, *(case for case in chosen if case.concern == "StoreMessages")]
        }
        chosen = [*of_each.values(), *chosen[:_QUICK_EXTRA]]
    deaths_each = place.sized(_FULL_DEATHS, 1)
    folder = place.folder_of(NAME)
    with ThreadPoolExecutor(_LANES) as pool:
        lanes = [
            pool.submit(
                _lane,
                Server(folder / f"server-{number}"),
                chosen[number::_LANES],
                deaths_each,
                random.Random(chance.random()),
            )
            for number in range(_LANES)
        ]
        found = [lane.result() for lane in lanes]
    problems = [problem for one in found for problem in one.problems]
    for problem in problems:
        say(f"  {NAME}: {problem}")
    verdict = reduce(Verdict.combined, (one.verdict for one in found))
    repeats = sum(one.repeats for one in found)
    note = f"{len(chosen)} points and operations, {deaths_each} deaths at each; {repeats} repeats by 604"
    passed = not problems and verdict.spotless
    return Row(NAME, sum(one.deaths for one in found), verdict, passed, "; ".join([note, *problems[:2]]))
