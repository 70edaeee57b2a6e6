"""Drills: SIGTERM under load, again and again; a worker, and a gateway, that stand still while
everybody sends.

Owns: the signals, and what is measured meanwhile. Promises: a program that does not end, an exit
code other than 0, or memory without bound fails the drill. How long an end took is shown, and
depends on the machine.
Exposure: none.
"""

import signal
import time
from contextlib import suppress
from typing import Final

import psutil

from common.client_protocol.requests import SendRequest, encode
from torture.actors import Actor, acknowledged_in
from torture.caller import Account, Caller, new_account
from torture.cast import extension_cast
from torture.drill import Place, Row
from torture.programs import ProgramFailed, wait_until

STOPS: Final = "sigterm-under-load"
STANDSTILL: Final = "worker-stands-still"
GATEWAY_STANDSTILL: Final = "gateway-stands-still"
_FULL_STOPS: Final = 100
_FULL_STANDSTILL: Final = 30.0
_QUICK_STANDSTILL: Final = 2.0
_LOAD_BETWEEN: Final = 0.3
"""Seconds of load between two stops."""
_FLOODERS: Final = 2
_FLOOD_CONNECTIONS: Final = 120
_FLOOD_FRAMES: Final = 256
_FLOOD_CONTENT: Final = 1000
MEMORY_BOUND: Final = 512 * 1024 * 1024
"""Bytes. 128 MiB of requests may be in flight; as values, and once more as the batch they
become.
"""


def run_stops(place: Place) -> Row:
    """Each program in turn, by SIGTERM or Ctrl-C, while clients send and receive."""
    chance = place.chance(STOPS)
    cast = extension_cast(place, STOPS)
    slowest = 0.0
    stops = place.sized(_FULL_STOPS, 5)
    try:
        cast.start()
        for _ in range(stops):
            # A signal while Python itself still starts ends it in Python's way.
            cast.server.await_ready()
            time.sleep(chance.uniform(0, _LOAD_BETWEEN))
            cast.look_for_deaths()
            program = chance.choice(cast.server.programs)
            try:
                code, seconds = program.stop(chance.choice((signal.SIGTERM, signal.SIGINT)))
            except ProgramFailed as error:
                cast.problems.append(str(error))
            else:
                slowest = max(slowest, seconds)
                if code:
                    cast.problems.append(f"{program.module} ended with {code}: {program.last_words()}")
            program.start()
        cast.finish()
        return cast.row(STOPS, 0, f"{stops} stops, the slowest took {slowest:.1f} s")
    finally:
        cast.end()


def flood(port: int, account: Account) -> None:
    """Send by 603 as fast as the server reads, over many connections, and read nothing."""
    frame = encode(SendRequest(account.client_id, account.client_id, 3, bytes(_FLOOD_CONTENT)))
    data = frame * _FLOOD_FRAMES
    callers = [Caller(port) for _ in range(_FLOOD_CONNECTIONS)]
    left = dict.fromkeys(callers, b"")
    for caller in callers:
        caller.wait_at_most(0)
    while left:
        for caller in list(left):
            try:
                rest = left[caller] or data
                left[caller] = rest[caller.socket.send(rest) :]
            except BlockingIOError:
                time.sleep(0.001)
            except OSError:
                # The gateway gave up the requests that waited for too long.
                del left[caller]


def run_standstill(place: Place) -> Row:
    """SIGSTOP for the worker; the gateway's memory is watched, and it must end in time
    although nobody answers it.
    """
    cast = extension_cast(place, STANDSTILL)
    flooders: list[Actor] = []
    largest = 0
    try:
        account = new_account(cast.server.port, "flooder")
        cast.start()
        wait_until(lambda: any(map(acknowledged_in, cast.sent)), "the first acknowledged message")
        gateway = psutil.Process(cast.server.gateway.pid)
        cast.server.worker.send_signal(signal.SIGSTOP)
        flooders += [Actor(flood, cast.server.port, account) for _ in range(_FLOODERS)]
        for flooder in flooders:
            flooder.start()
        end = time.monotonic() + _standstill(place)
        while time.monotonic() < end:
            largest = max(largest, gateway.memory_info().rss)
            time.sleep(0.05)
        for flooder in flooders:
            flooder.kill()
        code, seconds = cast.server.gateway.stop()
        if code:
            cast.problems.append(f"the gateway ended with {code}")
        if largest > MEMORY_BOUND:
            cast.problems.append(f"the gateway took {largest >> 20} MiB")
        cast.server.worker.send_signal(signal.SIGCONT)
        cast.server.start()
        cast.finish()
        note = f"gateway at most {largest >> 20} MiB, ended within {seconds:.1f} s"
        return cast.row(STANDSTILL, 0, note)
    finally:
        with suppress(ProgramFailed, ProcessLookupError):
            cast.server.worker.send_signal(signal.SIGCONT)
        for flooder in flooders:
            flooder.kill()
        cast.end()


def run_gateway_standstill(place: Place) -> Row:
    """SIGSTOP for the gateway, longer than clients are patient; the worker, which nobody
    asks, must end in time.
    """
    cast = extension_cast(place, GATEWAY_STANDSTILL)
    try:
        cast.start()
        wait_until(lambda: any(map(acknowledged_in, cast.sent)), "the first acknowledged message")
        cast.server.gateway.send_signal(signal.SIGSTOP)
        seconds = _standstill(place)
        time.sleep(seconds)
        code, ended_within = cast.server.worker.stop()
        if code:
            cast.problems.append(f"the worker ended with {code}")
        cast.server.worker.start()
        cast.server.gateway.send_signal(signal.SIGCONT)
        cast.server.await_ready()
        cast.finish()
        note = f"{seconds:.0f} s; the worker ended within {ended_within:.1f} s"
        return cast.row(GATEWAY_STANDSTILL, 0, note)
    finally:
        with suppress(ProgramFailed, ProcessLookupError):
            cast.server.gateway.send_signal(signal.SIGCONT)
        cast.end()


def _standstill(place: Place) -> float:
    """How many seconds a program stands still."""
    return _QUICK_STANDSTILL if place.quick else _FULL_STANDSTILL * min(1.0, place.share * 2)
