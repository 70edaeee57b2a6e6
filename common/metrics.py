"""Metrics that a program reports about itself, and the page that shows them.

Owns: what a series is, histograms, and the text form of Prometheus.
Promises: the loops only add to integers and floats; the page's thread only reads them. The package
that writes the form is imported when a page is made, and not before. A series has at most one
label, whose values are from a table of the program: no id, no name and no address; all series of a
page may have further ones.
Exposure: none of its own; see `common.status_server`.

Source: docs/operations.md, "Metrics".
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from common.errors import SettingRejected

BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds, up to which the buckets of a histogram go; one more has the rest."""


class Histogram:
    """The distribution of durations."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Record one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


Value = float | Histogram | Mapping[str, int]


class Series(NamedTuple):
    """`name` without a counter's `_total`. `label`: its name, where `read` gives a mapping."""

    kind: str
    name: str
    text: str
    read: Callable[[], Value]
    label: str | None = None


def counter(name: str, text: str, read: Callable[[], Value], label: str | None = None) -> Series:
    """A counter: it only grows."""
    return Series("counter", name, text, read, label)


def gauge(name: str, text: str, read: Callable[[], Value], label: str | None = None) -> Series:
    """A gauge: it grows and shrinks."""
    return Series("gauge", name, text, read, label)


def histogram(name: str, text: str, found: Histogram) -> Series:
    """Seconds."""
    return Series("histogram", name, text, lambda: found)


class _Collector:
    """Of `prometheus_client`: `core` is its module. `always`: labels of every series."""

    def __init__(self, core: Any, series: Sequence[Series], always: Mapping[str, str]) -> None:
        self._core = core
        self._series = series
        self._names, self._values = [*always], [*always.values()]

    def collect(self) -> Iterator[Any]:
        core = self._core
        for kind, name, text, read, label in self._series:
            value = read()
            if isinstance(value, Histogram):
                bounds = [*map(str, BOUNDS), "+Inf"]
                durations = core.HistogramMetricFamily(name, text, labels=self._names)
                buckets = list(zip(bounds, accumulate(value.counts), strict=True))
                durations.add_metric(self._values, buckets, value.seconds)
                yield durations
                continue
            family = core.CounterMetricFamily if kind == "counter" else core.GaugeMetricFamily
            found = family(name, text, labels=self._names if label is None else [*self._names, label])
            if label is None:
                found.add_metric(self._values, value)
            else:
                assert isinstance(value, Mapping)
                for key, number in value.items():
                    found.add_metric([*self._values, key], number)
            yield found


def metrics_text(
    series: Sequence[Series], always: Mapping[str, str] = MappingProxyType({})
) -> Callable[[], tuple[bytes, str]]:
    """A function that returns the text of the series, and its HTTP content type. `always`: labels
    of every series. Raises `SettingRejected` if the package is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, core, exposition  # noqa: PLC0415 - needed with --metrics alone
    except ModuleNotFoundError as error:
        raise SettingRejected("--metrics needs the package prometheus_client") from error
    registry = CollectorRegistry()
    registry.register(_Collector(core, series, always))
    return lambda: (exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST)
