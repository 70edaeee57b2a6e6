"""Many pending messages: what they cost in memory and on disk, and whether they make the server
slower.

Owns: the same sends, fetches and restart once with few messages waiting and once with many.
Promises: both times the very same requests to the very same mailboxes, which hold as much at their
beginning; the many others wait in mailboxes that are not touched meanwhile. A server of its own for
each; bounded in count.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.figures import Figures
from bench.generator import Generator, run_plan
from bench.loads import CONTENT_SIZE, Extent, Waiting
from bench.plan import Report
from bench.subject import Running, Sending, Shape, Usage, usage_when_calm

FEW: Final = "few"
MANY: Final = "many"
_SHAPE: Final = Shape(50, 32)
_MEGA: Final = 1e6


def measure_level(
    running: Running, generator: Generator, extent: Extent, folder: Path, *, many: bool
) -> tuple[dict[str, float], int]:
    """Fill an empty server in `folder`, restart it, send to it and fetch from it. What came out,
    and the errors.

    It has to have twice `extent.recipients`; the second half gets what makes few messages many.
    """
    level = MANY if many else FEW
    touched, others = (0, extent.recipients), (extent.recipients, None)
    empty = resident(usage_when_calm(running, extent.calm_time))
    on_empty_disk = disk_bytes(folder)
    fills = [fill(running, generator, extent.waiting_few, touched)]
    if many:
        fills.append(fill(running, generator, extent.waiting_many - extent.waiting_few, others))
    waiting = sum(report.acknowledged for report in fills)
    held = resident(usage_when_calm(running, extent.calm_time))
    values = {
        f"{level} memory B/msg": (sum(held.values()) - sum(empty.values())) / max(1, waiting),
        f"{level} disk B/msg": (disk_bytes(folder) - on_empty_disk) / max(1, waiting),
        f"{level} fill/s": waiting / sum(report.seconds for report in fills),
    }
    begin = time.monotonic()
    running.restart()
    values[f"{level} restart s"] = time.monotonic() - begin
    sent = run_plan(generator, running.send_plan(_SHAPE, _sending(extent.waiting_sent, touched, seed=3)))
    values[f"{level} sends/s"] = sent.acknowledged / sent.seconds
    after = resident(usage_when_calm(running, extent.calm_time))
    for role in held:
        values[f"{level} {role} MB"] = max(held[role], after[role]) / _MEGA
    expected = [stored + more for stored, more in zip(fills[0].per_target, sent.per_target, strict=True)]
    plan = running.drain_plan(extent.drain_connections, CONTENT_SIZE, close_each=False, waiting=expected)
    fetched = run_plan(generator, plan)
    values[f"{level} fetches/s"] = fetched.messages / max(fetched.seconds, 1e-9)
    errors = sum(report.errors for report in [*fills, sent, fetched])
    return values, errors + sum(abs(a - b) for a, b in zip(expected, fetched.per_target, strict=True))


def waiting_figures(subject: str, number: int, levels: Mapping[str, float], errors: int) -> Figures:
    """Both levels together, with the ratios of many to few: above 1 is faster, and for
    the restart shorter.
    """
    values = dict(levels)
    for name in ("sends/s", "fetches/s"):
        values[f"{name} ratio"] = values[f"{MANY} {name}"] / values[f"{FEW} {name}"]
    values["restart ratio"] = values[f"{FEW} restart s"] / values[f"{MANY} restart s"]
    return Figures(load=str(Waiting()), subject=subject, round=number, values=values, errors=errors)


def fill(running: Running, generator: Generator, messages: int, among: tuple[int, int | None]) -> Report:
    """So many messages for some of the recipients."""
    return run_plan(generator, running.send_plan(_SHAPE, _sending(messages, among, seed=2)))


def _sending(messages: int, among: tuple[int, int | None], seed: int) -> Sending:
    return Sending(CONTENT_SIZE, messages=messages, among=among, seed=seed)


def resident(usage: Mapping[str, Usage]) -> dict[str, int]:
    """Resident bytes by role."""
    return {role: used.resident_bytes for role, used in usage.items()}


def disk_bytes(folder: Path) -> int:
    """What the files in a folder take on the disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:  # The server removed it at this moment.
            continue
    return total
