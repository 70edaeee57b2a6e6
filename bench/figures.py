"""The results of measurements: figures, ratios within a round, medians over rounds.

Owns: which figure is compared with which, and how rounds become one figure.
Promises: pure; ratios are only made between figures of the same load and round.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final, Self

FLOOR: Final = "floor"
REDIS: Final = "Redis AOF always"
"""The server that the others are compared with: the fastest that syncs before it acknowledges."""


@dataclass(slots=True)
class Figures:
    """What one measurement gave; absent where its kind does not have it."""

    load: str
    """The name of a `loads.Load`."""
    subject: str
    round: int
    rate: float = 0.0
    """Messages a second: acknowledged, or drained."""
    p50_ms: float = 0.0
    """Milliseconds from send to acknowledgement, or from a request for mail to the end of its
    answer; for the floor of one group."""
    p99_ms: float = 0.0
    max_ms: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    """Microseconds of processor time a message, by role; "generator" is the load's own."""
    disk_bytes: float = 0.0
    """Bytes a message that all roles together handed to the disk."""
    to_floor: float | None = None
    """`rate` through that of the floor in the same round."""
    to_redis: float | None = None
    """`rate` through that of `REDIS` in the same round."""
    to_first: float | None = None
    """`rate` through that of the server that this one is compared with, in the same round."""
    values: dict[str, float] = field(default_factory=dict)
    """What a kind has besides: for idle connections resident bytes of each, by role, "gateway
    fresh" when it was only opened, "gateway" after one request."""
    errors: int = 0
    """All that went wrong; see `plan.Report.errors`."""
    remark: str = ""

    @property
    def server_us(self) -> float:
        """Processor time a message of all the server's processes, in microseconds."""
        return sum(value for role, value in self.cpu_us.items() if role != GENERATOR)

    def as_json(self) -> dict[str, Any]:
        """For a results file."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Out of a results file. Raises `TypeError` for fields it does not know."""
        return cls(**fields)


GENERATOR: Final = "generator"


def compare(group: Sequence[Figures], firsts: Mapping[str, str]) -> None:
    """Fill in the ratios of one load in one round. `firsts`: servers, and which one each is
    compared with.
    """
    rates = {figures.subject: figures.rate for figures in group if figures.rate}
    for figures in group:
        if figures.subject == FLOOR or not figures.rate:
            continue
        if FLOOR in rates:
            figures.to_floor = figures.rate / rates[FLOOR]
        if REDIS in rates and figures.subject != REDIS:
            figures.to_redis = figures.rate / rates[REDIS]
        first = firsts.get(figures.subject)
        if first in rates:
            figures.to_first = figures.rate / rates[first]


def medians(results: Sequence[Figures]) -> list[Figures]:
    """One `Figures` for each load and server: the median of its rounds, field by field;
    errors are added up.
    """
    groups: dict[tuple[str, str], list[Figures]] = {}
    for figures in results:
        groups.setdefault((figures.load, figures.subject), []).append(figures)
    return [_median(group) for group in groups.values()]


def _median(group: Sequence[Figures]) -> Figures:
    first = group[0]
    return Figures(
        load=first.load,
        subject=first.subject,
        round=0,
        rate=median(one.rate for one in group),
        p50_ms=median(one.p50_ms for one in group),
        p99_ms=median(one.p99_ms for one in group),
        max_ms=median(one.max_ms for one in group),
        cpu_us=_median_of_each(group, lambda one: one.cpu_us),
        disk_bytes=median(one.disk_bytes for one in group),
        to_floor=_median_or_none([one.to_floor for one in group]),
        to_redis=_median_or_none([one.to_redis for one in group]),
        to_first=_median_or_none([one.to_first for one in group]),
        values=_median_of_each(group, lambda one: one.values),
        errors=sum(one.errors for one in group),
        remark=", ".join(dict.fromkeys(one.remark for one in group if one.remark)),
    )


def _median_of_each(group: Sequence[Figures], of: Callable[[Figures], Mapping[str, float]]) -> dict[str, float]:
    """Of a round that went wrong an entry may be missing."""
    names = dict.fromkeys(name for one in group for name in of(one))
    return {name: median(of(one)[name] for one in group if name in of(one)) for name in names}


def _median_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
