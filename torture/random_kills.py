"""Drills: kill -9 of worker, gateway, senders and receivers, at random, under load.

Owns: who is killed when. Promises: what it kills is started again at once; at the end everybody
finishes undisturbed.
Exposure: none.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, NamedTuple

from torture.actors import Actor
from torture.cast import Cast, extension_cast
from torture.drill import Place, Row, say
from torture.programs import Program

NAME: Final = "random-kills"
WEIGHTS: Final = {"worker": 22, "gateway": 22, "sender": 28, "receiver": 28}
_PAUSE: Final = 0.2
"""Seconds between two kills, on average."""
_FULL_SECONDS: Final = 600
_TELL_EVERY: Final = 30.0
_LOOK_AFTER: Final = 8
"""Kills in a row after which something has to come through before the next: on a slow machine the
programs would die before they ever answered, and a drill in which nothing is acknowledged shows
nothing."""


class Enough(NamedTuple):
    """When a drill may end: all three conditions hold. `seconds` at least, if a person asked for a
    time.
    """

    seconds: float
    kills: int
    acknowledged: int


QUICK: Final = Enough(0.0, 24, 40)


def kill_one(
    cast: Cast, chance: Random, weights: Mapping[str, int], workers: Sequence[Program], gateways: Sequence[Program]
) -> str:
    """Kill somebody and start them again: of which kind, as often as `weights` say."""
    one_of: Mapping[str, Sequence[Program | Actor]] = {
        "worker": workers,
        "gateway": gateways,
        "sender": cast.senders,
        "receiver": cast.receivers,
    }
    (who,) = chance.choices(list(weights), list(weights.values()))
    victim = chance.choice(one_of[who])
    victim.kill()
    victim.start()
    return who


def kill_at_random(cast: Cast, place: Place, drill: str, enough: Enough) -> Row:
    """Kill one after another until it is enough, let everybody finish, and ask the checker."""
    chance = place.chance(drill)
    killed: Counter[str] = Counter()
    try:
        cast.start()
        began = time.monotonic()
        tell_at = began + _TELL_EVERY
        acknowledged = 0
        while (
            time.monotonic() < began + enough.seconds
            or killed.total() < enough.kills
            or acknowledged < enough.acknowledged
        ):
            time.sleep(chance.expovariate(1 / _PAUSE))
            cast.look_for_deaths()
            killed[kill_one(cast, chance, WEIGHTS, [cast.server.worker], [cast.server.gateway])] += 1
            if killed.total() % _LOOK_AFTER == 0:
                acknowledged = cast.await_more(1, acknowledged)
            if time.monotonic() >= tell_at:
                tell_at += _TELL_EVERY
                so_far = cast.count_acknowledged()
                say(f"  {time.monotonic() - began:.0f} s: {killed.total()} kills, {so_far} acknowledged")
        cast.finish()
        note = ", ".join(f"{who} {number}" for who, number in sorted(killed.items()))
        return cast.row(drill, killed.total(), note)
    finally:
        cast.end()


def run(place: Place) -> Row:
    """Clients of the extension, as small as they can be made."""
    enough = QUICK if place.quick else QUICK._replace(seconds=_FULL_SECONDS * place.share)
    return kill_at_random(extension_cast(place, NAME), place, NAME, enough)
