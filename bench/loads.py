"""What can be measured: the loads by name, and how much of each.

Owns: the names that `--only` takes and the table shows, and the sizes of a whole run and of a quick
one.
Promises: pure; a name and its load are each other's inverse.
"""

import re
from dataclasses import dataclass
from typing import Final

from bench.floor import FILE_SIZE
from bench.subject import Kind, Shape

CONTENT_SIZE: Final = 256
FRAME_OVERHEAD: Final = 44
"""A 603 has so many bytes around its content, and about so many a store has to keep."""
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20}
_LARGEST: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Sends:
    """Messages of `size` bytes to recipients at random, as `shape` says."""

    shape: Shape
    size: int = CONTENT_SIZE
    kind = Kind.SENDS

    def __str__(self) -> str:
        if self.size == CONTENT_SIZE:
            return str(self.shape)
        unit = next(unit for unit in ("M", "K", "") if self.size % _UNITS[unit] == 0)
        return f"{self.shape}@{self.size // _UNITS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Drain:
    """Many mailboxes are emptied."""

    kind = Kind.DRAIN

    def __str__(self) -> str:
        return self.kind.value


@dataclass(frozen=True, slots=True)
class Idle:
    """Many connections do nothing."""

    kind = Kind.IDLE

    def __str__(self) -> str:
        return self.kind.value


@dataclass(frozen=True, slots=True)
class Waiting:
    """Many messages wait, and the server is used and restarted."""

    kind = Kind.WAITING

    def __str__(self) -> str:
        return self.kind.value


@dataclass(frozen=True, slots=True)
class Large:
    """One large content travels, with small sends beside it."""

    kind = Kind.LARGE

    def __str__(self) -> str:
        return self.kind.value


Load = Sends | Drain | Idle | Waiting | Large


def load_named(name: str) -> Load:
    """The load of a name: CONNECTIONSxWINDOW, with `@SIZE` (4K, 1M, 100) behind it for another than
    256 bytes, or another kind's name. Raises `ValueError`.
    """
    for load in OTHERS:
        if name == str(load):
            return load
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,3})(?:@([1-9][0-9]{0,7})([KM]?))?", name)
    size = CONTENT_SIZE if match is None or match[3] is None else int(match[3]) * _UNITS[match[4]]
    if match is None or size > _LARGEST:
        raise ValueError(f"{name!r} is neither CONNECTIONSxWINDOW[@SIZE] nor {' nor '.join(map(str, OTHERS))}")
    return Sends(Shape(int(match[1]), int(match[2])), size)


OTHERS: Final = (Drain(), Waiting(), Large(), Idle())


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done. Times are seconds."""

    loads: tuple[Load, ...]
    rounds: int = 3
    run_time: float = 3.0
    warm_up: float = 0.5
    calm_time: float = 2.5
    """Processor time and disk are read when the server has done nothing for so long: some
    work is put off.
    """
    floor_time: float = 1.0
    floor_file: int = FILE_SIZE
    recipients: int = 1_000
    senders: int = 1_000
    drained: int = 100_000
    """Messages that are drained."""
    drain_connections: int = 50
    close_each: bool = False
    waiting_few: int = 10_000
    waiting_many: int = 1_000_000
    waiting_sent: int = 100_000
    """Messages that are sent, and then fetched, beside those that wait."""
    large_size: int = 1 << 30
    """Bytes."""
    idle: int = 10_000
    """Idle connections."""


WHOLE: Final = Extent(
    loads=(
        *(load_named(name) for name in ("1x1", "1x32", "50x1", "50x32", "1000x1", "1000x32", "50x32@4K", "4x4@1M")),
        *OTHERS,
    )
)
QUICK: Final = Extent(
    loads=(*(load_named(name) for name in ("1x1", "50x1", "50x32")), *OTHERS),
    rounds=1,
    run_time=0.2,
    warm_up=0.0,
    calm_time=0.0,
    floor_time=0.05,
    floor_file=1024 * 1024,
    recipients=50,
    senders=50,
    drained=2_000,
    drain_connections=10,
    waiting_few=100,
    waiting_many=2_000,
    waiting_sent=1_000,
    large_size=8 << 20,
    idle=200,
)
