"""The checker: finds what went wrong, from multisets of attempted, acknowledged and received
messages.

Owns: the meaning of lost, duplicated, unexpected and out of order.
Promises: pure, and independent of how the messages travelled. It must report losses for a server
that loses, or it proves nothing: tests/torture and the control run make sure of that.
Exposure: none.

    lost          acknowledged to its sender, and never received
    duplicated    received again: one for each time beyond the first
    unexpected    received though nobody attempted to send it, or by somebody who is not its recipient
    out of order  received, for the first time, after a later message of the same sender to the same
    recipient

What was attempted and not acknowledged may have been received, once, or not at all: both are right.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from torture.drill_messages import DrillMessage


class Verdict(NamedTuple):
    """What the checker found. The messages are examples; the numbers are complete."""

    attempted: int = 0
    acknowledged: int = 0
    received: int = 0
    lost: Sequence[DrillMessage] = ()
    duplicated: Sequence[DrillMessage] = ()
    unexpected: Sequence[DrillMessage] = ()
    out_of_order: Sequence[DrillMessage] = ()

    @property
    def spotless(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.duplicated or self.unexpected or self.out_of_order)

    def combined(self, other: Self) -> "Verdict":
        """Merge the verdicts on two disjoint sets of messages."""
        return Verdict(
            self.attempted + other.attempted,
            self.acknowledged + other.acknowledged,
            self.received + other.received,
            [*self.lost, *other.lost],
            [*self.duplicated, *other.duplicated],
            [*self.unexpected, *other.unexpected],
            [*self.out_of_order, *other.out_of_order],
        )


def judge(
    attempted: Iterable[DrillMessage],
    acknowledged: Iterable[DrillMessage],
    received: Mapping[str, Sequence[DrillMessage]],
) -> Verdict:
    """Compare. `received`: for each recipient what it got, in the order in which it got it."""
    tried, confirmed = Counter(attempted), Counter(acknowledged)
    not_tried = [message for message in confirmed if message not in tried]
    assert not not_tried, f"acknowledged, and nobody attempted it: {not_tried[:3]}"
    got: Counter[DrillMessage] = Counter()
    unexpected: list[DrillMessage] = []
    out_of_order: list[DrillMessage] = []
    for recipient, messages in received.items():
        latest: defaultdict[str, int] = defaultdict(int)
        for message in messages:
            if message.recipient != recipient or message not in tried:
                unexpected.append(message)
                continue
            got[message] += 1
            if got[message] > 1:
                continue
            if message.number < latest[message.sender]:
                out_of_order.append(message)
            latest[message.sender] = max(latest[message.sender], message.number)
    return Verdict(
        attempted=tried.total(),
        acknowledged=confirmed.total(),
        received=sum(len(messages) for messages in received.values()),
        # A message that was acknowledged twice must be there twice: each acknowledgement is a
        # promise.
        lost=list((confirmed - got).elements()),
        duplicated=list((got - tried).elements()),
        unexpected=unexpected,
        out_of_order=out_of_order,
    )
