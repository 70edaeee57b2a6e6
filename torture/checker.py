"""The checker: what was attempted, acknowledged and received, as multisets, gives what went wrong.

Owns: the meaning of lost, duplicated, unexpected and out of order.
Promises: pure, and independent of how the letters travelled. It must report losses for a server
that loses, or it proves nothing: tests/torture and the control run see to that.
Exposure: none.

    lost          acknowledged to its sender, and never received
    duplicated    received again: one for each time beyond the first
    unexpected    received though nobody attempted to send it, or by somebody who is not its recipient
    out of order  received, for the first time, after a later letter of the same sender to the same
    recipient

What was attempted and not acknowledged may have been received, once, or not at all: both are right.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from torture.letters import Letter


class Verdict(NamedTuple):
    """What the checker found. The letters are examples; the numbers count."""

    attempted: int = 0
    acknowledged: int = 0
    received: int = 0
    lost: Sequence[Letter] = ()
    duplicated: Sequence[Letter] = ()
    unexpected: Sequence[Letter] = ()
    out_of_order: Sequence[Letter] = ()

    @property
    def spotless(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.duplicated or self.unexpected or self.out_of_order)

    def combined(self, other: Self) -> "Verdict":
        """The verdicts on two sets of letters that have nothing in common, as one."""
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
    attempted: Iterable[Letter], acknowledged: Iterable[Letter], received: Mapping[str, Sequence[Letter]]
) -> Verdict:
    """Compare. `received`: for each recipient what it got, in the order in which it got it."""
    tried, confirmed = Counter(attempted), Counter(acknowledged)
    not_tried = [letter for letter in confirmed if letter not in tried]
    assert not not_tried, f"acknowledged, and nobody attempted it: {not_tried[:3]}"
    got: Counter[Letter] = Counter()
    unexpected: list[Letter] = []
    out_of_order: list[Letter] = []
    for recipient, letters in received.items():
        latest: defaultdict[str, int] = defaultdict(int)
        for letter in letters:
            if letter.recipient != recipient or letter not in tried:
                unexpected.append(letter)
                continue
            got[letter] += 1
            if got[letter] > 1:
                continue
            if letter.number < latest[letter.sender]:
                out_of_order.append(letter)
            latest[letter.sender] = max(latest[letter.sender], letter.number)
    return Verdict(
        attempted=tried.total(),
        acknowledged=confirmed.total(),
        received=sum(len(letters) for letters in received.values()),
        # A letter that was acknowledged twice must be there twice: each acknowledgement is a
        # promise.
        lost=list((confirmed - got).elements()),
        duplicated=list((got - tried).elements()),
        unexpected=unexpected,
        out_of_order=out_of_order,
    )
