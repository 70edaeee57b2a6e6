"""Inputs out of a corpus, by chance: for runs without a guide.

Owns: the mutations. Promises: the same seed and corpus give the same inputs.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from tests.fuzz.targets import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CORPUS: Final = Path(__file__).parent / "corpus"
_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_MOST_STEPS: Final = 6


def corpus(target: str) -> list[bytes]:
    """The inputs that the repository has for a target, in their order."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutated(seeds: Sequence[bytes], chance: Random) -> Iterator[bytes]:
    """Inputs without end."""
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, _MOST_STEPS)):
            _step(data, seeds, chance)
        yield bytes(data[:LONGEST])


def _step(data: bytearray, seeds: Sequence[bytes], chance: Random) -> None:
    at = chance.randint(0, len(data))
    length = chance.choice((1, 2, 4, 8, chance.randint(0, 300)))
    match chance.randrange(7):
        case 0:
            data[at : at + 1] = chance.randbytes(1)
        case 1:
            del data[at : at + length]
        case 2:
            data[at:at] = chance.randbytes(length)
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            other = chance.choice(seeds)
            data[at:] = other[chance.randint(0, len(other)) :]
        case 5:
            number = chance.choice(_NUMBERS).to_bytes(4, chance.choice(("little", "big")))
            data[at : at + 4] = number[: chance.choice((1, 2, 4))]
        case _:
            if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
