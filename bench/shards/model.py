"""What measured costs mean for up to 256 shards and millions of users: a simulation.

Owns: the model. Promises: pure but for the generator of random numbers that is passed in; the same
seed gives the same figures.
Exposure: none.

A gateway and a shard (a worker with its PostgreSQL) are servers that work in turns: a turn takes
everything that waits, so it takes a time for itself, a time for each batch in it, and a time for
each message. Each gateway sends a shard at most one batch a turn here. What arrives during a turn
waits for the next one. A gateway has a batch for each shard in each turn, so both sides have more
and smaller batches as there are more of them: that is what is not linear, and the model has it.

Users differ: how much they get follows a log-normal distribution. Their ids are random, and the
first bits of an id are the shard.
"""

import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

MOST_SHARDS: Final = 256
ACTIVITY_SIGMA: Final = 1.5
"""Of the logarithm of how much a user gets: the busiest tenth gets 58 % of all messages."""


_PACE: Final = 50
"""Turns."""


class Costs(NamedTuple):
    """Seconds. `turn`: of a turn that has anything, which others wait for; `batch`; `message`."""

    turn: float
    batch: float
    message: float


class Point(NamedTuple):
    """One size. Rates in messages a second; latencies in seconds; shares of one.

    `accepted`: of `offered`, which is as much for each shard at every size. `capacity`: the most
    that could be offered until the busiest shard has no rest, as a share of what so many shards
    alone could do. `imbalance`: what the busiest shard gets, by the mean.
    """

    shards: int
    gateways: int
    offered: float
    accepted: float
    capacity: float
    imbalance: float
    p50: float
    p99: float
    goodput_one_dead: float
    p99_one_dead: float


def fitted(small: tuple[int, float], large: tuple[int, float]) -> tuple[float, float]:
    """The time of a turn and that of a message, of two turns: messages, and seconds of all."""
    message = (large[1] - small[1]) / (large[0] - small[0])
    return max(small[1] - message * small[0], 0.0), message


def loads(users: int, chance: random.Random) -> list[float]:
    """How much each of `MOST_SHARDS` shards gets: shares of one."""
    found = [0.0] * MOST_SHARDS
    gauss = chance.gauss
    exp = math.exp
    for first in chance.randbytes(users):
        found[first] += exp(gauss(0.0, ACTIVITY_SIGMA))
    whole = sum(found)
    return [one / whole for one in found]


def of_shards(by_first_byte: Sequence[float], shards: int) -> list[float]:
    """The same of fewer shards: each is a run of prefixes."""
    each = MOST_SHARDS // shards
    return [sum(by_first_byte[at : at + each]) for at in range(0, MOST_SHARDS, each)]


def latencies(costs: Costs, rate: float, peers: int, turns: int, chance: random.Random) -> list[float]:
    """Of messages that arrive at random, in a server with so many peers: one for each turn, after
    it has found its pace.
    """
    found = []
    last = costs.turn + costs.batch
    for _ in range(turns + _PACE):
        mean = rate * last
        messages = max(round(chance.gauss(mean, math.sqrt(mean))), 1)
        # Of so many peers, those that have a message for it at all.
        batches = peers * (1.0 - (1.0 - 1.0 / peers) ** messages)
        turn = costs.turn + costs.batch * batches + costs.message * messages
        # It arrived somewhere in the turn before.
        found.append(chance.random() * last + turn)
        last = turn
    return found[_PACE:]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _together(one: Sequence[float], other: Sequence[float], chance: random.Random) -> list[float]:
    """Latencies of what passes through both."""
    shuffled = list(other)
    chance.shuffle(shuffled)
    return [a + b for a, b in zip(one, shuffled, strict=False)]


class Model(NamedTuple):
    """`gateway`, `shard`: what they cost. `use`, `use_of_gateways`: the share of its time in which
    a shard, or a gateway, works on messages.
    """

    gateway: Costs
    shard: Costs
    use: float = 0.6
    use_of_gateways: float = 0.3

    def rate(self, shards: int) -> float:
        """What is offered to so many shards: messages a second."""
        return self.use / self.shard.message * shards

    def gateways_for(self, shards: int) -> int:
        """As many as that takes."""
        return math.ceil(self.rate(shards) * self.gateway.message / self.use_of_gateways)

    def at(self, shards: int, by_first_byte: Sequence[float], turns: int, chance: random.Random) -> Point:
        """The model with so many shards."""
        shares = of_shards(by_first_byte, shards)
        gateways = self.gateways_for(shards)
        offered = self.rate(shards)
        p50, p99 = self._latency(shares, gateways, offered, turns, chance)
        # The last shard is away: what was for it is refused by the gateways.
        living = shares[:-1]
        _, p99_dead = self._latency(living, gateways, offered * sum(living), turns, chance) if living else (0.0, 0.0)
        imbalance = max(shares) * shards
        return Point(
            shards,
            gateways,
            offered,
            self._accepted(shares, offered),
            1.0 / imbalance,
            imbalance,
            p50,
            p99,
            self._accepted(living, offered) / offered,
            p99_dead,
        )

    def _accepted(self, shares: Sequence[float], offered: float) -> float:
        """What shards accept of what is offered to all of them together: none more than it has time
        for.
        """
        return sum(min(offered * share, 1.0 / self.shard.message) for share in shares)

    def _latency(
        self, shares: Sequence[float], gateways: int, rate: float, turns: int, chance: random.Random
    ) -> tuple[float, float]:
        """Of all messages, p50 and p99: `rate` is that of all shards together."""
        whole = sum(shares)
        at_gateways = latencies(self.gateway, rate / gateways, len(shares), turns, chance)
        found: list[float] = []
        for share in shares:
            at_shard = latencies(self.shard, rate * share / whole, gateways, turns, chance)
            found += _together(at_shard, at_gateways, chance)
        return percentile(found, 0.5), percentile(found, 0.99)
