"""Requests refused as too fast: which are waited for, how long, and what is reported."""

import pytest

from client.connection.patience import LONGEST_PATIENCE, Patience
from common.client_protocol.responses import ErrorResponse
from common.values import RefusalReason


def test_what_is_too_fast_is_waited_for_a_minute_in_all_and_said_once() -> None:
    rests: list[float] = []
    told: list[str] = []
    patience = Patience(rests.append, told.append)
    for seconds in (1, 40, LONGEST_PATIENCE - 41):
        answer = ErrorResponse(RefusalReason.TOO_FAST, seconds)
        assert patience.suffices(answer)
        patience.wait(answer)
    assert rests == [1, 40, 19]
    assert told == ["The server was asked too much in a short time; this goes on by itself in 1 s."]
    assert not patience.suffices(ErrorResponse(RefusalReason.TOO_FAST, 1))


@pytest.mark.parametrize(
    "answer",
    [
        ErrorResponse(),
        ErrorResponse(RefusalReason.TOO_FAST, 0),
        ErrorResponse(RefusalReason.TOO_FAST, LONGEST_PATIENCE + 1),
        ErrorResponse(RefusalReason.TOO_FAST, 0xFFFFFFFF),
        ErrorResponse(RefusalReason.STORAGE_FULL, 1),
    ],
)
def test_nothing_else_is_waited_for(answer: ErrorResponse) -> None:
    assert not Patience(lambda _seconds: None, lambda _line: None).suffices(answer)
