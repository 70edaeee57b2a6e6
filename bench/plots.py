"""Results as a picture: rate and p99 against connections, a column for each window, a line for each
server.

Owns: the SVG. Promises: pure; the same results give the same bytes; what was not measured is not
drawn.
Exposure: none; names are escaped.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from bench.figures import FLOOR, Figures
from bench.loads import CONTENT_SIZE, Sends, load_named

_WIDTH: Final = 340
_HEIGHT: Final = 230
_LEFT: Final = 70
_TOP: Final = 50
_GAP: Final = 60
_LEGEND: Final = 22
"""Height of a line of it."""
_COLOURS: Final = ("#0b6e4f", "#1f4e9c", "#c1440e", "#7b3fa0", "#8a6d00", "#b0156b", "#4d5a66", "#00818a")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#222}.t{font-weight:bold;font-size:13px}.g{stroke:#ddd}.f{fill:none;stroke:#888}"
)


class _Row(NamedTuple):
    """A row of panels: what is drawn, and how a value is written."""

    title: str
    value: Callable[[Figures], float]
    label: Callable[[float], str]


def _rate_label(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


_ROWS: Final = (
    _Row("acknowledged a second", lambda one: one.rate, _rate_label),
    _Row("p99 in ms", lambda one: one.p99_ms, lambda value: f"{value:g}"),
)


def plot(figures: Sequence[Figures]) -> str:
    """The picture of medians of sends of the usual size; both axes are logarithmic. Raises
    `ValueError` where there is nothing to draw.
    """
    points: dict[tuple[str, int], dict[int, Figures]] = {}
    for one in figures:
        load = load_named(one.load)
        if isinstance(load, Sends) and load.size == CONTENT_SIZE and one.subject != FLOOR and one.rate > 0:
            points.setdefault((one.subject, load.shape.window), {})[load.shape.connections] = one
    if not points:
        raise ValueError("there are no sends of the usual size among these results")
    subjects = list(dict.fromkeys(subject for subject, _ in points))
    windows = sorted({window for _, window in points})
    connections = sorted({number for line in points.values() for number in line})
    width = _LEFT + len(windows) * (_WIDTH + _GAP)
    foot = _TOP + len(_ROWS) * (_HEIGHT + _GAP)
    height = foot + _LEGEND * len(subjects)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for row_number, row in enumerate(_ROWS):
        values = [row.value(one) for line in points.values() for one in line.values()]
        low, high = _decades([value for value in values if value > 0] or [1.0])
        for column, window in enumerate(windows):
            x, y = _LEFT + column * (_WIDTH + _GAP), _TOP + row_number * (_HEIGHT + _GAP)
            parts.append(f'<text class="t" x="{x}" y="{y - 10}">{row.title}, {window} in flight on each</text>')
            parts += _axes(x, y, low, high, connections, row.label)
            for number, subject in enumerate(subjects):
                line = points.get((subject, window), {})
                places = [
                    (_across(x, connections, at), _up(y, low, high, row.value(line[at])))
                    for at in connections
                    if at in line and row.value(line[at]) > 0
                ]
                parts += _line(places, _COLOURS[number % len(_COLOURS)], is_first=number == 0)
    for number, subject in enumerate(subjects):
        y = foot + _LEGEND * number - _LEGEND // 2
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(
            f'<circle cx="{_LEFT}" cy="{y}" r="5" fill="{colour}"/>'
            f'<text x="{_LEFT + 14}" y="{y + 4}">{escape(subject)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around all of them."""
    low = math.floor(math.log10(min(values)))
    return low, max(math.ceil(math.log10(max(values))), low + 1)


def _across(x: float, connections: Sequence[int], number: int) -> float:
    low, high = math.log10(connections[0]), math.log10(connections[-1])
    part = (math.log10(number) - low) / (high - low) if high > low else 0.5
    return x + (0.05 + 0.9 * part) * _WIDTH


def _up(y: float, low: int, high: int, value: float) -> float:
    return y + _HEIGHT * (1 - (math.log10(value) - low) / (high - low))


def _axes(
    x: float, y: float, low: int, high: int, connections: Sequence[int], label: Callable[[float], str]
) -> Iterator[str]:
    for power in range(low, high + 1):
        at = _up(y, low, high, 10.0**power)
        yield f'<line class="g" x1="{x}" x2="{x + _WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{x - 6}" y="{at + 4:.1f}" text-anchor="end">{label(10.0**power)}</text>'
    for number in connections:
        at = _across(x, connections, number)
        yield f'<text x="{at:.1f}" y="{y + _HEIGHT + 16}" text-anchor="middle">{number}</text>'
    yield f'<text x="{x + _WIDTH / 2}" y="{y + _HEIGHT + 32}" text-anchor="middle">connections</text>'
    yield f'<rect class="f" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}"/>'


def _line(places: Sequence[tuple[float, float]], colour: str, *, is_first: bool) -> Iterator[str]:
    width = 3 if is_first else 1.5
    if len(places) > 1:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 1.5}" fill="{colour}"/>'
