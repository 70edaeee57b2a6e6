"""The tables and pictures of docs/scaling.md, out of what was measured.

Owns: their text. Promises: pure; the same results give the same bytes.
Exposure: none.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Final, NamedTuple

from bench.shards.measure import Cost, Death
from bench.shards.model import Point
from bench.shards.plot import chart

BEGIN: Final = "<!-- made: scripts/shards -->"
END: Final = "<!-- end -->"
COST_PICTURE: Final = "scaling-cost.svg"
_WIDTH: Final = 100
LATENCY_PICTURE: Final = "scaling-latency.svg"


class Results(NamedTuple):
    """What a run gave. Costs in microseconds."""

    machine: str
    costs: Sequence[Cost]
    batch_of_worker: float
    batch_of_gateway: float
    commit: float
    users: int
    points: Sequence[Point]
    death: Death


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(results: Results) -> str:
    """The part of the page between the marks."""
    reference = next((one.all for one in results.costs if one.shards == 2), results.costs[0].all)
    costs = _table(
        ["shards", "messages", "gateway", "worker", "PostgreSQL", "all", "by that of 2 shards"],
        [
            [
                str(one.shards),
                f"{one.messages:,}",
                *(f"{value:.1f}" for value in (one.gateway, one.worker, one.postgresql, one.all)),
                f"{one.all / reference:.2f}",
            ]
            for one in results.costs
        ],
    )
    points = _table(
        [
            "shards", "gateways", "offered a second", "accepted", "busiest shard", "p50", "p99", "most, by linear",
            "one dead: accepted", "one dead: p99",
        ],
        [
            [
                str(one.shards),
                str(one.gateways),
                f"{one.offered:,.0f}",
                f"{one.accepted / one.offered:.3f}",
                f"{one.imbalance:.3f}",
                f"{one.p50 * 1000:.0f} ms",
                f"{one.p99 * 1000:.0f} ms",
                f"{one.capacity:.2f}",
                f"{one.goodput_one_dead:.4f}" if one.shards > 1 else "",
                f"{one.p99_one_dead * 1000:.0f} ms" if one.shards > 1 else "",
            ]
            for one in results.points
        ],
    )  # fmt: skip
    death = results.death
    return "\n\n".join(
        [
            fill(
                f"Measured on {results.machine}; the cheaper of two runs. Microseconds of processor time a message "
                "of 256 bytes, of all programs of a kind together:",
                _WIDTH,
            ),
            costs,
            f"![Processor time a message]({COST_PICTURE})",
            fill(
                f"A batch costs the worker {results.batch_of_worker:.0f} µs and the gateway "
                f"{results.batch_of_gateway:.0f} µs, beside its messages. With {death.shards} shards and one of them "
                f"killed, under the same load, {death.accepted:.3f} of all messages were accepted (before: "
                f"{death.before:.3f}) and {death.refused:.3f} refused as unavailable. On this machine, which is too "
                f"small for its programs and the load, p99 was {death.p99:.0f} ms (before: {death.p99_before:.0f} ms).",
                _WIDTH,
            ),
            fill(
                f"Simulated out of these costs, with {results.users:,} users and {results.commit * 1000:.0f} ms for a "
                "commit:",
                _WIDTH,
            ),
            points,
            f"![Simulated latency]({LATENCY_PICTURE})",
        ]
    )


def pictures(results: Results) -> Mapping[str, str]:
    """The pictures, by file name."""
    costs, points = results.costs, results.points
    return {
        COST_PICTURE: chart(
            "Processor time a message, measured",
            "µs",
            [one.shards for one in costs],
            {
                "all": [one.all for one in costs],
                "PostgreSQL": [one.postgresql for one in costs],
                "worker": [one.worker for one in costs],
                "gateway": [one.gateway for one in costs],
            },
        ),
        LATENCY_PICTURE: chart(
            "Latency at the same load for each shard, simulated",
            "ms",
            [one.shards for one in points],
            {
                "p99": [one.p99 * 1000 for one in points],
                "p99, one dead": [(one.p99_one_dead or one.p99) * 1000 for one in points],
                "p50": [one.p50 * 1000 for one in points],
            },
        ),
    }


def put_into(page: str, made: str) -> str:
    """The page with this between its marks. Raises `ValueError` for one without them."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
