"""What the worker makes of a batch's epoch and number."""

import pytest

from common.storage_protocol.batch_order import SlotState, Verdict, judge


@pytest.mark.parametrize(
    ("state", "epoch", "number", "verdict"),
    [
        (None, 1, 1, Verdict.GREET_AGAIN),
        ((2, 5), 3, 1, Verdict.GREET_AGAIN),
        ((2, 5), 1, 6, Verdict.SUPERSEDED),
        ((2, 5), 2, 6, Verdict.APPLY),
        ((2, 0), 2, 1, Verdict.APPLY),
        ((2, 5), 2, 5, Verdict.ANSWER_AGAIN),
        ((2, 5), 2, 4, Verdict.ANSWER_AGAIN),
        ((2, 5), 2, 3, Verdict.IGNORE),
        ((2, 1), 2, 1, Verdict.ANSWER_AGAIN),
        ((2, 5), 2, 0, Verdict.IGNORE),
        ((2, 0), 2, 0, Verdict.IGNORE),
        ((2, 1), 2, 0, Verdict.IGNORE),
        ((2, 5), 2, 7, Verdict.GREET_AGAIN),
    ],
)
def test_verdicts(state: tuple[int, int] | None, epoch: int, number: int, verdict: Verdict) -> None:
    assert judge(None if state is None else SlotState(*state), epoch, number) is verdict
