"""A line chart as SVG: a few series over numbers of shards, which double.

Owns: the drawing. Promises: pure; the same series give the same bytes. It reads on light and dark
pages.
Exposure: none.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Final

_WIDTH: Final = 640
_HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 40, 44
_COLOURS: Final = ("#0b7285", "#c2410c", "#6741d9", "#2b8a3e")
_LINES: Final = 4


def chart(title: str, unit: str, shards: Sequence[int], series: Mapping[str, Sequence[float]]) -> str:
    """A chart whose upright axis begins with 0. Series are named where they end."""
    highest = _rounded(max(max(values) for values in series.values()))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(index: int) -> float:
        return _LEFT + wide * index / max(len(shards) - 1, 1)

    def y(value: float) -> float:
        return _TOP + high * (1 - value / highest)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12" fill="#868e96">',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for line in range(_LINES + 1):
        value = highest * line / _LINES
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#868e96" '
            'stroke-opacity="0.35"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{_LEFT - 8}" y="{_TOP - 10}" text-anchor="end">{escape(unit)}</text>')
    for index, number in enumerate(shards):
        parts.append(f'<text x="{x(index):.1f}" y="{_TOP + high + 18}" text-anchor="middle">{number}</text>')
    parts.append(f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 8}" text-anchor="middle">shards</text>')
    for name_at, (number, (name, values)) in zip(_apart(series, y), enumerate(series.items()), strict=True):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for index, value in enumerate(values):
            parts.append(f'<circle cx="{x(index):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + wide + 10}" y="{name_at + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _rounded(value: float) -> float:
    """The next number above that has one digit, or 2.5 of its size."""
    size = 1.0
    while size * 10 <= value:
        size *= 10
    while size > value:
        size /= 10
    return next(step * size for step in (1, 2, 2.5, 4, 5, 8, 10) if step * size >= value)


def _apart(series: Mapping[str, Sequence[float]], y: Callable[[float], float]) -> list[float]:
    """Where the names stand: at the ends of their lines, and no two in one place."""
    ends = [y(values[-1]) for values in series.values()]
    order = sorted(range(len(ends)), key=lambda number: ends[number])
    for before, number in pairwise(order):
        ends[number] = max(ends[number], ends[before] + 14)
    return ends
