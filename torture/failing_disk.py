"""Drill: every write and every sync of the worker's storage code fails once, in three ways.

Owns: how many of them. The failing disk is in tests/storage_worker/failing_disk.py, beside the
store's other faults.
Promises: an input or output error ends the worker; nothing acknowledged is lost, nothing is
corrupt, every restart is clean.
Exposure: none.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from torture.checker import Verdict
from torture.drill import Place, Row
from torture.drill_messages import DrillMessage
from torture.store_tests import told_by

NAME: Final = "failing-disk"
_FAULTS: Final = ("EIO", "ENOSPC", "SHORT")
_FULL_EVERY: Final = 1
_QUICK_EVERY: Final = 25
_UNNAMED: Final = DrillMessage("a message", "of a failing disk", 0)


def run(place: Place) -> Row:
    """Every operation if there is time, else every so many; at each of them the disk fails in all
    three ways.
    """
    every = _QUICK_EVERY if place.quick else max(_FULL_EVERY, round(_FULL_EVERY / place.share))
    first = place.chance(NAME).randint(1, every)
    with ThreadPoolExecutor(len(_FAULTS)) as pool:
        told = list(
            pool.map(
                lambda fault: told_by("failing_disk", fault=fault, first=first, every=every),
                _FAULTS,
            )
        )
    total = {name: sum(one[name] for one in told) for name in told[0]}
    verdict = Verdict(
        acknowledged=total["acknowledged"],
        lost=[_UNNAMED] * total["lost"],
        duplicated=[_UNNAMED] * total["returned"],
        unexpected=[_UNNAMED] * total["unexpected"],
    )
    note = (
        f"{total['failures']:,} failures, {total['ended']:,} ended the worker; {total['corrupt']} corrupt, "
        f"{total['ignored']} ignored"
    )
    return Row(NAME, 0, verdict, verdict.spotless and not total["corrupt"] and not total["ignored"], note)
