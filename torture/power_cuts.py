"""Drills: the power goes while the worker's storage code writes; and the same with a setting that
must lose.

Owns: how many cuts. The cuts themselves are in tests/storage_worker/power_cut.py, beside the
store's other faults.
Promises: with FULL nothing acknowledged is lost and nothing is corrupt; with NORMAL the checker
must see losses.
Exposure: none.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from torture.checker import Verdict
from torture.drill import Place, Row, must_lose
from torture.drill_messages import DrillMessage
from torture.store_tests import told_by

NAME: Final = "power-cuts"
CONTROL: Final = "control-normal"
_LANES: Final = 2
_UNNAMED: Final = DrillMessage("a message", "of a power cut", 0)


def _cut_often(place: Place, drill: str, cuts: int, synchronous: str) -> Row:
    chance = place.chance(drill)
    with ThreadPoolExecutor(_LANES) as pool:
        seeds = [str(chance.randrange(10**9)) for _ in range(_LANES)]
        told = list(
            pool.map(
                lambda seed: told_by("power_cut", cuts=-(-cuts // _LANES), seed=seed, synchronous=synchronous), seeds
            )
        )
    total = {name: sum(one[name] for one in told) for name in told[0]}
    verdict = Verdict(
        acknowledged=total["acknowledged"],
        lost=[_UNNAMED] * total["lost"],
        duplicated=[_UNNAMED] * total["returned"],
        unexpected=[_UNNAMED] * total["unexpected"],
    )
    note = f"{total['cuts']:,} cuts, {total['corrupt']} corrupt, {total['restored']} wrongly taken for restored"
    return Row(drill, 0, verdict, verdict.spotless and not total["corrupt"] and not total["restored"], note)


def run(place: Place) -> Row:
    """As the worker runs: synchronous=FULL."""
    return _cut_often(place, NAME, place.sized(5_000, 40), "FULL")


def run_control(place: Place) -> Row:
    """Passed if the checker reports losses."""
    return must_lose(_cut_often(place, CONTROL, place.sized(500, 40), "NORMAL"))
