"""The checker: finds what went wrong, from multisets of attempted, acknowledged and received
messages.

Owns: the meaning of lost, not fetched, duplicated, unexpected and out of order.
Promises: pure, and independent of how the messages travelled. It must report losses for a server
that loses, or it proves nothing: tests/torture and the control run make sure of that.
Exposure: none.

    lost          acknowledged to its sender, and never received
    not fetched   the same, of a drill that was broken off before the recipients had emptied their
                  mailboxes, and nothing later of that sender came to that recipient: it may wait
                  there, so it is neither lost nor safe. Where something later came it is lost
    duplicated    received again: one for each time beyond the first
    unexpected    received though nobody attempted to send it, or by somebody who is not its recipient
    out of order  received, for the first time, after a later message of the same sender to the same
    recipient, and never refused: what was refused is accepted in the place of its repetition

What was attempted and not acknowledged may have been received, once, or not at all: both are right.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    not_fetched: Sequence[DrillMessage] = ()

    @property
    def spotless(self) -> bool:
        """Whether nothing is known to have gone wrong."""
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
            [*self.not_fetched, *other.not_fetched],
        )


def judge(
    attempted: Iterable[DrillMessage],
    acknowledged: Iterable[DrillMessage],
    received: Mapping[str, Sequence[DrillMessage]],
    *,
    refused: Collection[DrillMessage] = frozenset(),
    drained: bool = True,
) -> Verdict:
    """Compare. `received`: for each recipient what it got, in the order in which it got it.
    `refused`: what was, at least once. `drained`: whether each recipient had all the time that it
    wanted.
    """
    tried, confirmed = Counter(attempted), Counter(acknowledged)
    not_tried = [message for message in confirmed if message not in tried]
    assert not not_tried, f"acknowledged, and nobody attempted it: {not_tried[:3]}"
    got: Counter[DrillMessage] = Counter()
    unexpected: list[DrillMessage] = []
    out_of_order: list[DrillMessage] = []
    latest: defaultdict[tuple[str, str], int] = defaultdict(int)
    for recipient, messages in received.items():
        for message in messages:
            if message.recipient != recipient or message not in tried:
                unexpected.append(message)
                continue
            got[message] += 1
            if got[message] > 1:
                continue
            pair = message.sender, recipient
            if message.number < latest[pair] and message not in refused:
                out_of_order.append(message)
            latest[pair] = max(latest[pair], message.number)
    # A message that was acknowledged twice must be there twice: each acknowledgement is a promise.
    missing = list((confirmed - got).elements())
    waits = [not drained and one.number > latest[one.sender, one.recipient] for one in missing]
    return Verdict(
        attempted=tried.total(),
        acknowledged=confirmed.total(),
        received=sum(len(messages) for messages in received.values()),
        lost=[message for message, may_wait in zip(missing, waits, strict=True) if not may_wait],
        duplicated=list((got - tried).elements()),
        unexpected=unexpected,
        out_of_order=out_of_order,
        not_fetched=[message for message, may_wait in zip(missing, waits, strict=True) if may_wait],
    )
