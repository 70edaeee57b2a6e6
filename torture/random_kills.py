"""Drills: kill -9 of worker, gateway, senders and receivers, at random, under load.

Owns: who is killed when. Promises: what it kills is started again at once; at the end everybody finishes in peace.
Exposure: none.
"""

import time
from collections import Counter
from typing import Final

from torture.actors import judge_journals
from torture.cast import Cast, extension_cast
from torture.drill import Place, Row, say

NAME: Final = "random-kills"
WEIGHTS: Final = {"worker": 22, "gateway": 22, "sender": 28, "receiver": 28}
_PAUSE: Final = 0.2
"""Seconds between two kills, on average."""
_FULL_SECONDS: Final = 600
_QUICK_SECONDS: Final = 6
_TELL_EVERY: Final = 30.0


def kill_at_random(cast: Cast, place: Place, drill: str, seconds: float) -> Row:
    """Kill one after another for so many seconds, let everybody finish, and ask the checker."""
    chance = place.chance(drill)
    killed: Counter[str] = Counter()
    try:
        cast.start()
        began = time.monotonic()
        tell_at = began + _TELL_EVERY
        while time.monotonic() < began + seconds:
            time.sleep(chance.expovariate(1 / _PAUSE))
            cast.look_for_deaths()
            (who,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            match who:
                case "worker" | "gateway":
                    program = cast.server.worker if who == "worker" else cast.server.gateway
                    program.kill()
                    program.start()
                case _:
                    actor = chance.choice(cast.senders if who == "sender" else cast.receivers)
                    actor.kill()
                    actor.start()
            killed[who] += 1
            if time.monotonic() >= tell_at:
                tell_at += _TELL_EVERY
                so_far = judge_journals(cast.sent, cast.received)
                say(f"  {time.monotonic() - began:.0f} s: {killed.total()} kills, {so_far.acknowledged} acknowledged")
        cast.finish()
        note = ", ".join(f"{who} {number}" for who, number in sorted(killed.items()))
        return cast.row(drill, killed.total(), note)
    finally:
        cast.end()


def run(place: Place) -> Row:
    """Clients of the extension, as small as they can be made."""
    seconds = _QUICK_SECONDS if place.quick else _FULL_SECONDS * place.share
    return kill_at_random(extension_cast(place, NAME), place, NAME, seconds)
